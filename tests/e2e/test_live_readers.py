"""Live readers over real sockets: they come, follow, wait, leave, and are ended."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.server_process import FRONTS, ServerProcess, serving, wait_until
from tests.e2e.wire import (
    LIVE_READERS,
    SSE,
    Client,
    EventSource,
    Reply,
    events_of,
    events_path,
    follow,
    gauge,
)

NASTY: Final = (
    "carriage\rreturn, line\nfeed, both\r\n\r\nand a blank line",
    "data: not a field\n\nevent: control\ndata: {}\n\n",
    "line\u2028separator, paragraph\u2029separator, next\u0085line",
    "nul\u0000, tab\t, vertical\u000b, form\u000c, file\u001c, unit\u001f, delete\u007f",
    'quotes " and \\ and \\u2028, 日本語, \U0001f30a, \ufeff, \ufffe',
)


@pytest.fixture(params=FRONTS, scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """Shared by the tests that need no options; each has sessions of its own."""
    data_dir = tmp_path_factory.mktemp("live") / "data"
    options = ("--long-poll-timeout", "3600")
    with serving(data_dir, *options, front=request.param) as running:
        yield running


@pytest.fixture
def session(request: pytest.FixtureRequest) -> str:
    name: str = request.node.name
    return name[:100]


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server) as connected:
        yield connected


# ---- frames ----------------------------------------------------------------------------


def test_head_of_an_event_stream(server: ServerProcess, client: Client, session: str) -> None:
    client.post(events_path(session), {"type": "a"})
    with EventSource(server, f"{events_path(session)}?{SSE}") as source:
        assert source.headers["content-type"] == "text/event-stream"
        assert source.headers["cache-control"] == "no-cache, no-transform"
        assert source.headers["x-accel-buffering"] == "no"
        assert source.headers["access-control-allow-origin"] == "*"
        assert "content-length" not in source.headers
        assert "content-encoding" not in source.headers
        assert source.control()["streamNextOffset"] == "00000001"


def raw_frames(server: ServerProcess, path: str, enough: Callable[[str], bool]) -> str:
    """The text of a stream until it is ``enough``."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = ""
        while not enough(text):
            data = answer.read1(65_536)
            assert data, text
            text += data.decode("utf-8")
        return text
    finally:
        connection.close()


@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "raw"])
def test_no_text_breaks_a_frame(
    server: ServerProcess, client: Client, session: str, escaped: bool
) -> None:
    sent = [{"type": f"nasty\u2028{n}", "text": text} for n, text in enumerate(NASTY)]
    body = json.dumps(sent, ensure_ascii=escaped, indent=2).replace("\n", "\r\n").encode("utf-8")
    posted = client.request(
        "POST", events_path(session), body, {"Content-Type": "application/json"}
    )
    assert posted.status == 204, posted

    path = f"{events_path(session)}?offset=-1&live=sse"
    text = raw_frames(server, path, lambda text: '"upToDate":true' in text)
    # Whatever a reader takes for the end of a line: each event is one line of its own.
    lines = [line for line in text.splitlines() if line.startswith("data: {")]
    found = [json.loads(line.removeprefix("data: ").removesuffix(",")) for line in lines]
    assert [event.get("text") for event in found[: len(NASTY)]] == list(NASTY)

    with EventSource(server, path) as source:
        assert [event["text"] for event in follow(source, len(NASTY))] == list(NASTY)
    with EventSource(server, f"{events_path(session)}/stream?offset=-1") as source:
        messages = [source.next() for _ in NASTY]
    assert [message.json()["text"] for message in messages] == list(NASTY)
    assert [message.json()["type"] for message in messages] == [one["type"] for one in sent]
    assert [message.event for message in messages] == [f"nasty {n}" for n in range(len(NASTY))]
    assert [message.id for message in messages] == [f"{n:08d}" for n in range(len(NASTY))]


def test_a_reader_that_comes_back_misses_and_repeats_nothing(
    server: ServerProcess, client: Client, session: str
) -> None:
    numbers = iter(range(10_000))

    def append(count: int) -> None:
        client.post(events_path(session), [{"type": "n", "n": next(numbers)} for _ in range(count)])

    append(3)
    found: list[int] = []
    last = "-1"
    for path in ("", "/stream") * 5:
        query = "?live=sse" if not path else ""
        headers = {"Last-Event-ID": last}
        with EventSource(server, f"{events_path(session)}{path}{query}", headers) as source:
            append(2)
            while (message := source.next()).event == "control":
                last = message.id
            events = events_of(message) if not path else [message.json()]
            found += [event["n"] for event in events]
            if not path:
                message = source.next()
                assert message.event == "control"
            last = message.id
    assert found == list(range(len(found)))
    assert len(found) >= 10


def test_types_are_filtered_live(server: ServerProcess, client: Client, session: str) -> None:
    client.post(events_path(session), {"type": "a"})
    with EventSource(server, f"{events_path(session)}?{SSE}&type=wanted") as source:
        assert source.control()["upToDate"] is True
        client.post(events_path(session), [{"type": "noise", "n": 1}, {"type": "noise", "n": 2}])
        assert source.control()["streamNextOffset"] == "00000003"
        client.post(events_path(session), [{"type": "noise"}, {"type": "wanted"}])
        (event,) = events_of(source.next())
        assert (event["type"], event["offset"]) == ("wanted", "00000004")
        assert source.control()["streamNextOffset"] == "00000005"


def test_many_readers_get_the_same(server: ServerProcess, client: Client, session: str) -> None:
    client.post(events_path(session), {"type": "a"})
    readers = [EventSource(server, f"{events_path(session)}?{SSE}") for _ in range(40)]
    try:
        for reader in readers:
            reader.control()
        for turn in range(5):
            client.post(events_path(session), [{"type": "turn", "n": turn}] * (1 + turn))
        found = [follow(reader, 15) for reader in readers]
        assert all(one == found[0] for one in found)
        assert [event["n"] for event in found[0]] == [0, 1, 1, 2, 2, 2, *[3] * 4, *[4] * 5]
        assert gauge(client, LIVE_READERS) == 40
    finally:
        for reader in readers:
            reader.close()
    wait_until(lambda: gauge(client, LIVE_READERS) == 0, "all readers to be freed")


# ---- leaving ---------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [EventSource.close, EventSource.reset])
@pytest.mark.parametrize("path", [f"?{SSE}", "/stream"])
def test_a_reader_that_leaves_is_freed(
    server: ServerProcess,
    client: Client,
    session: str,
    path: str,
    leave: Callable[[EventSource], None],
) -> None:
    client.post(events_path(session), {"type": "a"})
    wait_until(lambda: gauge(client, LIVE_READERS) == 0, "readers of other tests to be freed")
    sources = [EventSource(server, f"{events_path(session)}{path}") for _ in range(5)]
    wait_until(lambda: gauge(client, LIVE_READERS) == 5, "the readers to be counted")
    leave(sources.pop())
    wait_until(lambda: gauge(client, LIVE_READERS) == 4, "the one that left to be freed")
    client.post(events_path(session), {"type": "b"})  # nobody is hurt by those who left
    for source in sources:
        leave(source)
    wait_until(lambda: gauge(client, LIVE_READERS) == 0, "all to be freed")


def test_a_long_poll_that_leaves_is_freed(
    server: ServerProcess, client: Client, session: str
) -> None:
    client.post(events_path(session), {"type": "a"})
    wait_until(lambda: gauge(client, LIVE_READERS) == 0, "readers of other tests to be freed")
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.request("GET", f"{events_path(session)}?offset=now&live=long-poll")
    wait_until(lambda: gauge(client, LIVE_READERS) == 1, "the wait to begin")
    connection.close()
    # Long before its own time has run out.
    wait_until(lambda: gauge(client, LIVE_READERS) == 0, "the wait to end")


# ---- long-poll -------------------------------------------------------------------------


def test_long_poll_waits_for_the_next_event(
    server: ServerProcess, client: Client, session: str
) -> None:
    client.post(events_path(session), {"type": "a"})
    path = f"{events_path(session)}?offset=00000001&live=long-poll"
    with ThreadPoolExecutor(1) as pool, Client(server) as other:
        polled = pool.submit(other.get, path)
        wait_until(lambda: gauge(client, LIVE_READERS) == 1, "the wait to begin")
        client.post(events_path(session), {"type": "b"})
        reply = polled.result(30)
    assert reply.status == 200
    assert [event["type"] for event in reply.json()["data"]] == ["b"]
    assert reply.next_offset == 2
    assert reply.headers["stream-cursor"]


@pytest.mark.parametrize("front", FRONTS)
def test_long_poll_gives_up_in_the_end(front: str, tmp_path: Path) -> None:
    options = ("--long-poll-timeout", "0.3")
    with serving(tmp_path / "data", *options, front=front) as server, Client(server) as client:
        client.post(events_path("s"), {"type": "a"})
        path = f"{events_path('s')}?offset=00000001&live=long-poll"
        first = client.get(path)
        assert (first.status, first.body) == (204, b"")
        assert first.next_offset == 1
        assert first.headers["stream-up-to-date"] == "true"
        cursor = int(first.headers["stream-cursor"])
        second = client.get(f"{path}&cursor={cursor}")
        assert int(second.headers["stream-cursor"]) > cursor
        # What it waits for and does not get is passed over, not waited for for ever.
        client.post(events_path("s"), [{"type": "noise"}] * 3)
        filtered = client.get(f"{path}&type=wanted")
        assert (filtered.status, filtered.next_offset) == (204, 4)


def test_a_session_that_is_not_there_is_404_at_once(client: Client) -> None:
    for query in ("?live=sse", "?live=long-poll&offset=now", "/stream"):
        reply = client.get(f"{events_path('nobody')}{query}")
        assert reply.status == 404
        assert reply.json()["error"]["type"] == "not_found_error"


# ---- closing and deleting --------------------------------------------------------------


def close_after_appending(client: Client, path: str, wait_s: float) -> None:
    client.post(path, [{"type": "last", "n": 1}, {"type": "last", "n": 2}])
    time.sleep(wait_s)
    client.request("POST", path, None, {"Stream-Closed": "true"})


def close_with_the_append(client: Client, path: str, wait_s: float) -> None:
    time.sleep(wait_s)
    last = [{"type": "last", "n": 1}, {"type": "last", "n": 2}]
    client.post(path, last, {"Stream-Closed": "true"})


TIMINGS_S: Final = tuple(step * 0.0004 for step in range(12))


@pytest.mark.parametrize("finish", [close_after_appending, close_with_the_append])
def test_the_last_append_comes_before_the_closing_event(
    server: ServerProcess,
    session: str,
    finish: Callable[[Client, str, float], None],
) -> None:
    """At every timing of the reader's start, the append, and the closing."""
    with Client(server) as writer, ThreadPoolExecutor(1) as pool:
        for index, wait_s in enumerate(TIMINGS_S):
            for settled in (True, False):
                path = events_path(f"{session}-{index}-{settled}")
                writer.post(path, {"type": "first"})
                finished = None
                if not settled:  # the reader comes while the end is being written
                    finished = pool.submit(finish, writer, path, wait_s)
                with EventSource(server, f"{path}?offset=00000001&live=sse") as source:
                    if finished is None:
                        source.control()
                        finished = pool.submit(finish, writer, path, wait_s)
                    messages = list(source)
                    finished.result(30)
                data = [e for m in messages if m.event == "data" for e in events_of(m)]
                assert [event["n"] for event in data] == [1, 2]
                closing = messages[-1]
                assert closing.event == "control"
                fields = closing.json()
                assert fields["streamClosed"] is True
                assert fields["streamNextOffset"] == "00000003"
                others = [m.json() for m in messages[:-1] if m.event == "control"]
                assert not [one for one in others if "streamClosed" in one]
                assert source.ended


def test_long_polls_get_the_last_append_and_then_the_end(
    server: ServerProcess, session: str
) -> None:
    def poll_to_the_end(path: str) -> list[Reply]:
        with Client(server) as reader:
            replies = [reader.get(f"{path}?offset=00000001&live=long-poll")]
            while "stream-closed" not in replies[-1].headers:
                at = replies[-1].next_offset
                replies.append(reader.get(f"{path}?offset={at:08d}&live=long-poll"))
            return replies

    with Client(server) as writer, ThreadPoolExecutor(1) as pool:
        for index, wait_s in enumerate(TIMINGS_S):
            finish = close_after_appending if index % 2 else close_with_the_append
            path = events_path(f"{session}-{index}")
            writer.post(path, {"type": "first"})
            polled = pool.submit(poll_to_the_end, path)
            time.sleep(wait_s)
            finish(writer, path, wait_s)
            replies = polled.result(30)
            found = [e["n"] for r in replies if r.status == 200 for e in r.json()["data"]]
            assert found == [1, 2]
            assert replies[-1].next_offset == 3


def test_a_deleted_session_ends_its_readers(
    server: ServerProcess, client: Client, session: str
) -> None:
    client.post(events_path(session), {"type": "old"})
    with EventSource(server, f"{events_path(session)}?{SSE}") as source:
        source.control()
        assert client.request("DELETE", f"/v1/sessions/{session}").status == 204
        # Made again at once: its events are not for a reader of the deleted one.
        client.post(events_path(session), [{"type": "new"}] * 3)
        assert [m for m in source if m.event == "data"] == []
        assert source.ended
