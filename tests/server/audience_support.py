"""A real front over a real store, and clients of it that follow streams over sockets."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

import tailrace
from tailrace_server.config import ServiceConfig
from tailrace_server.fast.listener import FastFront
from tailrace_server.front import FrontLimits
from tailrace_server.keys import Key, KeyRing
from tailrace_server.service import Service
from tests.server.front_support import PATIENCE_S, RawClient, Truncated, at_work, eventually
from tests.server.service_support import Client, Event, Tail
from tests.server.streams.stream_support import JSON, at, post, put

PATIENT = ServiceConfig(sse_heartbeat_s=600, sse_lifetime_s=600)


@dataclass
class Follower:
    """One client. ``tail`` is the body so far, taken out of its chunks."""

    raw: RawClient
    tail: Tail = field(default_factory=lambda: Tail({}))
    whole: bool = False
    """The response ended as a response does: with its last chunk."""

    async def read(self, *, pauses: random.Random | None = None) -> None:
        """Read until the server ends it; with ``pauses``, slowly."""
        try:
            while data := await self.raw.chunk():
                self.tail.raw += data
                self.tail.told()
                if pauses is not None and pauses.random() < 0.05:
                    await trio.sleep(pauses.random() / 50)
            self.whole = True
        except (Truncated, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self.tail.ended = True
        self.tail.told()

    def records(self) -> list[Any]:
        """The records received, in order, after looking at how each batch was announced."""
        return records_of(self.tail.events())


def records_of(events: Sequence[Event]) -> list[Any]:
    """The records of ``data`` events, each of which a ``control`` event must follow at once.

    That one says how far the stream has been sent (protocol section 5.8).
    """
    found: list[Any] = []
    start: int | None = None
    for before, event in zip((None, *events), events, strict=False):
        if event.name == "data":
            found += event.json
        else:
            assert event.name == "control"
            upto = int(event.json["streamNextOffset"])
            if start is None:
                start = upto - len(found)
            assert upto == start + len(found)
            assert event.id == (f"{upto - 1:08}" if upto else "-1")
            if before is not None and before.name == "control":
                assert event.json.get("streamClosed") or event.json["upToDate"]
    return found


@dataclass
class Server:
    client: Client
    port: int
    nursery: trio.Nursery

    @property
    def members(self) -> int:
        """Readers in audiences."""
        return self.client.service.context.hub.broadcast.members

    @property
    def readers(self) -> int:
        return self.client.service.context.hub.readers

    async def together(self, count: int) -> None:
        """Until so many readers are in audiences."""
        await eventually(lambda: self.members == count)

    async def follow(
        self,
        path: str,
        query: str = "offset=now",
        headers: str = "",
        *,
        pauses: random.Random | None = None,
        receive_buffer: int | None = None,
        read: bool = True,
    ) -> Follower:
        """Open an event stream, and read it in the background."""
        sock = trio.socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await sock.connect(("127.0.0.1", self.port))
        follower = Follower(RawClient(trio.SocketStream(sock)))
        target = path if path.startswith("/") else at(path)
        request = f"GET {target}?{query}&live=sse HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
        await follower.raw.send(request.encode())
        answer = await follower.raw.head()
        assert answer.status == 200
        if read:

            async def run() -> None:
                await follower.read(pauses=pauses)

            self.nursery.start_soon(run)
        return follower

    async def make(self, path: str) -> None:
        await put(self.client, path, b"", JSON)

    async def audience(self, path: str, count: int) -> list[Follower]:
        """A new stream, and so many who follow it together."""
        await self.make(path)
        followers = [await self.follow(path) for _ in range(count)]
        await self.together(count)
        return followers

    async def append(self, path: str, *records: object, headers: dict[str, str] = JSON) -> None:
        answer = await post(self.client, path, json.dumps(records).encode(), JSON | headers)
        assert answer.status in (200, 204), answer.body


@asynccontextmanager
async def live_server(
    directory: Path,
    *,
    config: ServiceConfig = PATIENT,
    keys: Sequence[Key | str] = (),
    send_buffer: int | None = None,
    limits: FrontLimits | None = None,
    patience_s: float = 4 * PATIENCE_S,
    now_ms: Callable[[], int] | None = None,
) -> AsyncIterator[Server]:
    with tailrace.open(directory, now_ms=now_ms) as store:
        service = Service(store, config, KeyRing(keys))
        front = FastFront(service, limits)
        buffers = {socket.SO_SNDBUF: send_buffer}
        async with at_work(front, service, buffers=buffers) as (port, nursery):
            client = Client(service, store, nursery)
            with trio.fail_after(patience_s):
                yield Server(client, port, nursery)


async def batches(tail: Tail, count: int) -> None:
    """Until so many batches have come."""
    await tail.until(lambda tail: tail.raw.count(b"event: control") == count)
