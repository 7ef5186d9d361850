"""Both fronts: bodies that their handlers read as they come (FrontBody, routes' ``streamed``)."""

from __future__ import annotations

import dataclasses
import hashlib
import socket
import struct

import pytest
import trio

from tailrace_server.front import FrontLimits
from tests.server.front_support import FRONTS, RawClient, eventually, running

both = pytest.mark.parametrize("kind", FRONTS)
GET = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
QUICK = FrontLimits(body_bytes_max=1000, body_timeout_s=0.4, idle_timeout_s=5, linger_s=0.5)
MIB = 1024 * 1024


def head(what: bytes, *fields: bytes, version: bytes = b"1.1") -> bytes:
    lines = b"".join(field + b"\r\n" for field in (b"Host: a", *fields))
    return b"PUT /streamed/" + what + b" HTTP/" + version + b"\r\n" + lines + b"\r\n"


def sized(what: bytes, length: int, *fields: bytes) -> bytes:
    return head(what, b"Content-Length: %d" % length, *fields)


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


async def next_request_is_served(client: RawClient) -> bool:
    await client.send(GET)
    return (await client.answer()).status == 200


@both
async def test_a_handler_gets_each_piece_when_it_comes(kind: str) -> None:
    async with running(kind, QUICK) as server, await server.connect() as client:
        bodies = server.service.bodies
        await client.send(sized(b"all", 9))
        await eventually(lambda: len(server.service.requests) == 1)
        for number, piece in enumerate((b"one", b"two", b"end")):
            await client.send(piece)
            await eventually(lambda: len(bodies.pieces) > number)  # noqa: B023 - within the loop
        assert bodies.pieces == [b"one", b"two", b"end"]
        assert (await client.answer()).body == digest(b"onetwoend")
        assert await next_request_is_served(client)


@both
@pytest.mark.parametrize("length", [0, 1, 5000])
async def test_a_body_that_is_there_at_once(kind: str, length: int) -> None:
    """5000 is more than other bodies may have."""
    async with running(kind, QUICK) as server, await server.connect() as client:
        body = b"x" * length
        await client.send(sized(b"all", length) + body + GET)
        answer = await client.answer()
        assert answer.status == 200
        assert answer.body in (digest(body), b"whole " + body)
        assert (await client.answer()).json()["path"] == "/next"  # type: ignore[index]


@both
async def test_a_chunked_body_is_decoded_and_what_follows_is_not_its_own(kind: str) -> None:
    async with running(kind, QUICK) as server, await server.connect() as client:
        await client.send(head(b"all", b"Transfer-Encoding: chunked") + b"5\r\nfir")
        await eventually(lambda: server.service.bodies.received == 3)
        await client.send(b"st\r\n800\r\n" + b"y" * 2048 + b"\r\n3;x=y\r\nend\r\n0\r\nT: u\r\n\r\n")
        await client.send(GET + sized(b"all", 2) + b"a")
        assert (await client.answer()).body == digest(b"first" + b"y" * 2048 + b"end")
        assert (await client.answer()).json()["path"] == "/next"  # type: ignore[index]
        await client.send(b"b" + GET)
        # Small and not chunked: a front may have it whole before it is asked for.
        assert (await client.answer()).body in (digest(b"ab"), b"whole ab")
        assert (await client.answer()).status == 200


@both
async def test_every_byte_of_a_streamed_request_may_come_alone(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        request = head(b"all", b"Transfer-Encoding: chunked")
        for byte in request + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n" + GET:
            await client.send(bytes([byte]))
            await trio.lowlevel.checkpoint()
        # A front that has it whole by the time it looks need not make a stream of it.
        assert (await client.answer()).body in (digest(b"abc"), b"whole abc")
        assert (await client.answer()).status == 200


@both
async def test_an_offered_upgrade_does_not_take_the_body_away(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        upgrade = (b"Connection: upgrade", b"Upgrade: h2c")
        await client.send(sized(b"all", 4, *upgrade) + b"ab")
        await eventually(lambda: server.service.bodies.received == 2)
        await client.send(b"cd" + GET)
        assert (await client.answer()).body == digest(b"abcd")
        assert (await client.answer()).status == 200


# -- pace


@both
async def test_a_body_that_comes_too_slowly_is_a_408(kind: str) -> None:
    async with running(kind, QUICK) as server, await server.connect() as client:
        await client.send(sized(b"all", 10) + b"ab")
        assert (await client.answer()).status == 408
        assert await client.ended()
        assert server.service.bodies.aborted == ["the request body did not arrive in time"]


@both
async def test_drops_do_not_buy_a_body_time(kind: str) -> None:
    async with running(kind, QUICK) as server, await server.connect() as client:
        await client.send(sized(b"all", 10_000))
        for _ in range(50):
            if server.service.bodies.aborted:
                break
            await client.send(b"x")
            await trio.sleep(0.05)
        assert (await client.answer()).status == 408


@both
async def test_a_body_that_keeps_its_pace_is_awaited(kind: str) -> None:
    limits = dataclasses.replace(QUICK, body_bytes_per_s_min=5)
    async with running(kind, limits) as server, await server.connect() as client:
        await client.send(sized(b"all", 12))
        for _ in range(6):
            await client.send(b"ab")
            await trio.sleep(0.12)
        assert (await client.answer()).body == digest(b"ab" * 6)


@both
async def test_time_in_which_nobody_asks_is_not_the_clients(kind: str) -> None:
    async with running(kind, QUICK) as server, await server.connect() as client:
        await client.send(sized(b"later", 4) + b"ab")
        await trio.sleep(1.0)
        server.service.bodies.ask.set()
        await eventually(lambda: server.service.bodies.received == 2)
        await trio.sleep(0.1)
        await client.send(b"cd")
        assert (await client.answer()).body == digest(b"abcd")


@both
async def test_a_client_is_held_back_while_nobody_asks(kind: str) -> None:
    async with running(kind, receive_buffer=32_768) as server, await server.connect() as client:
        total = 8 * MIB
        await client.send(sized(b"later", total))
        sent = 0
        with trio.move_on_after(1.0):
            while sent < total:
                assert isinstance(client.stream, trio.SocketStream)
                sent += await client.stream.socket.send(b"x" * min(16_384, total - sent))
        assert sent < 4 * MIB  # what the kernels' buffers and ours take
        server.service.bodies.ask.set()
        await client.send(b"x" * (total - sent))
        assert (await client.answer()).body == digest(b"x" * total)


# -- ends before the end


@both
@pytest.mark.parametrize("how", ["close", "half", "reset"])
@pytest.mark.parametrize("what", [b"all", b"later"])
async def test_a_client_that_leaves_aborts_its_body(kind: str, how: str, what: bytes) -> None:
    """The handler is told when it asks, and only then."""
    async with running(kind) as server:
        bodies = server.service.bodies
        client = await server.connect()
        await client.send(sized(what, 10) + b"ab")
        await eventually(lambda: len(server.service.requests) == 1)
        if what == b"all":
            await eventually(lambda: bodies.received == 2)
        assert isinstance(client.stream, trio.SocketStream)
        if how == "half":
            await client.stream.send_eof()
        else:
            if how == "reset":
                linger = struct.pack("ii", 1, 0)
                client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await trio.aclose_forcefully(client.stream)
        if what == b"later":
            await trio.sleep(0.2)
            assert not bodies.aborted
            bodies.ask.set()
        await eventually(lambda: bodies.aborted == ["the request body broke off"])
        await eventually(lambda: server.front.connections == 0)


@both
async def test_a_client_that_half_closes_behind_its_body_is_answered(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        body = b"z" * (2 * MIB)
        await client.send(sized(b"later", len(body)) + body[:1000])
        async with trio.open_nursery() as nursery:

            async def send_rest() -> None:
                await client.send(body[1000:])
                assert isinstance(client.stream, trio.SocketStream)
                await client.stream.send_eof()

            nursery.start_soon(send_rest)
            await trio.sleep(0.2)
            server.service.bodies.ask.set()
            assert (await client.answer()).body == digest(body)


@both
async def test_a_body_that_is_none_aborts(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        await client.send(head(b"all", b"Transfer-Encoding: chunked") + b"2\r\nab\r\n")
        await eventually(lambda: server.service.bodies.received == 2)
        await client.send(b"nonsense\r\n" + GET)
        answer = await client.answer()
        assert answer.status == 400
        assert answer.json()["error"]["type"]  # type: ignore[index]
        assert await client.ended()
        await eventually(lambda: len(server.service.bodies.aborted) == 1)
        assert len(server.service.requests) == 1


# -- answers that do not wait for the body


@both
@pytest.mark.parametrize(("what", "status"), [(b"early", 409), (b"some", 413)])
async def test_an_early_answer_reaches_a_client_that_still_sends(
    kind: str, what: bytes, status: int
) -> None:
    async with running(kind, QUICK) as server, await server.connect() as client:
        await client.send(sized(what, 100 * MIB) + b"x" * 1000)
        async with trio.open_nursery() as nursery:

            async def send_on() -> None:
                try:
                    while True:
                        await client.send(b"x" * 65_536)
                except trio.BrokenResourceError:
                    pass

            nursery.start_soon(send_on)
            answer = await client.answer()
            assert answer.status == status
            assert len(server.service.requests) == 1
        await eventually(lambda: server.front.connections == 0)


@both
async def test_what_follows_an_unread_body_is_never_a_request(kind: str) -> None:
    async with running(kind, QUICK) as server, await server.connect() as client:
        smuggled = GET * 3
        await client.send(sized(b"early", len(smuggled) + 10) + smuggled)
        assert (await client.answer()).status == 409
        assert await client.ended()
        assert len(server.service.requests) == 1


@both
async def test_the_head_is_checked_before_a_streamed_body(kind: str) -> None:
    async with running(kind, QUICK) as server, await server.connect() as client:
        await client.send(sized(b"all", 5000, b"X-Refuse: 1"))
        assert (await client.answer()).status == 401
        assert not server.service.requests


# -- 100 Continue


@both
async def test_continue_is_said_when_the_body_is_first_asked_for(kind: str) -> None:
    async with running(kind, QUICK) as server, await server.connect() as client:
        await client.send(sized(b"later", 4, b"Expect: 100-continue"))
        with trio.move_on_after(0.3):
            await client.more()
        assert client.buffer == b""
        server.service.bodies.ask.set()
        assert (await client.answer()).status == 100
        await client.send(b"abcd")
        assert (await client.answer()).body == digest(b"abcd")
        assert await next_request_is_served(client)


@both
async def test_continue_is_not_said_by_who_does_not_ask(kind: str) -> None:
    async with running(kind, QUICK) as server:
        for request in (
            sized(b"early", 4, b"Expect: 100-continue"),
            sized(b"all", 4, b"Expect: 100-continue", b"X-Refuse: 1"),
        ):
            async with await server.connect() as client:
                await client.send(request)
                assert (await client.answer()).status in (409, 401)
                assert await client.ended()


@both
async def test_continue_is_not_said_when_the_body_came_unasked(kind: str) -> None:
    async with running(kind, QUICK) as server, await server.connect() as client:
        await client.send(sized(b"later", 4, b"Expect: 100-continue") + b"ab")
        await trio.sleep(0.2)
        await client.send(b"cd")
        await trio.sleep(0.2)
        server.service.bodies.ask.set()
        answer = await client.answer()
        while answer.status == 100:  # it may be said as long as nothing has come
            answer = await client.answer()
        assert answer.body == digest(b"abcd")


# -- size


@both
async def test_200_mib_pass_through_little_memory(kind: str) -> None:
    total, block = 200 * MIB, b"0123456789abcdef" * 65_536
    async with running(kind) as server, await server.connect() as client:
        await client.send(sized(b"count", total) + block)
        await eventually(lambda: server.service.bodies.received > 0)
        before = resident()
        peak = before
        for _ in range(total // len(block) - 1):
            await client.send(block)
            peak = max(peak, resident())
        assert len((await client.answer()).body) == 64
        assert server.service.bodies.received == total
        assert peak - before < 24 * MIB


def resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as status:
        return int(status.read().split()[1]) * 4096


@both
async def test_draining_lets_a_body_come_to_its_end(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        await client.send(sized(b"all", 4) + b"ab")
        await eventually(lambda: server.service.bodies.received == 2)
        server.front.drain()
        await client.send(b"cd")
        assert (await client.answer()).body == digest(b"abcd")
        assert await client.ended()
        await eventually(lambda: server.front.connections == 0)
