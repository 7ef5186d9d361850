"""Both fronts: what a head alone decides is answered while its body is still to come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tailrace_server.fast.listener import FastFront
from tailrace_server.front import FrontLimits
from tailrace_server.protocol.message import Request, Response
from tests.server.front_support import FRONTS, RawClient, Running, running

both = pytest.mark.parametrize("kind", FRONTS)
PATIENT = FrontLimits(body_timeout_s=600, head_timeout_s=600, body_bytes_max=1000, linger_s=0.2)
REFUSED = b"POST /x HTTP/1.1\r\nHost: a\r\nX-Refuse: 1\r\n"
TAKEN = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"


@asynccontextmanager
async def unswept(kind: str) -> AsyncIterator[tuple[Running, RawClient]]:
    """A client, and a front that never looks whether something is incomplete for too long.

    The fast one does that four times a second otherwise.
    """
    async with running(kind, PATIENT) as server, await server.connect() as client:
        if isinstance(server.front, FastFront):
            server.front._reactor.sweep = lambda *_: None  # type: ignore[method-assign]
        yield server, client


@both
@pytest.mark.parametrize("body", [b"", b"h", b"hell"])
async def test_a_small_body_is_not_awaited_to_refuse_its_head(kind: str, body: bytes) -> None:
    async with unswept(kind) as (_, client):
        await client.send(REFUSED + b"Content-Length: 5\r\n\r\n" + body)
        assert (await client.answer()).status == 401


@both
async def test_nor_is_one_that_is_too_large(kind: str) -> None:
    async with unswept(kind) as (_, client):
        await client.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\nx")
        assert (await client.answer()).status == 413


@both
async def test_a_handler_of_a_streamed_body_begins_with_the_head(kind: str) -> None:
    async with unswept(kind) as (_, client):
        await client.send(b"PUT /streamed/early HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nh")
        assert (await client.answer()).status == 409


@both
async def test_a_head_in_two_pieces_is_refused_with_its_second(kind: str) -> None:
    async with unswept(kind) as (_, client):
        whole = REFUSED + b"Content-Length: 5\r\n\r\nh"
        await client.send(whole[:30])
        await trio.sleep(0.05)
        await client.send(whole[30:])
        assert (await client.answer()).status == 401


@both
async def test_a_body_that_is_to_be_taken_is_awaited(kind: str) -> None:
    """And a client that sends it later stays where plain requests are."""
    async with unswept(kind) as (server, client):
        for _ in range(3):
            await in_pieces(client, TAKEN, b"he", b"llo")
            answer = await client.answer()
            assert answer.json()["body"] == "hello"  # type: ignore[index]
        if kind == "fast":
            assert server.front.figures()["handed_over"] == 0  # type: ignore[union-attr]


async def test_a_defect_in_looking_at_a_head_ends_one_connection_alone() -> None:
    def check_head(request: Request) -> Response | None:
        if request.path == "/defect":
            raise RuntimeError("a defect")
        return None

    async with unswept("fast") as (server, other):
        server.service.check_head = check_head  # type: ignore[method-assign]
        async with await server.connect() as client:
            await client.send(b"POST /defect HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nh")
            assert await client.ended()
        await in_pieces(other, TAKEN, b"hello")
        assert (await other.answer()).status == 200


async def in_pieces(client: RawClient, *pieces: bytes) -> None:
    for piece in pieces:
        await client.send(piece)
        await trio.sleep(0.03)


@both
@pytest.mark.parametrize("chunk", [b"zz\r\n", b"-1\r\n", b"5\r\nhello world\r\n0\r\n\r\n", b"\x00"])
async def test_garbage_behind_a_refused_head_does_not_spoil_its_answer(
    kind: str, chunk: bytes
) -> None:
    async with running(kind, PATIENT) as server:
        for _ in range(10):
            async with await server.connect() as client:
                await client.send(REFUSED + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
                answer = await client.answer()
                assert answer.status in (400, 401)
                assert answer.body.startswith(b'{"error":')
                assert await client.ended()
        assert (await server.ask(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
