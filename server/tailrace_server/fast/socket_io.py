"""The socket of one connection: waiting for its client holds up nobody else, and has an end."""

from __future__ import annotations

import socket
from enum import Enum, auto
from math import inf
from typing import Final

import trio

from tailrace.limits import KIB
from tailrace_server.fast import writer
from tailrace_server.front import FrontLimits
from tailrace_server.protocol.message import Chunk, Response

_RECEIVE_BYTES: Final = 64 * KIB
_JOIN_BYTES_MAX: Final = 64 * KIB
"""Up to here a copy into one buffer is cheaper than a gathered write."""
_GATHER_PIECES_MAX: Final = 512  # Linux allows 1,024 (IOV_MAX)
_STEPS_BETWEEN_YIELDS: Final = 16
"""Receives and answers that may happen without a wait before other connections get their turn."""


class End(Enum):
    """Why a connection's scope was cancelled."""

    IDLE = auto()
    HEAD_LATE = auto()
    BODY_LATE = auto()
    SEND_STALLED = auto()
    CLIENT_LEFT = auto()
    DRAINED = auto()


class SocketIo:
    """A non-blocking socket. Past ``deadline``, a Trio time, its connection is to be ended, and
    ``deadline_means`` says why.
    """

    __slots__ = ("_limits", "_socket", "_steps", "deadline", "deadline_means")

    def __init__(self, sock: socket.socket, limits: FrontLimits) -> None:
        self._socket = sock
        self._limits = limits
        self._steps = 0
        self.deadline = inf
        self.deadline_means = End.IDLE

    async def take_turn(self) -> None:
        """Now and then let others run, however busy this client keeps us."""
        self._steps += 1
        if self._steps % _STEPS_BETWEEN_YIELDS == 0:
            await trio.lowlevel.checkpoint()

    async def receive(self) -> bytes:
        await self.take_turn()
        while True:
            try:
                return self._socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)

    async def send_response(
        self, method: str, response: Response, *, close: bool, http_10: bool
    ) -> int:
        """Send a whole response; the number of its body bytes that went out."""
        head, body, length = writer.whole_or_500(response, method, close=close, http_10=http_10)
        if not body:
            await self.send(head)
        elif len(head) + length <= _JOIN_BYTES_MAX:
            await self.send(b"".join((head, *body)))
        else:
            await self.send_gathered([head, *body])
        return length

    async def send(self, data: Chunk) -> None:
        """Send all of ``data``; only this connection waits for a slow client."""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            await self.send_gathered([memoryview(data)[sent:]])

    async def send_gathered(self, pieces: list[bytes | bytearray | memoryview]) -> None:
        """Send all pieces without joining them."""
        views = [memoryview(piece).cast("B") for piece in pieces if len(piece)]
        views.reverse()
        before = self.deadline, self.deadline_means
        while views:
            try:
                sent = self._socket.sendmsg(views[: -_GATHER_PIECES_MAX - 1 : -1])
            except BlockingIOError:
                self.deadline_means = End.SEND_STALLED
                self.deadline = trio.current_time() + self._limits.send_timeout_s
                await trio.lowlevel.wait_writable(self._socket)
                continue
            while sent:
                first = views.pop()
                if sent < len(first):
                    views.append(first[sent:])
                    break
                sent -= len(first)
        self.deadline, self.deadline_means = before

    def has_unread(self) -> bool:
        """Whether its client has sent what nobody received."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False

    async def linger(self) -> None:
        """Let the client read the answer: closing with unread input would reset it away."""
        self.deadline = inf
        self._socket.shutdown(socket.SHUT_WR)
        with trio.move_on_after(self._limits.linger_s):
            while await self.receive():
                pass
