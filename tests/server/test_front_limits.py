"""Both fronts over real sockets: what is too large, too slow, too much, or refused at its head."""

from __future__ import annotations

import dataclasses
import re
import socket
import time
from itertools import product

import pytest
import trio

from tailrace_server.front import FrontLimits
from tests.project import read
from tests.server.front_support import (
    FRONTS,
    GET,
    PATIENCE_S,
    QUICK,
    Running,
    both,
    eventually,
    post,
    running,
)

IMPATIENT = dataclasses.replace(QUICK, idle_timeout_s=0.5)


async def ask_limited(kind: str, request: bytes, limits: FrontLimits = QUICK) -> int:
    async with running(kind, limits) as server:
        answer = await server.ask(request)
        error = answer.json()["error"]  # type: ignore[index]
        assert set(error) == {"type", "message"}
        if kind == "fast":  # what follows a refused head is unknown
            assert answer.header("connection") == "close"
        return answer.status


@both
async def test_limits_have_their_answers(kind: str) -> None:
    assert (
        await ask_limited(
            kind, GET % (b"a" * 300), dataclasses.replace(QUICK, target_bytes_max=200)
        )
        == 414
    )
    large = b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"b" * 3000 + b"\r\n\r\n"
    assert await ask_limited(kind, large) == 431
    fields = b"".join(b"X-%d: a\r\n" % n for n in range(20))
    many = b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"
    assert await ask_limited(kind, many, dataclasses.replace(QUICK, head_fields_max=10)) == 431
    assert await ask_limited(kind, post(b"", b"x" * 1001)) == 413
    chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert await ask_limited(kind, chunked + b"3e9\r\n" + b"x" * 1001) == 413


@both
async def test_a_large_upload_gets_its_413_before_the_reset(kind: str) -> None:
    async with running(kind, QUICK) as server, await server.connect() as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
        )
        assert (await client.answer()).status == 413


@both
@pytest.mark.parametrize("before", [b"", GET % b"x"])
async def test_a_slow_head_gets_408(kind: str, before: bytes) -> None:
    """Its time begins with its first byte, however long the connection was idle."""
    limits = dataclasses.replace(QUICK, head_timeout_s=0.4)
    async with running(kind, limits) as server, await server.connect() as client:
        if before:
            await client.send(before)
            assert (await client.answer()).status == 200
        await trio.sleep(0.3)
        for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-A: bbbbbbbbbbbbbbbbbbbbbbbbbb":
            try:
                await client.send(bytes([byte]))
            except trio.BrokenResourceError:
                break
            await trio.sleep(0.02)
            if server.front.connections == 0:
                break
        answer = await client.answer()
        assert answer.status == 408
        assert answer.json()["error"]["type"] == "timeout_error"  # type: ignore[index]
        assert await client.ended()


@both
async def test_a_head_in_two_pieces_is_awaited(kind: str) -> None:
    limits = dataclasses.replace(QUICK, head_timeout_s=0.6, idle_timeout_s=0.4)
    async with running(kind, limits) as server, await server.connect() as client:
        for _ in range(4):
            await client.send(b"GET /x HTTP/1.1\r\n")
            await trio.sleep(0.3)
            await client.send(b"Host: a\r\n\r\n")
            assert (await client.answer()).status == 200
        await eventually(lambda: server.front.connections == 0)


@both
async def test_a_slow_body_gets_408(kind: str) -> None:
    async with running(kind, QUICK) as server, await server.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab")
        assert (await client.answer()).status == 408
        assert not server.service.requests


@both
async def test_a_body_that_keeps_its_pace_is_awaited(kind: str) -> None:
    limits = dataclasses.replace(QUICK, body_bytes_per_s_min=5)
    async with running(kind, limits) as server, await server.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n")
        for _ in range(6):
            await client.send(b"ab")
            await trio.sleep(0.1)
        assert (await client.answer()).json()["body"] == "ab" * 6  # type: ignore[index]


@both
async def test_idle_connections_are_closed(kind: str) -> None:
    async with running(kind, IMPATIENT) as server, await server.connect() as client:
        await client.send(GET % b"x")
        assert (await client.answer()).status == 200
        assert await client.ended()


@both
async def test_a_connection_that_says_nothing_is_closed(kind: str) -> None:
    async with running(kind, IMPATIENT) as server, await server.connect() as client:
        assert await client.ended()
        await eventually(lambda: server.front.connections == 0)


@both
async def test_too_many_connections_get_503(kind: str) -> None:
    limits = dataclasses.replace(QUICK, connections_max=2)
    async with running(kind, limits) as server:
        clients = [await server.connect() for _ in range(2)]
        for client in clients:
            await client.send(GET % b"x")
            assert (await client.answer()).status == 200
        refused = await server.ask(GET % b"x")
        assert refused.status == 503
        assert refused.header("retry-after") is not None
        # Those that were served go on being served, and a place that is left is free again.
        await clients[0].send(GET % b"x")
        assert (await clients[0].answer()).status == 200
        await trio.aclose_forcefully(clients[1].stream)
        await eventually(lambda: server.front.connections == 1)
        assert (await server.ask(GET % b"x")).status == 200
        await trio.aclose_forcefully(clients[0].stream)


@both
async def test_early_refusal_comes_before_the_body(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nX-Refuse: 1\r\nContent-Length: 100\r\n\r\n"
        )
        assert (await client.answer()).status == 401
        assert not server.service.requests


@both
async def test_expect_100_continue(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert (await client.answer()).status == 100
        await client.send(b"ab")
        assert (await client.answer()).json()["body"] == "ab"  # type: ignore[index]


@both
async def test_expect_100_continue_is_not_said_to_a_body_that_is_refused(kind: str) -> None:
    async with running(kind, QUICK) as server:
        expecting = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
        refused = await server.ask(expecting + b"X-Refuse: 1\r\nContent-Length: 2\r\n\r\n")
        assert refused.status == 401
        refused = await server.ask(expecting + b"Content-Length: 5000\r\n\r\n")
        assert refused.status == 413


@both
async def test_a_smuggled_request_is_not_served(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 40\r\n\r\nabcd"
            + GET % b"smuggled"
        )
        answer = await client.answer()
        assert answer.status == 400
        assert answer.header("content-type") == "application/json"
        assert await client.ended()
        assert not server.service.requests


async def slow_reader(server: Running, path: bytes) -> trio.SocketStream:
    """A client whose kernel takes little beyond what it reads itself."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    await sock.connect(("127.0.0.1", server.port))
    stream = trio.SocketStream(sock)
    await stream.send_all(GET % path)
    return stream


@pytest.mark.parametrize(
    ("kind", "path"),
    [("fast", b"at-once?n=3000000"), *product(FRONTS, (b"large?n=3000000", b"flood"))],
)
async def test_a_client_that_reads_a_byte_at_a_time_is_cut_off(kind: str, path: bytes) -> None:
    """What it takes is too little for its kernel to ask for more within the time."""
    async with running(kind, QUICK, receive_buffer=4096) as server:
        async with await slow_reader(server, path) as client:
            await eventually(lambda: server.front.connections == 1)
            with trio.fail_after(PATIENCE_S):
                while server.front.connections:
                    await client.receive_some(1)
                    await trio.sleep(0.02)


@pytest.mark.parametrize("path", [b"large?n=60000", b"at-once?n=60000"])
async def test_a_client_that_reads_slowly_gets_all_of_it(path: bytes) -> None:
    """In more time than one has that takes nothing."""
    with trio.fail_after(PATIENCE_S):
        while not await came_whole(path):
            pass


async def came_whole(path: bytes) -> bool:
    """If not, this machine stood still for as long as a client has: the reactor saw it, too."""
    async with running("fast", QUICK, receive_buffer=4096) as server:
        async with await slow_reader(server, path) as client:
            began = trio.current_time()
            found = b""
            while len(found.partition(b"\r\n\r\n")[2]) < 60_000:
                looked_s = time.monotonic()
                await trio.sleep(0.05)
                piece = await client.receive_some(4096)
                if not piece:
                    assert time.monotonic() - looked_s >= QUICK.send_timeout_s, "cut off"
                    return False
                found += piece
            assert trio.current_time() - began > QUICK.send_timeout_s
            return True


def test_the_times_that_a_client_has_are_documented() -> None:
    """docs/http.md says them in numbers."""
    limits = FrontLimits()
    section = read("docs/http.md").partition("## Slow clients\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[2] for line in section.splitlines() if line.startswith("|")]
    numbers = [[int(word) for word in re.findall(r"\d+", row)] for row in rows[2:]]
    assert numbers == [
        [limits.head_timeout_s],
        [limits.body_timeout_s, limits.body_bytes_per_s_min // 1024],
        [limits.send_timeout_s],
        [limits.idle_timeout_s],
        [limits.linger_s],
    ]
