"""The reactor and the turn over it: what is answered at once, what is handed over and back."""

from __future__ import annotations

import dataclasses
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

import tailrace
from tailrace.operation import Operation
from tailrace_server.config import ServiceConfig
from tailrace_server.fast import heads
from tailrace_server.fast.listener import FastFront
from tailrace_server.fast.reactor import Reactor
from tailrace_server.fast.turn import CLOSE, HANDOVER, REQUEST, Row
from tailrace_server.front import FrontLimits
from tailrace_server.keys import Key, KeyRing
from tailrace_server.protocol.message import Response
from tailrace_server.service import Known, Service
from tests.server.front_support import (
    Answer,
    RawClient,
    ServiceDouble,
    at_work,
    eventually,
    running,
)

GET = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"
JSON = b"Content-Type: application/json"
QUICK = FrontLimits(idle_timeout_s=30, send_timeout_s=0.4, linger_s=0.3)


def post(path: bytes, body: bytes, *fields: bytes) -> bytes:
    lines = b"".join(field + b"\r\n" for field in (JSON, *fields))
    head = b"POST /%b HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n%b"
    return head % (path, lines, len(body), body)


def get(path: bytes, *fields: bytes, method: bytes = b"GET") -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"%b /%b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (method, path, lines)


@asynccontextmanager
async def serving(
    directory: Path,
    keys: KeyRing | None = None,
    config: ServiceConfig | None = None,
    *,
    access_log: bool = False,
) -> AsyncIterator[tuple[FastFront, Service, int]]:
    """The front over the real service and a real store."""
    with tailrace.open(directory) as store:
        service = Service(store, config or ServiceConfig(), keys or KeyRing())
        front = FastFront(service, access_log=access_log)
        async with at_work(front, service) as (port, _):
            yield front, service, port


async def connect(port: int) -> RawClient:
    return RawClient(await trio.open_tcp_stream("127.0.0.1", port))


async def ask(client: RawClient, request: bytes) -> Answer:
    await client.send(request)
    return await client.answer(request.split(b" ", 1)[0].decode())


# -- in the front's own turn


async def test_appends_reads_heads_and_errors_need_no_task(tmp_path: Path) -> None:
    async with serving(tmp_path) as (front, _, port), await connect(port) as client:
        assert (await ask(client, post(b"v1/sessions/s/events", b'{"type":"a"}'))).status == 204
        assert (await ask(client, get(b"v1/stream/a", JSON, method=b"PUT"))).status == 201
        assert (await ask(client, get(b"ds/abcd", method=b"PUT"))).status == 201
        assert (await ask(client, get(b"ds/abcd/b", JSON, method=b"PUT"))).status == 201
        handed_over = front.handed_over
        for path in (b"v1/stream/a", b"ds/abcd/b"):
            assert (await ask(client, post(path, b"[1,2]"))).header(
                "stream-next-offset"
            ) == "00000002"
            assert (await ask(client, get(path))).body == b"[1,2]"
            assert (await ask(client, get(path + b"?offset=now"))).body == b"[]"
            assert (await ask(client, get(path, method=b"HEAD"))).status == 200
            assert (await ask(client, post(path, b"[1,"))).status == 400
            assert (await ask(client, post(path, b"", b"Stream-Closed: true"))).status == 204
            assert (await ask(client, post(path, b"1"))).status == 409
        events = b"v1/sessions/s/events"
        page = (await ask(client, get(events))).json()
        assert isinstance(page, dict) and len(page["data"]) == 1
        assert (await ask(client, get(events, method=b"HEAD"))).status == 200
        assert (await ask(client, get(b"none"))).status == 404
        assert (await ask(client, get(events, method=b"PATCH"))).status == 405
        assert front.handed_over == handed_over
        metrics = (await ask(client, get(b"metrics"))).body
        counted = b'tailrace_http_requests_total{route="%b",status="204"} 2.0'
        assert counted % b"/v1/stream/{stream_name*}" in metrics


async def test_more_heads_than_are_kept_are_answered_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Appends with and without a producer, whose lanes end with their heads, and reads."""
    monkeypatch.setattr(heads, "HEADS_MAX", 16)
    async with serving(tmp_path) as (front, _, port):
        paths = [b"v1/stream/s%d" % number for number in range(8)]
        for path in paths:
            async with await connect(port) as client:
                assert (await ask(client, get(path, JSON, method=b"PUT"))).status == 201
        handed_over = front.handed_over
        async with await connect(port) as client:
            for turn in range(10):
                for path in paths:
                    whose = (b"Producer-Id: p", b"Producer-Epoch: 0", b"Producer-Seq: %d" % turn)
                    plain, mine = post(path, b"%d" % turn), post(path, b"[-%d]" % turn, *whose)
                    await client.send(plain + mine + get(path))
                    statuses = [(await client.answer("POST")).status for _ in "12"]
                    assert statuses == [204, 200]
                    records = [number for past in range(turn + 1) for number in (past, -past)]
                    assert (await client.answer()).json() == records
            assert 0 < front.figures()["heads_kept"] < 10 * 3 * len(paths)
        assert front.handed_over == handed_over


async def test_equal_heads_are_understood_once_whatever_the_length(tmp_path: Path) -> None:
    async with serving(tmp_path) as (front, _, port), await connect(port) as client:
        for size in range(20):
            body = b'{"type":"%b"}' % (b"a" * (size + 1))
            assert (await ask(client, post(b"v1/sessions/s/events", body))).status == 204
        assert front.figures()["heads_kept"] == 19
        answer = await ask(client, get(b"v1/sessions/s/events"))
        page = answer.json()
        assert isinstance(page, dict)
        assert [len(event["type"]) for event in page["data"]] == list(range(1, 21))


async def test_a_removed_key_is_worth_nothing_on_its_next_request(tmp_path: Path) -> None:
    keys = KeyRing([Key("one"), Key("two")])
    async with serving(tmp_path, keys) as (_, _, port), await connect(port) as client:
        one = post(b"v1/sessions/s/events", b'{"type":"a"}', b"x-api-key: one")
        assert [(await ask(client, one)).status for _ in range(2)] == [204, 204]
        keys.replace([Key("two")])
        assert (await ask(client, one)).status == 401
        keys.replace([Key("two"), Key("one")])
        assert (await ask(client, one)).status == 204


async def test_what_cannot_be_staged_is_told_to_everyone_who_asked(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, service, port):
        store = service.context.store

        def full(operations: list[Operation], contexts: object, **_: object) -> None:
            raise tailrace.Overloaded("full", retry_after_s=2)

        store.submit_each = full  # type: ignore[method-assign,assignment]
        for _ in range(2):
            async with await connect(port) as client:
                answer = await ask(client, post(b"v1/sessions/s/events", b'{"type":"a"}'))
                assert (answer.status, answer.header("retry-after")) == (503, "2")


async def test_a_defect_met_by_one_request_is_its_own_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = ServiceDouble.plan

    def plan(self: ServiceDouble, known: Known, body: bytes, seq: int | None = None) -> Response:
        if body == b"defect":
            raise RuntimeError("a defect")
        return real(self, known, body)

    monkeypatch.setattr(ServiceDouble, "plan", plan)
    async with running("fast") as front:
        async with await front.connect() as other, await front.connect() as client:
            answer = await ask(client, post(b"", b"defect"))
            assert (answer.status, answer.header("connection")) == (500, "close")
            assert (await ask(other, get(b""))).status == 200


async def test_many_clients_get_their_own_answers_in_order(tmp_path: Path) -> None:
    """Each asks for its own stream, pipelined; the offsets tell whose answer it was."""
    async with serving(tmp_path) as (_, _, port):

        async def client(number: int) -> None:
            async with await connect(port) as raw:
                path = b"v1/sessions/s%d/events" % number
                await raw.send(post(path, b'{"type":"a"}') * 20)
                for expected in range(1, 21):
                    answer = await raw.answer("POST")
                    assert answer.status == 204
                    assert answer.header("stream-next-offset") == f"{expected:08d}"

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(client, number)


# -- handed over, and back


async def test_an_idle_connection_goes_back_to_the_reactor() -> None:
    async with running("fast", QUICK) as server, await server.connect() as client:
        front = server.front
        assert isinstance(front, FastFront)
        for path in (b"none", b"x", b"none", b"x"):
            await client.send(GET % path)
            assert (await client.answer()).status in (200, 204)
        assert (front.handed_over, front.figures()["adopted"]) == (2, 2)
        assert (front.connections, front.figures()["tasks"]) == (1, 0)


async def test_a_connection_that_is_never_plain_stays_where_it_is() -> None:
    async with running("fast", QUICK) as server, await server.connect() as client:
        front = server.front
        assert isinstance(front, FastFront)
        for _ in range(20):
            await client.send(GET % b"none")
            assert (await client.answer()).status == 204
        assert front.handed_over == 5
        await eventually(lambda: front.figures()["tasks"] == 0)  # it rested


async def test_a_large_answer_that_is_not_taken_at_once_is_finished_by_the_reactor() -> None:
    async with running("fast", receive_buffer=4096) as server:
        async with await server.connect() as client:
            await client.send(GET % b"at-once?n=3000000" + GET % b"x")
            await trio.sleep(0.05)
            assert len((await client.answer()).body) == 3_000_000
            assert (await client.answer()).json()["path"] == "/x"  # type: ignore[index]
            assert isinstance(server.front, FastFront)
            assert server.front.figures()["kept"] == 1


async def test_a_client_that_takes_no_answer_is_cut_off() -> None:
    async with running("fast", QUICK, receive_buffer=4096) as server:
        async with await server.connect() as client:
            await client.send(GET % b"at-once?n=8000000")
            await eventually(lambda: server.service.counted == 1)
            await eventually(lambda: server.front.connections == 0)


async def test_the_last_answer_is_read_before_the_reset() -> None:
    """The client has sent more than was read when its connection is closed."""
    async with running("fast", QUICK) as server, await server.connect() as client:
        last = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        await client.send(last + b"x" * 300_000)
        answer = await client.answer()
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert await client.ended()


async def test_half_of_a_request_is_finished_by_a_task() -> None:
    async with running("fast") as server, await server.connect() as client:
        await client.send(b"GET /x HTTP/1.1\r\nHo")
        front = server.front
        assert isinstance(front, FastFront)
        await eventually(lambda: front.figures()["tasks"] == 1)
        await client.send(b"st: a\r\n\r\n")
        assert (await client.answer()).status == 200


# -- the reactor alone


@asynccontextmanager
async def reactor_of(limits: FrontLimits) -> AsyncIterator[tuple[Reactor, socket.socket]]:
    reactor = Reactor(limits)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        reactor.listen(listener.fileno())
        try:
            yield reactor, listener
        finally:
            reactor.close()


async def rows_of(reactor: Reactor, count: int = 1) -> list[tuple[Row, bytes]]:
    found: list[tuple[Row, bytes]] = []
    with trio.fail_after(5):
        while len(found) < count:
            await trio.lowlevel.wait_readable(reactor.descriptor)
            arena, rows, _ = reactor.poll(100)
            for row in map(Row._make, rows):
                end = row.head + row.head_length + row.body_length
                found.append((row, arena[row.head : end]))
    return found


async def test_a_handle_is_good_for_one_answer_and_one_connection() -> None:
    async with reactor_of(FrontLimits()) as (reactor, listener):
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(GET % b"a" + GET % b"b")
            ((first, data),) = await rows_of(reactor)
            assert (first.kind, data) == (REQUEST, GET % b"a")
            assert reactor.answer([first.handle] * 2, [b"1", b"2"], bytes(2)) == 1
            ((second, data),) = await rows_of(reactor)
            assert data == GET % b"b"
            assert second.handle != first.handle
            assert reactor.answer([second.handle], [b"3"], bytes([CLOSE])) == 1
            assert (client.recv(10), client.recv(10)) == (b"13", b"")
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(GET % b"c")
            ((third, _),) = await rows_of(reactor)
            assert third.handle != first.handle
            assert reactor.answer([first.handle], [b"not yours"], bytes(1)) == 0
            assert reactor.take(first.handle) is None
            assert reactor.answer([third.handle], [b"4"], bytes(1)) == 1
            assert client.recv(100) == b"4"
        assert reactor.counters()["stale"] == 3


async def test_a_connection_is_taken_with_all_it_holds_and_adopted() -> None:
    async with reactor_of(FrontLimits()) as (reactor, listener):
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(GET % b"a" + b"BREW / HTTP/1.1\r\n")
            ((row, _),) = await rows_of(reactor)
            taken = reactor.take(row.handle)
            assert taken is not None
            assert (taken.input, taken.output) == (b"BREW / HTTP/1.1\r\n", b"")
            assert reactor.counters()["open"] == 0
            assert reactor.adopt(taken.descriptor, 3)
            client.sendall(b"BREW / HTTP/1.1\r\n")
            ((row, _),) = await rows_of(reactor)
            assert row.kind == HANDOVER
            again = reactor.take(row.handle)
            assert again is not None
            assert (again.descriptor, again.tag) == (taken.descriptor, 3)
            socket.close(again.descriptor)


async def test_a_draining_reactor_answers_what_is_out_and_closes() -> None:
    async with reactor_of(FrontLimits()) as (reactor, listener):
        busy, idle = (socket.create_connection(listener.getsockname()) for _ in range(2))
        with busy, idle:
            busy.sendall(GET % b"a")
            ((row, _),) = await rows_of(reactor)
            await eventually(lambda: bool(reactor.poll(100)) and reactor.counters()["open"] == 2)
            reactor.drain()
            assert idle.recv(1) == b""
            assert not reactor.adopt(idle.fileno(), 0)
            assert reactor.answer([row.handle], [b"done"], bytes(1)) == 1
            assert (busy.recv(10), busy.recv(10)) == (b"done", b"")
            assert reactor.counters()["open"] == 0


async def test_a_client_that_was_reset_gets_nothing_and_harms_nobody() -> None:
    async with reactor_of(FrontLimits()) as (reactor, listener):
        client = socket.create_connection(listener.getsockname())
        client.sendall(GET % b"a")
        ((row, _),) = await rows_of(reactor)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with trio.fail_after(5):
            await trio.lowlevel.wait_readable(reactor.descriptor)  # the reset has come
        assert reactor.answer([row.handle], [b"nobody"], bytes(1)) == 1
        assert reactor.counters()["open"] == 0
        assert reactor.counters()["unsent"] == 1


@pytest.mark.parametrize("field", ["head_bytes_max", "body_bytes_max", "head_fields_max"])
async def test_what_is_beyond_a_limit_is_handed_over(field: str) -> None:
    limits = dataclasses.replace(FrontLimits(), **{field: {"head_fields_max": 2}.get(field, 60)})
    async with reactor_of(limits) as (reactor, listener):
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(post(b"x", b"y" * 61))
            ((row, _),) = await rows_of(reactor)
            assert row.kind == HANDOVER
