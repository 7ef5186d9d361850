"""Long-polls that wait in the reactor: who leaves, what bounds them, how a drain ends them."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog.testing
import trio

from tailrace_server.config import ServiceConfig
from tailrace_server.fast import parked
from tests.server.front_support import eventually
from tests.server.parked_support import (
    PATIENT,
    all_taken,
    poll_request,
    reset,
    serving,
    taken,
)
from tests.server.streams.stream_support import at


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_is_noticed_at_once(tmp_path: Path, how: str) -> None:
    """Nothing is written to it, and its time is not over for long."""
    async with serving(tmp_path) as server:
        await server.make("a")
        clients = await server.polls(20, "a")
        for client in clients[1:]:
            if how == "reset":
                reset(client)
            else:
                await trio.aclose_forcefully(client.stream)
        await server.parked(1)
        await eventually(lambda: server.front.connections == 1)
        await server.append("a", 1)
        assert (await taken(clients[0])).body == b"[1]"
        assert server.figure("parked_answered") == 1


async def test_a_client_that_left_before_it_waited_is_noticed_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.make("a")
        for _ in range(20):
            client = await server.poll("a")
            await trio.aclose_forcefully(client.stream)
        await server.asked(20)
        await eventually(lambda: server.front.connections == 0)
        assert server.readers == 0


async def test_a_client_that_half_closed_may_still_be_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parked, "HALF_CLOSE_GRACE_S", 600.0)
    async with serving(tmp_path) as server:
        await server.make("a")
        clients = await server.polls(2, "a")
        for client in clients:
            assert isinstance(client.stream, trio.SocketStream)
            await client.stream.send_eof()
        await eventually(lambda: server.figure("departed") == 2)
        reset(clients[1])
        await server.parked(1)
        await server.append("a", 1)
        assert (await clients[0].answer()).body == b"[1]"
        assert await clients[0].ended()


async def test_requests_behind_a_wait_are_answered_behind_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, await server.connect() as client:
        await server.make("a")
        head = f"HEAD {at('a')} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        await client.send(poll_request(at("a")) + head + poll_request(at("a")) + head)
        await server.parked(1)
        await server.append("a", 1)
        assert (await client.answer()).body == b"[1]"
        assert (await client.answer("HEAD")).header("stream-next-offset") == "00000001"
        await server.parked(1)
        await server.append("a", 2)
        assert (await client.answer()).body == b"[2]"
        assert (await client.answer("HEAD")).header("stream-next-offset") == "00000002"
        assert server.figure("handed_over") == 0


# -- limits, metrics, drain


async def test_those_who_wait_count_as_live_readers(tmp_path: Path) -> None:
    config = ServiceConfig(long_poll_timeout_s=600, live_readers_max=3)
    async with serving(tmp_path, config) as server:
        await server.make("a")
        waiting = await server.polls(3, "a")
        metrics = (await server.client("GET", "/metrics")).body
        assert b"tailrace_live_readers 3.0" in metrics
        refused = await taken(await server.poll("a"))
        assert (refused.status, refused.header("retry-after")) == (503, "5")
        await server.append("a", 1)
        assert {answer.status for answer in await all_taken(waiting)} == {200}
        route = b'tailrace_http_requests_total{route="/v1/stream/{stream_name*}",status="%b"} %b'
        metrics = (await server.client("GET", "/metrics")).body
        assert route % (b"200", b"3.0") in metrics
        assert route % (b"503", b"1.0") in metrics
        await trio.aclose_forcefully((await server.polls(1, "a"))[0].stream)
        await server.parked(0)


async def test_a_drain_gives_all_a_last_word_and_closes(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for path in ("a", "b"):
            await server.make(path)
        waiting = [await server.poll(path) for path in ("a", "b", "a")]
        await server.parked(3)
        server.front.drain()
        await server.service.drain()
        assert server.readers == 0
        for client in waiting:
            async with client:
                answer = await client.answer()
                assert (answer.status, answer.header("connection")) == (204, "close")
                assert await client.ended()
        await eventually(lambda: server.front.connections == 0)


async def test_a_front_that_is_cancelled_lets_all_go(tmp_path: Path) -> None:
    """``serving`` looks at what is left."""
    async with serving(tmp_path) as server:
        await server.make("a")
        clients = await server.polls(5, "a")
    for client in clients:
        assert await client.ended()


async def test_the_access_log_has_a_line_for_each(tmp_path: Path) -> None:
    async with serving(tmp_path, access_log=True) as server:
        await server.make("a")
        waiting = await server.polls(3, "a")
        with structlog.testing.capture_logs() as lines:
            await server.append("a", 1)
            assert {answer.status for answer in await all_taken(waiting)} == {200}
        found = [line for line in lines if line["event"] == "request"]
        assert [(line["path"], line["status"], line["bytes"]) for line in found] == [
            (at("a"), 200, 3)
        ] * 3
        assert all(line["client"] == "127.0.0.1" for line in found)


async def test_a_defect_in_an_answer_is_a_500_and_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, PATIENT) as server:
        await server.make("a")
        waiting = await server.polls(2, "a")

        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("a defect")

        monkeypatch.setattr("tailrace_server.streams.read._page", broken)
        await server.append("a", 1)
        assert {answer.status for answer in await all_taken(waiting)} == {500}
        monkeypatch.undo()
        assert (await taken(await server.poll("a", "offset=-1"))).body == b"[1]"
