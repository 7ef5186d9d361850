"""Clients whose plain appends come together, so that the front takes them as rows.

In one turn, mostly: that is for the machine to say, so a test may count on nothing of it but
that a head is known once a request that had it was answered.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import trio
import trio.testing

from tailrace_server.fast.listener import FastFront
from tests.server.front_support import Answer, RawClient
from tests.server.test_vectorized_front import ask, get

JSON = b"Content-Type: application/json"
TEXT = b"Content-Type: text/plain"
OF_THE_MOMENT = {"date", "connection"}


def request(method: bytes, stream: bytes, body: bytes | None, *fields: bytes) -> bytes:
    lines = [b"%b /v1/stream/%b HTTP/1.1" % (method, stream), b"Host: localhost", *fields]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def post(stream: bytes, body: bytes, *fields: bytes) -> bytes:
    return request(b"POST", stream, body, *(fields or (JSON,)))


def put(stream: bytes, *fields: bytes) -> bytes:
    return request(b"PUT", stream, None, *(fields or (JSON,)))


class Clients:
    """Connections that can send without a pause, so that a turn may see all their requests."""

    def __init__(self, port: int, count: int) -> None:
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        self._clients = [
            RawClient(trio.SocketStream(trio.socket.from_stdlib_socket(sock)))
            for sock in self._sockets
        ]

    async def ask(self, requests: Sequence[bytes]) -> list[Answer]:
        await trio.testing.wait_all_tasks_blocked()
        for sock, data in zip(self._sockets, requests, strict=False):
            assert sock.send(data) == len(data)
        return [
            await client.answer(data.split(b" ", 1)[0].decode())
            for client, data in zip(self._clients, requests, strict=False)
        ]

    async def statuses(self, requests: Sequence[bytes]) -> list[int]:
        return [answer.status for answer in await self.ask(requests)]

    async def in_turn(self, requests: Sequence[bytes]) -> list[int]:
        """The same one by one: whether a head is known does not hang on how they came."""
        return [status for data in requests for status in await self.statuses([data])]


def taken(front: FastFront) -> int:
    return front.figures()["rows_taken"]


async def content(client: RawClient, stream: bytes) -> bytes:
    return (await ask(client, get(b"v1/stream/" + stream))).body
