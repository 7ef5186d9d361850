"""What the tests of the fronts share: a service double, a running front, a raw HTTP client."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import parse_qs

import pytest
import trio

from tailrace.operation import Operation, StreamKey
from tailrace.rows import Rows
from tailrace.ticket import RowsTaken
from tailrace_server.context import Found, PlainPage, Wait
from tailrace_server.engine_bridge import GroupContext, RowsContext
from tailrace_server.fast.listener import FastFront
from tailrace_server.front import FrontLimits
from tailrace_server.hypercorn_front import HypercornFront
from tailrace_server.keys import ALL_RIGHTS, Grant
from tailrace_server.live import LiveResponse
from tailrace_server.protocol.message import BodyAborted, Request, Response
from tailrace_server.service import Known, Service

FRONTS = ("fast", "hypercorn")
WAITING = frozenset("none same break inject large wait live flood known".split())
"""Paths that the double cannot answer in a front's turn."""
PATIENCE_S = 10.0
"""Far longer than anything here takes; reaching it is a failure."""
both = pytest.mark.parametrize("kind", FRONTS)
GET = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"
QUICK = FrontLimits(
    head_bytes_max=2048,
    body_bytes_max=1000,
    head_timeout_s=0.3,
    body_timeout_s=0.3,
    idle_timeout_s=30,
    send_timeout_s=0.5,
    linger_s=0.5,
)


def post(path: bytes, body: bytes, *fields: bytes) -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"POST /%b HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n%b" % (
        path,
        lines,
        len(body),
        body,
    )


class Bodies:
    """Handlers of streamed bodies, and what they saw."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.received = 0
        self.aborted: list[str] = []
        self.ask = trio.Event()
        """Handlers that wait before they ask wait for this."""

    async def handle(self, request: Request) -> Response:
        what = request.path.removeprefix("/streamed/")
        stream = request.stream
        if stream is None:
            return Response(200, (), (b"whole " + request.body,))
        assert request.body == b""
        try:
            if what == "early":
                return Response(409, (), (b"conflict",))
            if what == "some":
                self.pieces.append(await stream.receive())
                return Response(413, (), (b"enough",))
            if what == "later":
                await self.ask.wait()
            digest = hashlib.sha256()
            while piece := await stream.receive():
                self.received += len(piece)
                digest.update(piece)
                if what != "count":
                    self.pieces.append(piece)
            assert await stream.receive() == b""
            return Response(200, (), (digest.hexdigest().encode(),))
        except BodyAborted as error:
            self.aborted.append(str(error))
            return error.answer


class ServiceDouble:
    """Answers that show what a front passed on, and waits that show when they were cancelled."""

    generation = 0

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.counted = 0
        self.readers = 0
        self.waiting = 0
        self.finished: list[str] = []
        self.release = trio.Event()
        self.bodies = Bodies()

    def streams(self, request: Request) -> bool:
        return request.path.startswith("/streamed/")

    async def handle(self, request: Request) -> Response | LiveResponse:
        self.requests.append(request)
        if self.streams(request):
            return await self.bodies.handle(request)
        if request.path == "/none":
            return Response(204, (("Stream-Next-Offset", "00000001"),))
        if request.path == "/same":
            return Response(304, (("ETag", '"a"'),))
        if request.path == "/break":
            raise RuntimeError("a defect")
        if request.path == "/inject":
            return Response(200, (("X-Bad", "a\r\nX-Injected: b"),))
        if request.path == "/large":
            size = int(parse_qs(request.query)["n"][0])
            return Response(200, (), (b"a" * (size // 2), memoryview(b"b" * (size - size // 2))))
        if request.path == "/wait":
            self.waiting += 1
            try:
                await self.release.wait()
            finally:
                self.waiting -= 1
            self.finished.append(request.method)
            return Response(200, (), (b"released",))
        if request.path == "/live":
            return LiveResponse(200, (("Content-Type", "text/event-stream"),), self._live)
        if request.path == "/known":
            return self._known(parse_qs(request.query))
        if request.path == "/flood":
            return LiveResponse(200, (("Content-Type", "text/event-stream"),), self._flood)
        return self._show(request)

    def _show(self, request: Request) -> Response:
        seen = {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": [h for h in request.headers if h[0].startswith("x-")],
            "body": request.body.decode("latin-1"),
        }
        return Response(200, (("Content-Type", "application/json"),), (json.dumps(seen).encode(),))

    def know(self, request: Request) -> Known | None:
        """What :meth:`handle` answers by showing the request needs no waiting."""
        if request.path[1:] in WAITING or self.streams(request) or request.header("x-refuse"):
            return None
        return Known(request, "double", Grant(ALL_RIGHTS, ("*",)), lambda body: None)

    def version(self, key: StreamKey) -> object | None:
        """No answer of this double lasts."""
        return None

    def plan(self, known: Known, body: bytes, seq: int | None = None) -> Response:
        request = dataclasses.replace(known.request, body=body)
        self.requests.append(request)
        if request.path == "/at-once":
            return Response(200, (), (b"a" * int(parse_qs(request.query)["n"][0]),))
        return self._show(request)

    def pages(self, asked: Sequence[tuple[StreamKey, int]]) -> list[PlainPage | None]:
        raise AssertionError("no head has siblings")

    def look(self, known: Known, wait: Wait, *, over: bool) -> Found | Wait | None:
        raise AssertionError("nothing waits in the reactor")

    def stage(self, operations: Sequence[Operation], contexts: Sequence[GroupContext]) -> None:
        raise AssertionError("nothing was planned")

    def stage_rows(self, rows: Rows, context: RowsContext) -> RowsTaken:
        raise AssertionError("nothing is in a lane")

    def fault(self, known: Known, error: Exception) -> Response:
        raise AssertionError("nothing was staged")

    def answered(self, route: str, status: int, count: int) -> None:
        self.counted += count

    def check_head(self, request: Request) -> Response | None:
        if request.header("x-refuse") is None:
            return None
        return Response(401, (("Content-Type", "application/json"),), (b'{"error":{}}',))

    async def _live(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        self.readers += 1
        try:
            await send(b"data: first\n\n")
            await self.release.wait()
            await send(b"data: last\n\n")
        finally:
            self.readers -= 1

    def _known(self, query: dict[str, list[str]]) -> LiveResponse:
        """An answer of a length it tells, which sends so many pieces of 1,000 bytes."""
        status, length, pieces = (int(query[name][0]) for name in ("status", "length", "pieces"))

        async def run(send: Callable[[bytes], Awaitable[None]]) -> None:
            for _ in range(pieces):
                await send(b"k" * 1000)
            if "fail" in query:
                raise RuntimeError("a defect")

        return LiveResponse(status, (("Content-Type", "text/plain"),), run, length)

    async def _flood(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        self.readers += 1
        try:
            while True:
                await send(b"x" * 65536)
        finally:
            self.readers -= 1

    async def drain(self) -> None:
        self.release.set()


@dataclass
class Running:
    front: FastFront | HypercornFront
    service: ServiceDouble
    port: int

    async def connect(self) -> RawClient:
        return RawClient(await trio.open_tcp_stream("127.0.0.1", self.port))

    async def ask(self, request: bytes, method: str = "GET") -> Answer:
        async with await self.connect() as client:
            await client.send(request)
            return await client.answer(method)


@asynccontextmanager
async def at_work(
    front: FastFront | HypercornFront,
    service: Service | None = None,
    *,
    buffers: Mapping[int, int | None] = MappingProxyType({}),
) -> AsyncIterator[tuple[int, trio.Nursery]]:
    """A front on a free port, and the real service that it is over, if that is one; its port.

    Both are cut off at the end. ``buffers`` are sizes that accepted sockets inherit, by their
    option.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    for option, size in buffers.items():
        if size is not None:
            listener.setsockopt(socket.SOL_SOCKET, option, size)
    async with trio.open_nursery() as nursery:
        if service is not None:
            await nursery.start(service.run)
        await nursery.start(front.serve, [listener])
        yield listener.getsockname()[1], nursery
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def running(
    kind: str, limits: FrontLimits | None = None, receive_buffer: int | None = None
) -> AsyncIterator[Running]:
    """A front over a service double on a free port; cut off at the end."""
    service = ServiceDouble()
    front = (FastFront if kind == "fast" else HypercornFront)(service, limits)
    sizes = {socket.SO_RCVBUF: receive_buffer, socket.SO_SNDBUF: receive_buffer}
    async with at_work(front, buffers=sizes) as (port, _):
        yield Running(front, service, port)


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(values) if values else None

    def json(self) -> object:
        return json.loads(self.body)


class Truncated(Exception):
    """The connection ended before the answer did."""


class RawClient:
    """Sends bytes as they are and reads answers strictly."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.buffer = b""

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await trio.aclose_forcefully(self.stream)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def more(self) -> bool:
        with trio.fail_after(PATIENCE_S):
            data = await self.stream.receive_some()
        self.buffer += data
        return bool(data)

    async def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            if not await self.more():
                raise Truncated(self.buffer)
        found, _, self.buffer = self.buffer.partition(mark)
        return found

    async def exactly(self, length: int) -> bytes:
        while len(self.buffer) < length:
            if not await self.more():
                raise Truncated(self.buffer)
        found, self.buffer = self.buffer[:length], self.buffer[length:]
        return found

    async def head(self) -> Answer:
        lines = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        assert version == "HTTP/1.1"
        headers = [(n.lower(), v) for n, _, v in (line.partition(": ") for line in lines[1:])]
        return Answer(int(status), headers, b"")

    async def chunk(self) -> bytes:
        size = int(await self.until(b"\r\n"), 16)
        data = await self.exactly(size)
        assert await self.exactly(2) == b"\r\n"
        return data

    async def answer(self, method: str = "GET") -> Answer:
        found = await self.head()
        if method == "HEAD" or found.status in (204, 304) or found.status < 200:
            return found
        length = found.header("content-length")
        if length is not None:
            found.body = await self.exactly(int(length))
        elif found.header("transfer-encoding") == "chunked":
            while data := await self.chunk():
                found.body += data
        else:
            while await self.more():
                pass
            found.body, self.buffer = self.buffer, b""
        return found

    async def ended(self) -> bool:
        """Whether the server has closed its side, with nothing more to read."""
        try:
            return not self.buffer and not await self.more()
        except trio.BrokenResourceError:
            return True


async def eventually(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Wait until ``condition`` holds; TooSlowError if it does not."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await trio.sleep(0.005)
