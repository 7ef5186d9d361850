"""Large pages of the vectorized front: from the log to the socket, without a task each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from tailrace_server.config import ServiceConfig
from tailrace_server.fast.tick import LARGE_BYTES_MAX
from tests.server.front_support import RawClient, eventually
from tests.server.test_vectorized_front import JSON, ask, connect, get, post, serving

PAGE = b"v1/stream/large"
EVENTS = [{"n": number, "text": "x" * 1000} for number in range(600)]
CLOSED = b"Stream-Closed: true"


async def make(client: RawClient, *fields: bytes) -> None:
    assert (await ask(client, get(PAGE, JSON, method=b"PUT"))).status == 201
    body = json.dumps(EVENTS).encode()
    assert (await ask(client, post(PAGE, body, *fields))).status == 204


@pytest.mark.parametrize("fields", [(), (CLOSED,)])
async def test_a_large_page_needs_no_task(tmp_path: Path, fields: tuple[bytes, ...]) -> None:
    """Protocol section 5.6; what stands behind it in the connection comes behind it."""
    async with serving(tmp_path) as (front, _, port), await connect(port) as client:
        await make(client, *fields)
        handed_over = front.handed_over
        for _ in range(3):
            await client.send(get(PAGE) + get(PAGE, method=b"HEAD") + get(PAGE + b"?offset=now"))
            large = await client.answer()
            assert large.json() == EVENTS
            assert large.header("stream-next-offset") == "00000600"
            assert (large.header("stream-closed") == "true") == bool(fields)
            assert (await client.answer("HEAD")).header("stream-next-offset") == "00000600"
            assert (await client.answer()).body == b"[]"
            tag = large.header("etag")
            assert tag is not None
            again = await ask(client, get(PAGE, b"If-None-Match: " + tag.encode()))
            assert again.status == 304
        assert front.handed_over == handed_over
        await eventually(lambda: len(front._reactor.lent) == 0)


async def test_pages_follow_one_another(tmp_path: Path) -> None:
    config = ServiceConfig(read_bytes_max=100_000)
    async with serving(tmp_path, config=config) as (front, _, port), await connect(port) as client:
        await make(client)
        handed_over = front.handed_over
        found: list[object] = []
        offset = "-1"
        while True:
            page = await ask(client, get(PAGE + b"?offset=" + offset.encode()))
            assert len(page.body) <= 100_002
            events = page.json()
            assert isinstance(events, list)
            found += events
            offset = page.header("stream-next-offset") or ""
            if page.header("stream-up-to-date"):
                break
        assert found == EVENTS
        assert front.handed_over == handed_over


async def test_a_client_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    """Issue: slow readers. What they did not take is let go of when they leave."""
    async with serving(tmp_path) as (front, _, port), await connect(port) as client:
        await make(client)
        slow = [await connect(port) for _ in range(5)]
        for other in slow:
            await other.send(get(PAGE) * 30)
        await eventually(lambda: len(front._reactor.lent) == 5)
        assert (await ask(client, get(PAGE))).json() == EVENTS
        for other in slow[:2]:
            await trio.aclose_forcefully(other.stream)
        await eventually(lambda: len(front._reactor.lent) == 3)
        for other in slow[2:]:
            for _ in range(30):
                assert (await other.answer()).json() == EVENTS
            await trio.aclose_forcefully(other.stream)
        await eventually(lambda: front.connections == 1 and len(front._reactor.lent) == 0)


async def test_more_than_a_turn_sends_is_sent_in_the_next_ones(tmp_path: Path) -> None:
    """All ask at once, some for little."""
    async with serving(tmp_path) as (front, _, port), await connect(port) as first:
        await make(first)
        count = 3 * LARGE_BYTES_MAX // 600_000
        clients = [await connect(port) for _ in range(count)]
        handed_over = front.handed_over
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:

                async def read(number: int, client: RawClient) -> None:
                    for turn in range(3):
                        if (number + turn) % 4 == 0:
                            answer = await ask(client, get(PAGE + b"?offset=00000599"))
                            assert answer.json() == EVENTS[599:]
                        else:
                            assert (await ask(client, get(PAGE))).json() == EVENTS

                for number, client in enumerate(clients):
                    nursery.start_soon(read, number, client)
        assert front.handed_over == handed_over


async def test_a_drain_lets_a_body_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as (front, _, port), await connect(port) as client:
        await make(client)
        async with await connect(port) as slow:
            await slow.send(get(PAGE) * 30)
            await eventually(lambda: len(front._reactor.lent) == 1)
            front.drain()
            whole = 0
            while not await slow.ended():
                assert (await slow.answer()).json() == EVENTS
                whole += 1
            assert 0 < whole < 30
        await eventually(lambda: front.connections == 0)
