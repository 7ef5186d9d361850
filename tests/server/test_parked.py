"""Long-polls that wait in the reactor (issue 4; protocol sections 5.7 and 10.1)."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trio

import tailrace
from tailrace.operation import Append
from tailrace_server.config import ServiceConfig
from tailrace_server.engine_bridge import GroupContext, Listener
from tailrace_server.fast import parked
from tailrace_server.keys import Key
from tailrace_server.protocol.cursor import JITTER_S_MAX, next_cursor
from tests.server.front_support import RawClient, eventually
from tests.server.parked_support import (
    NOW,
    all_taken,
    poll_request,
    reset,
    serving,
    taken,
)
from tests.server.service_support import StoreTime
from tests.server.streams.stream_support import CLOSE, JSON, at, put

EVENTS = "/v1/sessions/s/events"


# -- what they are answered


async def test_5_7_data_ends_the_wait_of_all_who_wait_for_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for path in ("a", "b"):
            await server.make(path)
        waiting = [await server.poll("a", query) for query in (NOW, "offset=-1", "offset=00000000")]
        other = await server.poll("b")
        await server.parked(4)
        await server.append("a", 1, 2)
        for answer in await all_taken(waiting):
            assert (answer.status, answer.body) == (200, b"[1,2]")
            assert answer.header("stream-next-offset") == "00000002"
            assert answer.header("stream-up-to-date") == "true"
            assert int(answer.header("stream-cursor") or 0) > 0
        assert server.figure("parked") == 1
        await server.append("b", 3)
        assert (await taken(other)).body == b"[3]"
        assert server.figure("handed_over") == 0
        assert server.readers == 0


async def test_5_7_what_is_there_is_given_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.make("a")
        await server.append("a", 1)
        assert (await taken(await server.poll("a", "offset=-1"))).body == b"[1]"
        await server.append("a", headers=CLOSE)
        answer = await taken(await server.poll("a"))
        assert (answer.status, answer.header("stream-closed")) == (204, "true")
        assert (await taken(await server.poll("a", "offset=-1"))).header("stream-closed") == "true"
        assert server.figure("handed_over") == 0


async def test_8_now_is_the_moment_of_asking(tmp_path: Path) -> None:
    """Who comes after an append that was answered does not get it with those who wait for it.

    That answer goes out before the news of the append reach the Trio thread.
    """
    async with serving(tmp_path) as server, await server.connect() as writer:
        await server.make("a")
        head = f"POST {at('a')} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        asked = 0
        for number in range(100):
            early = await server.poll("a")
            await server.parked(1)
            body = b"%d" % number
            await writer.send(b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body))
            assert (await writer.answer("POST")).status == 204
            late = await server.poll("a")
            asked += 3
            await server.asked(asked)
            await server.append("a", "late")
            # The second append may have been quicker than the news of the first.
            assert (await taken(early)).json() in ([number], [number, "late"])
            assert (await taken(late)).json() == ["late"]


async def test_what_happens_before_it_is_told_of_changes_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as server:
        await server.make("a")
        bridge = server.service.context.bridge
        add = bridge.add

        told = threading.Event()
        key = tailrace.StreamKey("flat", "a")

        def late(stream_id: int, listener: Listener) -> None:
            bridge.stage([Append(key, [b"1"])], [GroupContext(lambda _: told.set(), key)])
            assert told.wait(10)
            time.sleep(0.05)  # the last of what happens to a group when nobody wants to know
            add(stream_id, listener)

        monkeypatch.setattr(bridge, "on_change", None)
        monkeypatch.setattr(bridge, "add", late)
        client = await server.poll("a")
        assert (await taken(client)).body == b"[1]"


async def test_5_7_time_ends_the_wait_of_all_with_few_calls(tmp_path: Path) -> None:
    async with serving(tmp_path, ServiceConfig(long_poll_timeout_s=0.4)) as server:
        await server.make("a")
        began = trio.current_time()
        waiting = [await server.poll("a") for _ in range(60)]
        await server.asked(60)
        spread_s = trio.current_time() - began
        for answer in await all_taken(waiting):
            assert answer.status == 204
            assert answer.header("stream-next-offset") == "00000000"
            assert answer.header("cache-control") == "no-store"
        assert server.figure("parked_answered") == 60
        # From call to call the ends of waits are further apart than those that end together.
        assert server.figure("parked_calls") <= 1 + spread_s / parked.TOGETHER_S
        # The connection serves on, and waits anew.
        async with await server.connect() as client:
            for _ in range(3):
                await client.send(poll_request(at("a")))
                assert (await client.answer()).status == 204


async def test_5_7_a_close_ends_the_wait(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for path in ("a", "b"):
            await server.make(path)
        waiting = [await server.poll(path) for path in ("a", "b")]
        await server.parked(2)
        await server.append("a", headers=CLOSE)
        await server.append("b", 1, headers=CLOSE)
        empty, last = await all_taken(waiting)
        assert (empty.status, empty.header("stream-closed")) == (204, "true")
        assert (last.status, last.body, last.header("stream-closed")) == (200, b"[1]", "true")
        assert empty.header("stream-cursor") is None


@pytest.mark.parametrize("forked", [False, True])
async def test_5_7_a_delete_ends_the_wait_with_404(tmp_path: Path, forked: bool) -> None:
    async with serving(tmp_path) as server:
        await server.make("a")
        if forked:
            await put(server.client, "b", b"", JSON | {"stream-forked-from": at("a")})
        waiting = await server.polls(3, "a")
        await server.client("DELETE", at("a"))
        if not forked:
            await put(server.client, "a", b"[1]", JSON)  # another stream of its name
        assert {answer.status for answer in await all_taken(waiting)} == {404}


async def test_a_revoked_key_ends_its_own_waits_alone(tmp_path: Path) -> None:
    one, two = "x-api-key: one", "x-api-key: two"
    async with serving(tmp_path, keys=[Key("one"), Key("two")]) as server:
        await put(server.client, "a", b"", JSON | {"x-api-key": "two"})
        waiting = [await server.poll("a", NOW, key) for key in (one, two, one)]
        await server.parked(3)
        server.keys.replace([Key("two")])
        assert [(await taken(waiting[n])).status for n in (0, 2)] == [404, 404]
        assert server.figure("parked") == 1
        await server.append("a", 1, headers={"x-api-key": "two"})
        answer = await taken(waiting[1])
        assert (answer.status, answer.header("cache-control")) == (
            200,
            "private, max-age=60, stale-while-revalidate=300",
        )


async def test_a_client_that_knows_it_gets_304_and_the_others_the_data(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.make("a")
        waiting = [await server.poll("a", NOW, *field) for field in ((), ("If-None-Match: *",), ())]
        await server.parked(3)
        await server.append("a", 1)
        assert [answer.status for answer in await all_taken(waiting)] == [200, 304, 200]


@pytest.mark.parametrize("query", ["", "&limit=1", "&beta=true"])
async def test_sessions_wait_there_too(tmp_path: Path, query: str) -> None:
    async with serving(tmp_path) as server:
        event = {"type": "a", "text": "hello"}
        assert (await server.client("POST", EVENTS, event)).status == 204
        start = f"offset=00000001{query}"
        waiting = await server.polls(2, EVENTS, start)
        await server.client("POST", EVENTS, [event, {"type": "b"}])
        for answer in await all_taken(waiting):
            alone = await server.client("GET", f"{EVENTS}?{start}&live=long-poll")
            assert (answer.status, answer.body) == (200, alone.body)
            assert answer.header("etag") == alone.headers["etag"]
            assert (b"processed_at" in answer.body) == ("beta" in query)
        assert server.figure("handed_over") == 0


async def test_old_records_are_read_in_a_thread(tmp_path: Path) -> None:
    small = tailrace.Options(segment_bytes=tailrace.limits.SEGMENT_BYTES_MIN)
    async with serving(tmp_path, options=small) as server:
        await server.make("a")
        for number in range(12):
            await server.append("a", f"{number}" + 20_000 * "x")
        key = ("flat", "a")
        assert not server.service.context.store.is_resident(key, 0)
        answers = await all_taken([await server.poll("a", "offset=-1") for _ in range(5)])
        for answer in answers:
            found = answer.json()
            assert isinstance(found, list)
            assert [text.rstrip("x") for text in found] == [f"{n}" for n in range(12)]


async def test_time_that_ends_during_a_slow_read_wakes_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The read's end does; until then there is nothing to do."""
    turns = 0
    turn = parked.Parked._turn

    def counted(self: parked.Parked, now: float) -> None:
        nonlocal turns
        turns += 1
        turn(self, now)

    monkeypatch.setattr(parked.Parked, "_turn", counted)
    small = tailrace.Options(segment_bytes=tailrace.limits.SEGMENT_BYTES_MIN)
    config = ServiceConfig(long_poll_timeout_s=0.05)
    async with serving(tmp_path, config, options=small) as server:
        await server.make("a")
        for number in range(12):
            await server.append("a", f"{number}" + 20_000 * "x")
        bridge = server.service.context.bridge
        read = bridge.store.read_pieces
        begun, disk = threading.Event(), threading.Event()

        def slow(*arguments: Any, **options: Any) -> tailrace.ReadPieces:
            begun.set()
            assert disk.wait(10)
            return read(*arguments, **options)

        monkeypatch.setattr(bridge.store, "read_pieces", slow)
        clients = [await server.poll("a", "offset=-1") for _ in range(3)]
        await eventually(begun.is_set)
        await trio.sleep(0.5)
        assert server.figure("parked") == 3
        assert turns < 10
        reset(clients.pop())
        await server.parked(2)
        disk.set()
        assert [answer.status for answer in await all_taken(clients)] == [200, 200]
        # Time ends waits as before.
        assert (await taken(await server.poll("a"))).status == 204


async def test_5_1_those_who_wait_keep_a_ttl_alive(tmp_path: Path) -> None:
    now_ms = StoreTime()
    async with serving(tmp_path, ServiceConfig(long_poll_timeout_s=600), now_ms=now_ms) as server:
        await server.make("a", JSON | {"stream-ttl": "1"})
        client = await server.poll("a")
        await server.parked(1)
        await now_ms.outlives(server.client.store, ("flat", "a"))
        await server.append("a", 1)
        assert (await taken(client)).body == b"[1]"  # not 404


# -- cursors


async def test_10_1_one_cursor_takes_all_beyond_their_own(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.make("a")
        present = server.service.context.hub.cursor(None)
        base = (present + 2000) // 1024 * 1024
        ahead = [base, base + 7, base + 7, base + 300]
        behind = [None, 0, present - 1, "none"]
        far = 10**15 - 1
        waiting = []
        for cursor in (*ahead, *behind, far):
            echo = "" if cursor is None else f"&cursor={cursor}"
            waiting.append(await server.poll("a", NOW + echo))
        await server.parked(len(waiting))
        await server.append("a", 1)
        found = [int(answer.header("stream-cursor") or -1) for answer in await all_taken(waiting)]
        together = found[: len(ahead)]
        assert len(set(together)) == 1
        assert max(ahead) < together[0] <= next_cursor(0, max(ahead), JITTER_S_MAX)
        assert set(found[len(ahead) : -1]) <= {present, present + 1}
        assert found[-1] > far
        assert server.figure("parked_calls") == 1


async def test_10_1_clients_that_echo_their_cursor_stay_together(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.make("a")
        clients = [await server.connect() for _ in range(5)]
        queries = [NOW] * 5
        last = [0] * 5
        for number in range(8):
            for client, query in zip(clients, queries, strict=True):
                await client.send(poll_request(at("a"), query))
            await server.parked(5)
            await server.append("a", number)
            answers = [await client.answer() for client in clients]
            cursors = [int(answer.header("stream-cursor") or 0) for answer in answers]
            assert len(set(cursors)) == 1
            assert all(new > old for new, old in zip(cursors, last, strict=True))
            last = cursors
            offset = answers[0].header("stream-next-offset")
            queries = [f"offset={offset}&cursor={cursor}" for cursor in cursors]
        assert server.figure("parked_calls") == 8
        for client in clients:
            await client.stream.aclose()


# -- many, and who is slow


async def test_a_thousand_are_answered_with_few_calls(tmp_path: Path) -> None:
    """Issue 4: a committed batch is encoded once and written to all by one call."""
    count = 1000
    async with serving(tmp_path) as server:
        await server.make("a")
        clients = await server.polls(count, "a")
        await server.append("a", {"text": "to all"})
        answers = [await client.answer() for client in clients]
        assert len({(answer.status, answer.body) for answer in answers}) == 1
        assert answers[0].body == b'[{"text": "to all"}]'
        assert server.figure("parked_calls") == 1
        assert server.figure("parked_answered") == count
        # They all come back, and wait for what is next.
        for client in clients:
            await client.send(poll_request(at("a")))
        await server.parked(count)
        await server.append("a", headers=CLOSE)
        for client in clients:
            assert (await taken(client)).header("stream-closed") == "true"
        assert server.figure("parked_calls") == 2
        assert server.figure("handed_over") == 0


async def test_no_answer_reaches_another_client(tmp_path: Path) -> None:
    """Clients of many streams come, wait, leave and come again while all streams change."""
    streams = 12
    dice = random.Random(4)
    async with serving(tmp_path) as server:
        for number in range(streams):
            await server.make(f"s{number}")
        over = trio.Event()
        answered = 0

        async def client(number: int) -> None:
            nonlocal answered
            raw: RawClient | None = None
            offset, cursor = "now", ""
            while not over.is_set():
                if raw is None:
                    raw = await server.connect()
                query = f"offset={offset}{cursor}"
                await raw.send(poll_request(at(f"s{number % streams}"), query))
                if dice.random() < 0.15:
                    await trio.sleep(dice.random() / 50)
                    reset(raw)
                    raw = None
                    continue
                answer = await raw.answer()
                assert answer.status == 200
                found = answer.json()
                assert isinstance(found, list)
                first = int(answer.header("stream-next-offset") or 0) - len(found)
                assert found == [[number % streams, first + n] for n in range(len(found))]
                if offset != "now":
                    assert first == int(offset)
                offset = answer.header("stream-next-offset") or ""
                cursor = f"&cursor={answer.header('stream-cursor')}"
                answered += 1
            if raw is not None:
                await raw.stream.aclose()

        async with trio.open_nursery() as nursery:
            for number in range(10 * streams):
                nursery.start_soon(client, number)
            turn = 0
            while turn < 60 or answered <= 10 * streams:
                for number in range(streams):
                    await server.append(f"s{number}", [number, turn])
                turn += 1
            over.set()
            while len(nursery.child_tasks):  # whoever still waits
                for number in range(streams):
                    await server.append(f"s{number}", [number, turn])
                turn += 1
        await eventually(lambda: server.readers == 0)
        await eventually(lambda: server.front.connections == 0)
