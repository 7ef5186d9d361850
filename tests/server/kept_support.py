"""What the tests of kept answers share: the front over a real service, and answers made anew."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

import tailrace
from tailrace.options import Options
from tailrace_server.fast import writer
from tailrace_server.fast.listener import FastFront
from tailrace_server.keys import KeyRing
from tailrace_server.live import LiveResponse
from tailrace_server.protocol.message import HeaderList, Request
from tailrace_server.service import Service, ServiceConfig
from tests.server.front_support import Answer, RawClient

JSON = (("content-type", "application/json"),)
TEXT = (("content-type", "text/plain"),)
Head = tuple[str, str, HeaderList]


class Running:
    """The front over the real service and a real store, and one connection to it."""

    def __init__(self, store: tailrace.Store, keys: KeyRing, *, access_log: bool) -> None:
        self.store = store
        self.keys = keys
        self.service = Service(store, ServiceConfig(), keys)
        self.front = FastFront(self.service, access_log=access_log)
        self.port = 0
        self.client: RawClient

    async def connect(self) -> RawClient:
        return RawClient(await trio.open_tcp_stream("127.0.0.1", self.port))

    async def ask(
        self, method: str, target: str, fields: HeaderList = (), body: bytes = b""
    ) -> Answer:
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in fields]
        if method not in ("GET", "HEAD"):
            lines.append(f"Content-Length: {len(body)}")
        await self.client.send("\r\n".join((*lines, "", "")).encode() + body)
        return await self.client.answer(method)

    async def made_anew(self, method: str, target: str, fields: HeaderList) -> bytes:
        path, _, query = target.partition("?")
        request = Request(method, path, query, (("host", "localhost"), *fields), b"")
        response = await self.service.handle(request)
        assert not isinstance(response, LiveResponse)
        return writer.joined(response, method, close=False)

    async def compare(self, head: Head) -> Answer:
        """Ask until an answer would be kept; each must be the one that is made anew."""
        for _ in range(3):
            answer = await self.ask(*head)
            method, target, fields = head
            expected = await self.made_anew(method, target, fields)
            assert whole(answer, method) == undated(expected)
        return answer

    @property
    def given_again(self) -> int:
        return self.front.counters.answers_kept


@asynccontextmanager
async def serving(
    directory: Path, keys: KeyRing | None = None, *, access_log: bool = False
) -> AsyncIterator[Running]:
    options = Options(segment_bytes=1 << 20, mark_idle_s=None)
    with tailrace.open(directory, options=options) as store:
        running = Running(store, keys or KeyRing(), access_log=access_log)
        listener = socket.create_server(("127.0.0.1", 0))
        running.port = listener.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(running.service.run)
            await nursery.start(running.front.serve, [listener])
            async with await running.connect() as running.client:
                yield running
            nursery.cancel_scope.cancel()


def undated(data: bytes) -> tuple[list[bytes], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    _, code, _ = status.split(b" ", 2)
    return sorted((code, *(f.lower() for f in fields if not f.startswith(b"Date: ")))), body


def whole(answer: Answer, method: str) -> tuple[list[bytes], bytes]:
    fields = [
        f"{name}: {value}".lower().encode("latin-1")
        for name, value in answer.headers
        if name != "date"
    ]
    return sorted((str(answer.status).encode(), *fields)), answer.body
