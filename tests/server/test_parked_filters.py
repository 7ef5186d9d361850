"""Long-polls for events of some types, which wait in the reactor (protocol section 5.7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio.testing

import tailrace
from tailrace_server.config import ServiceConfig
from tests.server.front_support import Answer
from tests.server.parked_support import NOW, all_taken, serving, taken
from tests.server.streams.stream_support import CLOSE

EVENTS = "/v1/sessions/s/events"


def types_of(answer: Answer) -> list[str]:
    found = answer.json()
    assert isinstance(found, dict)
    return [event["type"] for event in found["data"]]


@pytest.mark.parametrize("query", ["", "&limit=1", "&beta=true"])
async def test_a_filter_goes_on_behind_what_it_does_not_want(tmp_path: Path, query: str) -> None:
    async with serving(tmp_path) as server:
        await server.client("POST", EVENTS, {"type": "a"})
        start = f"offset=00000000{query}"
        waiting = await server.polls(2, EVENTS, f"{start}&type=b,c")
        others = [await server.poll(EVENTS, f"{start}&type=none") for _ in range(2)]
        await server.parked(4)
        for _ in range(5):
            await server.client("POST", EVENTS, [{"type": "a"}, {"type": "x"}])
        # Whoever comes later stands where they do by now.
        waiting += [await server.poll(EVENTS, f"{NOW}&type=c,b{query}")]
        await server.parked(5)
        await server.client("POST", EVENTS, [{"type": t} for t in ("a", "b", "a", "c", "a")])
        answers = await all_taken(waiting)
        assert len({answer.body for answer in answers}) == 1
        alone = await server.client("GET", f"{EVENTS}?{start}&type=b,c&live=long-poll")
        for answer in answers:
            assert types_of(answer) == (["b"] if "limit" in query else ["b", "c"])
            assert (answer.status, answer.body) == (200, alone.body)
            assert answer.header("stream-next-offset") == alone.headers["stream-next-offset"]
            assert int(answer.header("stream-cursor") or 0) > 0
        await server.parked(2)
        await server.client("POST", EVENTS, b"", CLOSE)
        for answer in await all_taken(others):
            assert (answer.status, answer.header("stream-closed")) == (204, "true")
            assert answer.header("stream-next-offset") == "00000016"
        assert server.figure("handed_over") == 0


async def test_filters_at_one_place_look_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as server:
        await server.client("POST", EVENTS, {"type": "a"})
        waiting = []
        for number in range(12):  # each begins at another place
            waiting.append(await server.poll(EVENTS, f"{NOW}&type=b"))
            await server.parked(number + 1)
            await server.client("POST", EVENTS, {"type": "a"})
        # What an append wakes is awake when it is answered, but need not have looked yet.
        await trio.testing.wait_all_tasks_blocked()
        store = server.service.context.store
        read, reads = store.read, 0

        def counted(*arguments: Any, **options: Any) -> tailrace.ReadResult:
            nonlocal reads
            reads += 1
            return read(*arguments, **options)

        monkeypatch.setattr(store, "read", counted)
        await server.client("POST", EVENTS, {"type": "b"})
        assert len({answer.body for answer in await all_taken(waiting)}) == 1
        assert reads == 1
        assert server.figure("parked_answered") == 12
        assert server.figure("parked_calls") == 1


@pytest.mark.parametrize("tail", ["at the tail", "behind much"])
async def test_a_filter_that_finds_nothing_ends_with_its_time(tmp_path: Path, tail: str) -> None:
    small = tailrace.Options(segment_bytes=tailrace.limits.SEGMENT_BYTES_MIN)
    config = ServiceConfig(long_poll_timeout_s=0.3, read_bytes_max=1000)
    async with serving(tmp_path, config, options=small) as server:
        event = {"type": "a", "text": "x" * 500}
        for _ in range(30):
            await server.client("POST", EVENTS, [event] * 10)
        assert not server.service.context.store.is_resident(("sessions", "s"), 0)
        start = NOW if tail == "at the tail" else "offset=-1"
        for answer in await all_taken([await server.poll(EVENTS, f"{start}&type=b") for _ in "12"]):
            assert (answer.status, answer.body) == (204, b"")
            assert answer.header("stream-next-offset") == "00000300"
        await server.client("POST", EVENTS, {"type": "b"})
        (answer,) = await all_taken([await server.poll(EVENTS, "offset=-1&type=b")])
        assert types_of(answer) == ["b"]
        assert server.figure("handed_over") == 0


async def test_a_filter_waits_for_a_session_that_is_there(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        answer = await taken(await server.poll(EVENTS, NOW + "&type=b"))
        assert answer.status == 404
        await server.client("POST", EVENTS, {"type": "a"})
        waiting = await server.polls(2, EVENTS, NOW + "&type=b")
        await server.client("DELETE", "/v1/sessions/s")
        assert {answer.status for answer in await all_taken(waiting)} == {404}
