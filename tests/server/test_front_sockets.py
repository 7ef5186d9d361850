"""Both fronts over real sockets: framing, order, clients that leave or stall, stopping."""

from __future__ import annotations

import dataclasses
import socket
import struct

import pytest
import trio

from tests.server.front_support import (
    GET,
    PATIENCE_S,
    QUICK,
    Running,
    Truncated,
    both,
    eventually,
    post,
    running,
)


@both
async def test_the_service_gets_the_raw_target_and_body(kind: str) -> None:
    async with running(kind) as server:
        answer = await server.ask(post(b"a%2Fb/%C3%A9?q=%2B+&x", b"hello", b"X-A: \xe9"))
        assert answer.status == 200
        assert answer.json() == {
            "method": "POST",
            "path": "/a%2Fb/%C3%A9",
            "query": "q=%2B+&x",
            "headers": [["x-a", "\xe9"]],
            "body": "hello",
        }
        assert answer.header("content-length") == str(len(answer.body))
        assert answer.header("date") is not None


@both
async def test_every_byte_may_come_alone(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        for byte in post(b"slow", b"ab", b"X-A: b"):
            await client.send(bytes([byte]))
            await trio.lowlevel.checkpoint()
        answer = await client.answer()
        assert answer.json()["body"] == "ab"  # type: ignore[index]


@both
async def test_chunked_bodies_are_joined(kind: str) -> None:
    async with running(kind) as server:
        answer = await server.ask(
            b"PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
        )
        assert answer.json()["body"] == "abcde"  # type: ignore[index]


@both
async def test_a_connection_serves_many_requests(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        for number in range(20):
            await client.send(post(b"%d" % number, b"x" * number))
            answer = await client.answer()
            assert answer.json()["path"] == f"/{number}"  # type: ignore[index]


@both
async def test_pipelined_requests_are_answered_in_order(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        await client.send(b"".join(GET % (b"%d" % n) for n in range(50)))
        for number in range(50):
            answer = await client.answer()
            assert answer.json()["path"] == f"/{number}"  # type: ignore[index]


@both
@pytest.mark.parametrize("path", [b"none", b"same"])
async def test_no_body_and_no_length_where_none_may_be(kind: str, path: bytes) -> None:
    async with running(kind) as server, await server.connect() as client:
        await client.send(GET % path + GET % b"next")
        answer = await client.answer()
        assert answer.status in (204, 304)
        assert answer.header("content-length") is None
        assert answer.header("content-type") is None
        assert answer.header("transfer-encoding") is None
        assert (await client.answer()).status == 200


@both
async def test_head_has_headers_only(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        await client.send(b"HEAD /large?n=5000 HTTP/1.1\r\nHost: a\r\n\r\n" + GET % b"next")
        answer = await client.answer("HEAD")
        assert (answer.status, answer.header("content-length")) == (200, "5000")
        assert (await client.answer()).json()["path"] == "/next"  # type: ignore[index]


@both
@pytest.mark.parametrize("size", [1, 65_536, 3_000_000])
async def test_large_answers_arrive_whole(kind: str, size: int) -> None:
    async with running(kind) as server:
        answer = await server.ask(GET % b"large?n=%d" % size)
        assert answer.body == b"a" * (size // 2) + b"b" * (size - size // 2)


@both
async def test_http_1_0_is_closed_unless_it_asks_to_stay(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        await client.send(b"GET /x HTTP/1.0\r\n\r\n")
        assert (await client.answer()).status == 200
        assert await client.ended()
    async with running("fast") as server, await server.connect() as client:
        for _ in range(2):
            await client.send(b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (await client.answer()).header("connection") == "keep-alive"


@both
async def test_a_live_answer_is_chunked_and_ends_cleanly(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        await client.send(GET % b"live")
        answer = await client.head()
        assert answer.header("transfer-encoding") == "chunked"
        assert answer.header("content-length") is None
        assert await client.chunk() == b"data: first\n\n"
        server.service.release.set()
        assert await client.chunk() == b"data: last\n\n"
        assert await client.chunk() == b""
        await client.send(GET % b"next")
        assert (await client.answer()).status == 200


@both
async def test_a_live_answer_to_http_1_0_ends_with_the_connection(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        await client.send(b"GET /live HTTP/1.0\r\n\r\n")
        answer = await client.head()
        assert answer.header("transfer-encoding") is None
        server.service.release.set()
        while await client.more():
            pass
        assert client.buffer == b"data: first\n\ndata: last\n\n"


@both
async def test_a_defect_is_a_500_in_json(kind: str) -> None:
    async with running(kind) as server:
        answer = await server.ask(GET % b"break")
        assert answer.status == 500
        assert answer.json()["error"]["type"]  # type: ignore[index]


async def test_a_header_value_never_becomes_a_header() -> None:
    async with running("fast") as server:
        answer = await server.ask(GET % b"inject")
        assert answer.status == 500
        assert answer.header("x-injected") is None


# -- clients that leave


def leave(sock: socket.socket, how: str) -> None:
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def open_reader(server: Running, trailing: bytes = b"") -> socket.socket:
    client = await server.connect()
    await client.send(GET % b"live" + trailing)
    await client.until(b"data: first\n\n")
    await eventually(lambda: server.service.readers == 1)
    assert isinstance(client.stream, trio.SocketStream)
    return client.stream.socket  # type: ignore[return-value]


@both
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("trailing", [b"", GET % b"pipelined", b"GET /half"])
async def test_a_live_reader_that_leaves_is_freed(kind: str, how: str, trailing: bytes) -> None:
    """No heartbeat and no write is needed: the double sends nothing more."""
    async with running(kind) as server:
        sock = await open_reader(server, trailing)
        leave(sock, how)
        await eventually(lambda: server.service.readers == 0)
        await eventually(lambda: server.front.connections == 0)


@both
async def test_a_long_poll_that_leaves_is_cancelled(kind: str) -> None:
    async with running(kind) as server:
        client = await server.connect()
        await client.send(GET % b"wait")
        await eventually(lambda: server.service.waiting == 1)
        await trio.aclose_forcefully(client.stream)
        await eventually(lambda: server.service.waiting == 0)
        assert not server.service.finished


@both
async def test_an_append_goes_on_without_its_sender(kind: str) -> None:
    """A client that closed its sending side may be reading; the answer is due."""
    async with running(kind) as server, await server.connect() as client:
        await client.send(post(b"wait", b"x"))
        await eventually(lambda: server.service.waiting == 1)
        assert isinstance(client.stream, trio.SocketStream)
        await client.stream.send_eof()
        await trio.sleep(0.5)
        server.service.release.set()
        assert (await client.answer()).body == b"released"


@both
async def test_a_client_that_half_closes_gets_its_answer(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        await client.send(GET % b"large?n=2000000")
        assert isinstance(client.stream, trio.SocketStream)
        await client.stream.send_eof()
        await trio.sleep(0.6)
        assert len((await client.answer()).body) == 2_000_000


@both
async def test_a_reader_that_stalls_is_cut_off_alone(kind: str) -> None:
    async with running(kind, QUICK) as server, await server.connect() as stalled:
        await stalled.send(GET % b"flood")
        await eventually(lambda: server.service.readers == 1)
        async with await server.connect() as other:
            while server.service.readers:
                await other.send(GET % b"x")
                assert (await other.answer()).status == 200
                await trio.sleep(0.02)
        await eventually(lambda: server.front.connections == 0)


# -- stopping


@both
async def test_draining_ends_live_readers_and_finishes_answers(kind: str) -> None:
    async with running(kind) as server:
        idle, busy, reader = [await server.connect() for _ in range(3)]
        await idle.send(GET % b"x")
        assert (await idle.answer()).status == 200
        await busy.send(post(b"wait", b"x"))
        await reader.send(GET % b"live")
        await reader.until(b"data: first\n\n\r\n")
        await eventually(lambda: server.service.waiting == 1)
        server.front.drain()
        assert await idle.ended()
        await server.service.drain()
        assert (await busy.answer()).body == b"released"
        assert await busy.ended()
        assert await reader.chunk() == b"data: last\n\n"
        assert await reader.chunk() == b""
        assert await reader.ended()
        await eventually(lambda: server.front.connections == 0)
        with pytest.raises(OSError, match="connect"):
            await server.connect()


async def test_draining_ends_a_connection_behind_an_answer_that_was_going_out() -> None:
    async with running("fast", receive_buffer=4096) as server, await server.connect() as client:
        await client.send(GET % b"large?n=3000000")
        await client.head()
        server.front.drain()
        assert len(await client.exactly(3_000_000)) == 3_000_000
        assert await client.ended()
        await eventually(lambda: server.front.connections == 0)


@both
async def test_a_front_that_is_cancelled_lets_go_of_stalled_clients(kind: str) -> None:
    limits = dataclasses.replace(QUICK, send_timeout_s=60)
    with trio.fail_after(PATIENCE_S):
        async with running(kind, limits) as server:
            client = await server.connect()
            await client.send(GET % b"flood")
            await eventually(lambda: server.service.readers == 1)
            await trio.sleep(0.2)
    with pytest.raises((Truncated, trio.BrokenResourceError)):
        await client.until(b"never sent")
