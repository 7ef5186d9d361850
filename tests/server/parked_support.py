"""A front over a real store, and clients whose long-polls wait in its reactor."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

import tailrace
from tailrace_server.config import ServiceConfig
from tailrace_server.fast.listener import FastFront
from tailrace_server.keys import Key, KeyRing
from tailrace_server.service import Service
from tests.server.front_support import PATIENCE_S, Answer, RawClient, at_work, eventually
from tests.server.service_support import Client
from tests.server.streams.stream_support import JSON, at, post, put

PATIENT = ServiceConfig(long_poll_timeout_s=600)
NOW = "offset=now"


def poll_request(target: str, query: str = NOW, *fields: str) -> bytes:
    lines = "".join(f"{field}\r\n" for field in fields)
    return (
        f"GET {target}?{query}&live=long-poll HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"
    ).encode()


@dataclass
class Server:
    """``client`` calls the service without a front, so it needs no connection."""

    front: FastFront
    service: Service
    client: Client
    keys: KeyRing
    port: int

    @property
    def readers(self) -> int:
        return self.service.context.hub.readers

    def figure(self, name: str) -> int:
        return self.front.figures()[name]

    async def parked(self, count: int) -> None:
        """Until so many wait in the reactor. Nobody who does has a task."""
        await eventually(lambda: self.figure("parked") == count)
        assert self.readers == count

    async def asked(self, count: int) -> None:
        """Until the reactor has read so many requests."""
        await eventually(lambda: self.figure("requests") == count)

    async def connect(self, receive_buffer: int | None = None) -> RawClient:
        sock = trio.socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await sock.connect(("127.0.0.1", self.port))
        return RawClient(trio.SocketStream(sock))

    async def poll(
        self, path: str, query: str = NOW, *fields: str, receive_buffer: int | None = None
    ) -> RawClient:
        """A client that has asked, and not read its answer."""
        raw = await self.connect(receive_buffer)
        await raw.send(poll_request(path if path.startswith("/") else at(path), query, *fields))
        return raw

    async def polls(self, count: int, path: str, query: str = NOW) -> list[RawClient]:
        clients = [await self.poll(path, query) for _ in range(count)]
        await self.parked(count)
        return clients

    async def make(self, path: str, headers: dict[str, str] = JSON) -> None:
        assert (await put(self.client, path, b"", headers)).status == 201

    async def append(self, path: str, *records: object, headers: dict[str, str] = JSON) -> None:
        body = json.dumps(records).encode() if records else b""
        assert (await post(self.client, path, body, JSON | headers)).status in (200, 204)


async def taken(client: RawClient) -> Answer:
    """The client's answer; then it leaves."""
    async with client:
        return await client.answer()


async def all_taken(clients: Sequence[RawClient]) -> list[Answer]:
    return [await taken(client) for client in clients]


def reset(client: RawClient) -> None:
    """Leave with a RST."""
    assert isinstance(client.stream, trio.SocketStream)
    sock = client.stream.socket
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@asynccontextmanager
async def serving(
    directory: Path,
    config: ServiceConfig = PATIENT,
    *,
    keys: Sequence[Key | str] = (),
    options: tailrace.Options = tailrace.Options(),
    send_buffer: int | None = None,
    access_log: bool = False,
    now_ms: Callable[[], int] | None = None,
) -> AsyncIterator[Server]:
    with tailrace.open(directory, options=options, now_ms=now_ms) as store:
        ring = KeyRing(keys)
        service = Service(store, config, ring)
        front = FastFront(service, access_log=access_log)
        buffers = {socket.SO_SNDBUF: send_buffer}
        async with at_work(front, service, buffers=buffers) as (port, nursery):
            client = Client(service, store, nursery)
            with trio.fail_after(6 * PATIENCE_S):
                yield Server(front, service, client, ring, port)
        assert service.context.hub.readers == 0
        assert not service.context.bridge.subscribers
