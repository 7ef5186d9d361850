"""Both fronts: live answers whose length is known before they are made (LiveResponse)."""

from __future__ import annotations

import pytest

from tailrace_server.front import FrontLimits
from tests.server.front_support import FRONTS, RawClient, Truncated, running

both = pytest.mark.parametrize("kind", FRONTS)
LIMITS = FrontLimits(linger_s=0.3)
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


def known(
    length: int, pieces: int, more: str = "", *, status: int = 200, method: str = "GET"
) -> bytes:
    query = f"status={status}&length={length}&pieces={pieces}{more}"
    return f"{method} /known?{query} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


async def next_is_served(client: RawClient) -> bool:
    await client.send(NEXT)
    return (await client.answer()).status == 200


@both
@pytest.mark.parametrize("pieces", [0, 1, 200])
async def test_a_known_length_is_told(kind: str, pieces: int) -> None:
    async with running(kind, LIMITS) as server, await server.connect() as client:
        await client.send(known(1000 * pieces, pieces))
        answer = await client.answer()
        assert answer.header("content-length") == str(1000 * pieces)
        assert answer.header("transfer-encoding") is None
        assert answer.body == b"k" * (1000 * pieces)
        assert await next_is_served(client)


@both
async def test_head_tells_the_length_and_makes_nothing(kind: str) -> None:
    async with running(kind, LIMITS) as server, await server.connect() as client:
        await client.send(known(5000, 5, "&fail=1", method="HEAD") + NEXT)
        answer = await client.answer("HEAD")
        assert answer.header("content-length") == "5000"
        assert answer.header("transfer-encoding") is None
        assert (await client.answer()).status == 200


@both
async def test_a_304_has_no_length(kind: str) -> None:
    async with running(kind, LIMITS) as server, await server.connect() as client:
        await client.send(known(5000, 5, status=304) + NEXT)
        answer = await client.answer()
        assert (answer.status, answer.header("content-length")) == (304, None)
        assert (await client.answer()).status == 200


@both
@pytest.mark.parametrize("more", ["", "&fail=1"])
async def test_an_answer_cut_short_ends_its_connection(kind: str, more: str) -> None:
    async with running(kind, LIMITS) as server, await server.connect() as client:
        await client.send(known(5000, 3, more) + NEXT)
        answer = await client.head()
        assert answer.header("content-length") == "5000"
        with pytest.raises(Truncated):
            await client.exactly(5000)
        assert client.buffer == b"k" * 3000


@both
async def test_nothing_is_sent_beyond_the_length(kind: str) -> None:
    """The next answer would begin there."""
    async with running(kind, LIMITS) as server, await server.connect() as client:
        await client.send(known(2500, 5) + NEXT)
        assert (await client.head()).header("content-length") == "2500"
        with pytest.raises(Truncated):
            await client.exactly(2501)
        assert client.buffer == b"k" * 2000


async def test_http_1_0_stays_open_behind_a_known_length() -> None:
    async with running("fast", LIMITS) as server, await server.connect() as client:
        kept = b"GET /known?status=200&length=1000&pieces=1 HTTP/1.0\r\nConnection: keep-alive\r\n"
        for _ in range(2):
            await client.send(kept + b"\r\n")
            answer = await client.answer()
            assert answer.header("connection") == "keep-alive"
            assert answer.body == b"k" * 1000
