"""A request body that its handler reads while it arrives: what both fronts do alike.

A front's subclass reads from its client when, and only when, :meth:`FrontBody.receive` is
waited for. What it has read and the handler has not taken is one read's worth.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import trio

from tailrace_server.front import FrontLimits, Refusal, body_late
from tailrace_server.protocol.message import BodyAborted, BodyStream


class FrontBody(BodyStream, ABC):
    """The body of one request. See :class:`~tailrace_server.protocol.message.BodyStream`."""

    def __init__(self, limits: FrontLimits) -> None:
        self._limits = limits
        self._refusal: Refusal | None = None
        self._waited_s = 0.0
        self.pieces: list[bytes] = []
        """What has come and was not taken yet."""
        self.bytes = 0
        """What has come."""
        self.whole = False
        """Its end has come. Until then nothing can follow it on its connection."""
        self.left = False
        """The client left before that; an answer would reach nobody."""

    async def receive(self) -> bytes:
        while not self.pieces:
            if self.whole:
                return b""
            if self._refusal is None:
                await self._wait()
            if self._refusal is not None:
                raise BodyAborted(self._refusal.message, self._refusal.response())
        piece = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
        self.pieces.clear()
        return piece

    def add(self, piece: bytes) -> None:
        """``piece`` has come."""
        if piece:
            self.pieces.append(piece)
            self.bytes += len(piece)

    @abstractmethod
    async def _read(self) -> Refusal | None:
        """Wait for more of the body; what is wrong with it, if anything."""

    def _client_left(self) -> Refusal:
        self.left = True
        return Refusal(400, "the request body broke off")

    async def _wait(self) -> None:
        """Read once, and count the time for it against the client."""
        limits = self._limits
        earned_s = self.bytes / limits.body_bytes_per_s_min
        started = trio.current_time()
        with trio.move_on_at(started + limits.body_timeout_s + earned_s - self._waited_s) as late:
            self._refusal = await self._read()
        self._waited_s += trio.current_time() - started
        if late.cancelled_caught:
            self._refusal = body_late()
