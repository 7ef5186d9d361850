"""HTTP/2 on the Hypercorn front: streamed bodies and lengths, among other streams."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest
import trio
from h2.exceptions import InvalidBodyLengthError

from tailrace_server.front import FrontLimits
from tests.server.front_support import Running, eventually, running

MIB = 1024 * 1024
LIMITS = FrontLimits(body_bytes_max=1000, body_timeout_s=0.4, linger_s=0.5)


def client_of(server: Running) -> httpx.AsyncClient:
    """Prior knowledge: the same frames as behind TLS."""
    url = f"http://127.0.0.1:{server.port}"
    return httpx.AsyncClient(http1=False, http2=True, base_url=url, timeout=10)


async def blocks(count: int, pause_s: float = 0) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 65_536
        await trio.sleep(pause_s)


async def test_a_streamed_body_passes_through_little_memory() -> None:
    async with running("hypercorn", LIMITS) as server, client_of(server) as client:
        answer = await client.put("/streamed/count", content=blocks(320))
        assert answer.http_version == "HTTP/2"
        assert answer.text == hashlib.sha256(b"x" * 20 * MIB).hexdigest()
        assert (await client.get("/next")).status_code == 200


async def test_a_slow_streamed_body_is_a_408_and_leaves_other_streams_alone() -> None:
    async with running("hypercorn", LIMITS) as server, client_of(server) as client:
        bodies = server.service.bodies

        async def content() -> AsyncIterator[bytes]:
            yield b"x"
            await eventually(lambda: len(bodies.aborted) == 1)

        async def others() -> None:
            while not bodies.aborted:
                assert (await client.get("/next")).status_code == 200
                await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            answer = await client.put("/streamed/all", content=content())
            assert answer.status_code == 408
        assert bodies.aborted == ["the request body did not arrive in time"]


async def test_an_early_answer_comes_before_the_body() -> None:
    async with running("hypercorn", LIMITS) as server, client_of(server) as client:
        answer = await client.put("/streamed/early", content=blocks(20))
        assert answer.status_code == 409
        assert (await client.get("/next")).status_code == 200


async def test_a_stream_that_is_reset_aborts_its_body() -> None:
    async with running("hypercorn", LIMITS) as server, client_of(server) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: client.put("/streamed/all", content=blocks(2, pause_s=60)))
            await eventually(lambda: server.service.bodies.received > 0)
            nursery.cancel_scope.cancel()
        await eventually(lambda: len(server.service.bodies.aborted) == 1)
        assert (await client.get("/next")).status_code == 200


@pytest.mark.parametrize("query", ["pieces=3", "pieces=3&fail=1", "pieces=9"])
async def test_an_answer_of_a_wrong_length_is_seen_to_be_wrong(query: str) -> None:
    async with running("hypercorn", LIMITS) as server, client_of(server) as client:
        with pytest.raises((httpx.RemoteProtocolError, InvalidBodyLengthError)):
            await client.get(f"/known?status=200&length=5500&{query}")
    async with running("hypercorn", LIMITS) as server, client_of(server) as client:
        answer = await client.get("/known?status=200&length=5000&pieces=5")
        assert (answer.headers["content-length"], len(answer.content)) == ("5000", 5000)
