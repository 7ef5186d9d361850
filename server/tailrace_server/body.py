"""What all fronts do alike about request bodies: a bound on what they hold together, and those
that are read as they come.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

import trio

from tailrace.limits import KIB
from tailrace_server.front import FrontLimits, Refusal, body_late
from tailrace_server.protocol.message import BodyAborted, BodyStream

SMALL_BODY_BYTES: Final = 64 * KIB
SMALL_SHARE: Final = 8
"""Larger bodies leave one part in so many of the budget to those that are not larger, so that a
few clients who announce much, and send it slowly, do not keep everybody from appending."""


class BodyBudget:
    """The sum of the bodies that the requests of one front hold.

    A body counts with the length it announces, or without one with what has come of it: who
    is refused has sent nothing in vain, and nobody waits for others that wait in turn. A
    body that is alone always finds room. ``elsewhere`` tells what is held beside the shares.
    """

    def __init__(self, bytes_max: int, elsewhere: Callable[[], int] = lambda: 0) -> None:
        self.bytes_max = bytes_max
        self._elsewhere = elsewhere
        self.shared = 0
        """What the shares hold."""

    @property
    def held(self) -> int:
        return self.shared + self._elsewhere()

    @property
    def room_elsewhere(self) -> int:
        """What may be held beside the shares."""
        return max(0, self.bytes_max - self.shared)

    def most(self, wanted: int) -> int:
        """Up to where a body of this size may fill the budget."""
        kept = 0 if wanted <= SMALL_BODY_BYTES else self.bytes_max // SMALL_SHARE
        return self.bytes_max - kept


class BodyShare:
    """One request's part of a budget."""

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self._held = 0

    def grow(self, wanted: int) -> bool:
        """Hold ``wanted`` bytes from now on; False if there is no room for them."""
        if wanted <= self._held:
            return True
        budget = self._budget
        others = budget.held - self._held
        if others and others + wanted > budget.most(wanted):
            return False
        budget.shared += wanted - self._held
        self._held = wanted
        return True

    def release(self) -> None:
        self._budget.shared -= self._held
        self._held = 0


class FrontBody(BodyStream, ABC):
    """A body that its handler reads while it arrives.

    A front's subclass reads from its client when, and only when, :meth:`receive` is waited
    for. What it has read and the handler has not taken is one read's worth.
    """

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
