"""The public ``anthropic`` client against the real server; only address and key are changed."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import anthropic
import pytest
from anthropic.types.beta.sessions import (
    BetaManagedAgentsAgentMessageEvent,
    BetaManagedAgentsAgentToolUseEvent,
    BetaManagedAgentsEventParams,
    BetaManagedAgentsSessionEvent,
    BetaManagedAgentsTextBlock,
    BetaManagedAgentsUserInterruptEvent,
    BetaManagedAgentsUserMessageEvent,
)

from tests.e2e.server_process import FRONTS, ServerProcess, serving
from tests.e2e.wire import Client, events_path

KEY: Final = "sk-of-this-server"
COUNT: Final = 45


@pytest.fixture(params=FRONTS, scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    data_dir = tmp_path_factory.mktemp("anthropic") / "data"
    with serving(data_dir, "--api-key", KEY, front=request.param) as running:
        yield running


@pytest.fixture
def client(server: ServerProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.base_url, api_key=KEY) as made:
        yield made


@pytest.fixture
def session(request: pytest.FixtureRequest) -> str:
    name: str = request.node.name
    return name[:100]


def message(text: str) -> BetaManagedAgentsEventParams:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def text_of(event: object) -> str:
    assert isinstance(event, BetaManagedAgentsUserMessageEvent)
    (block,) = event.content
    assert isinstance(block, BetaManagedAgentsTextBlock)
    return block.text


def texts(events: Sequence[object]) -> list[str]:
    return [text_of(event) for event in events]


def fill(client: anthropic.Anthropic, session: str) -> list[str]:
    """Forty-five messages in several requests; their texts."""
    numbers = [f"message {number}" for number in range(COUNT)]
    for at in range(0, COUNT, 10):
        client.beta.sessions.events.send(
            session, events=[message(text) for text in numbers[at : at + 10]]
        )
    return numbers


def append_as_agent(server: ServerProcess, session: str) -> None:
    """What an agent's harness writes; the client only sends what users say."""
    with Client(server) as plain:
        reply = plain.post(
            events_path(session),
            [
                {"type": "agent.message", "content": [{"type": "text", "text": "I will"}]},
                {"type": "agent.tool_use", "name": "bash", "input": {"command": "ls -l"}},
            ],
            {"Authorization": f"Bearer {KEY}"},
        )
    assert reply.status == 204, reply


def test_send_returns_what_was_stored(client: anthropic.Anthropic, session: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    sent = client.beta.sessions.events.send(
        session, events=[message("hello"), {"type": "user.interrupt"}]
    )
    assert sent.data is not None
    first, second = sent.data
    assert isinstance(first, BetaManagedAgentsUserMessageEvent)
    assert isinstance(second, BetaManagedAgentsUserInterruptEvent)
    assert text_of(first) == "hello"
    assert first.id.startswith("evt_")
    assert first.id < second.id
    for event in (first, second):
        assert event.processed_at is not None
        assert before < event.processed_at < datetime.now(UTC) + timedelta(seconds=1)
    assert list(client.beta.sessions.events.list(session)) == [first, second]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_list_pages_through_everything(
    client: anthropic.Anthropic, session: str, order: str
) -> None:
    numbers = fill(client, session)
    wanted = numbers if order == "asc" else numbers[::-1]
    listing = client.beta.sessions.events.list(
        session, limit=7, order="asc" if order == "asc" else "desc"
    )
    pages = list(listing.iter_pages())
    assert [len(page.data) for page in pages] == [7, 7, 7, 7, 7, 7, 3]
    assert [page.has_next_page() for page in pages] == [True] * 6 + [False]
    assert texts([event for page in pages for event in page.data]) == wanted
    # Iterating goes from page to page by itself.
    again = client.beta.sessions.events.list(
        session, limit=10, order="asc" if order == "asc" else "desc"
    )
    assert texts(list(again)) == wanted
    assert len({event.id for event in again}) == COUNT


def test_pages_stay_in_place_while_others_append(client: anthropic.Anthropic, session: str) -> None:
    numbers = fill(client, session)
    page = client.beta.sessions.events.list(session, limit=20, order="desc")
    found = texts(page.data)
    while page.has_next_page():
        client.beta.sessions.events.send(session, events=[message("later")])
        page = page.get_next_page()
        found += texts(page.data)
    assert found == numbers[::-1]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_list_filters_by_type(
    server: ServerProcess, client: anthropic.Anthropic, session: str, order: str
) -> None:
    fill(client, session)
    append_as_agent(server, session)
    fill(client, session)
    append_as_agent(server, session)
    kinds: list[type[object]] = [
        BetaManagedAgentsAgentMessageEvent,
        BetaManagedAgentsAgentToolUseEvent,
    ] * 2
    found = list(
        client.beta.sessions.events.list(
            session,
            types=["agent.message", "agent.tool_use"],
            limit=1,
            order="asc" if order == "asc" else "desc",
        )
    )
    assert [type(event) for event in found] == (kinds if order == "asc" else kinds[::-1])
    only = list(client.beta.sessions.events.list(session, types=["agent.tool_use"], limit=100))
    assert len(only) == 2
    for event in only:
        assert isinstance(event, BetaManagedAgentsAgentToolUseEvent)
        assert (event.name, event.input) == ("bash", {"command": "ls -l"})
    assert list(client.beta.sessions.events.list(session, types=["user.interrupt"])) == []


def test_list_filters_by_time(client: anthropic.Anthropic, session: str) -> None:
    for text in "abcde":
        client.beta.sessions.events.send(session, events=[message(text)])
        time.sleep(0.005)  # each in a millisecond of its own
    stored = list(client.beta.sessions.events.list(session))
    times = [processed_at(event) for event in stored]
    assert times == sorted(set(times))
    events = client.beta.sessions.events
    assert texts(list(events.list(session, created_at_gt=times[1]))) == list("cde")
    assert texts(list(events.list(session, created_at_gte=times[1]))) == list("bcde")
    assert texts(list(events.list(session, created_at_lt=times[3], limit=2))) == list("abc")
    assert texts(list(events.list(session, created_at_lte=times[3], limit=2))) == list("abcd")
    between = events.list(
        session, created_at_gt=times[0], created_at_lt=times[4], order="desc", limit=2
    )
    assert texts(list(between)) == list("dcb")
    as_text = events.list(session, created_at_gte=times[4].isoformat())
    assert texts(list(as_text)) == ["e"]
    both = events.list(session, created_at_gte=times[2], types=["user.message"], limit=1)
    assert texts(list(both)) == list("cde")


def processed_at(event: BetaManagedAgentsSessionEvent) -> datetime:
    assert isinstance(event, BetaManagedAgentsUserMessageEvent)
    assert event.processed_at is not None
    return event.processed_at


def test_stream_yields_new_events(
    server: ServerProcess, client: anthropic.Anthropic, session: str
) -> None:
    client.beta.sessions.events.send(session, events=[message("before")])
    with client.beta.sessions.events.stream(session) as stream:
        client.beta.sessions.events.send(session, events=[message("one"), message("two")])
        append_as_agent(server, session)
        client.beta.sessions.events.send(session, events=[message("line\nfeed\r\u2028\u0085")])
        events = [next(stream) for _ in range(5)]
    assert texts(events[:2]) == ["one", "two"]
    assert isinstance(events[2], BetaManagedAgentsAgentMessageEvent)
    assert isinstance(events[3], BetaManagedAgentsAgentToolUseEvent)
    assert texts(events[4:]) == ["line\nfeed\r\u2028\u0085"]
    # What was streamed is what is listed.
    assert list(client.beta.sessions.events.list(session))[1:] == events


def test_stream_ends_when_the_session_is_closed(
    server: ServerProcess, client: anthropic.Anthropic, session: str
) -> None:
    client.beta.sessions.events.send(session, events=[message("before")])
    with client.beta.sessions.events.stream(session) as stream, ThreadPoolExecutor(1) as pool:
        received = pool.submit(lambda: texts(list(stream)))
        with Client(server) as plain:
            headers = {"Authorization": f"Bearer {KEY}", "Stream-Closed": "true"}
            plain.post(events_path(session), message("last"), headers)
        assert received.result(30) == ["last"]


def test_the_asynchronous_client(server: ServerProcess, session: str) -> None:
    async def converse() -> None:
        async with anthropic.AsyncAnthropic(base_url=server.base_url, api_key=KEY) as client:
            events = client.beta.sessions.events
            first = await events.send(session, events=[message("first")])
            assert first.data is not None
            assert text_of(first.data[0]) == "first"
            numbers = [f"number {number}" for number in range(20)]
            async with await events.stream(session) as stream:
                sending = [events.send(session, events=[message(text)]) for text in numbers]
                await asyncio.gather(*sending)
                received = [await anext(stream) for _ in numbers]
            assert sorted(texts(received)) == sorted(numbers)
            listed = [event async for event in events.list(session, limit=4)]
            assert texts(listed) == ["first", *texts(received)]
            newest = [event async for event in events.list(session, limit=4, order="desc")]
            assert newest == listed[::-1]

    asyncio.run(converse())


def test_errors_have_the_types_that_the_client_knows(
    server: ServerProcess, client: anthropic.Anthropic, session: str
) -> None:
    with pytest.raises(anthropic.NotFoundError, match="there is no session"):
        client.beta.sessions.events.list(session)
    with pytest.raises(anthropic.NotFoundError):
        client.beta.sessions.events.stream(session)
    with pytest.raises(anthropic.BadRequestError, match=r"events\[1\]"):
        nothing: Any = {}
        client.beta.sessions.events.send(session, events=[message("a"), nothing])
    with pytest.raises(anthropic.BadRequestError, match="page"):
        client.beta.sessions.events.send(session, events=[message("a")])
        client.beta.sessions.events.list(session, page="made up")
    with anthropic.Anthropic(base_url=server.base_url, api_key="another") as stranger:
        with pytest.raises(anthropic.AuthenticationError):
            stranger.beta.sessions.events.list(session)


def test_session_ids_of_any_kind(client: anthropic.Anthropic) -> None:
    for name in ("a/b", "100%", "ü ß?#&=+", "日本語", "..x", "a" * 122):
        client.beta.sessions.events.send(name, events=[message(name)])
        assert texts(list(client.beta.sessions.events.list(name))) == [name]


def test_the_environment_alone_will_do(
    server: ServerProcess, session: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("HOME", os.fspath(tmp_path))  # no configuration of the person's own
    with anthropic.Anthropic() as client:
        client.beta.sessions.events.send(session, events=[message("hello")])
        assert texts(list(client.beta.sessions.events.list(session))) == ["hello"]
