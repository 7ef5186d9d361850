"""Live readers that stand at the tail of one stream and are to get the same bytes.

A member sleeps. What happens to it is what happens to all: one ordinal, one cursor, one
time of the next heartbeat, and one call that writes to every socket. Whoever does not take
all of a call's bytes is let go with the rest of them, and so costs only itself.

A call may run in another thread, so descriptors must stay what they are until it has
returned: whoever comes or leaves meanwhile waits for that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple

import trio

from tailrace_server.engine_bridge import Listener
from tailrace_server.fanout import Short
from tailrace_server.following import Follow


class Wire(ABC):
    """A ``send`` to a socket that others may write to while nobody is in it."""

    __slots__ = ()

    @property
    @abstractmethod
    def descriptor(self) -> int:
        """The socket's; it stays so until the response's ``run`` has returned."""

    @abstractmethod
    def frame(self, data: bytes) -> bytes:
        """``data`` as it goes over the wire: the same for every wire."""

    @abstractmethod
    async def __call__(self, data: bytes) -> None:
        """Send ``data``, framed."""

    @abstractmethod
    async def finish(self, rest: memoryview, sent: int) -> None:
        """Send the rest of framed bytes that others began to send.

        ``sent`` is how much they sent in all since the last call, whole frames and begun ones.
        """


class Step(NamedTuple):
    """What an audience gets next: ``data``, framed, takes it up to ``ordinal``."""

    data: bytes
    ordinal: int
    up_to_date: bool
    cursor: int
    heartbeat_at: float


class Member:
    """One reader's place in an audience, or outside: then its fields are its own."""

    __slots__ = (
        "audience",
        "cursor",
        "heartbeat_at",
        "index",
        "ordinal",
        "released",
        "rest",
        "sent",
        "up_to_date",
        "wire",
    )

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.ordinal = 0
        self.cursor = 0
        self.heartbeat_at = 0.0
        self.up_to_date = True
        self.rest = memoryview(b"")
        """What a call began to send and this member has yet to."""
        self.sent = 0
        self.audience: Audience | None = None
        self.index = -1
        self.released = trio.Event()

    async def catch_up(self) -> None:
        """Outside: send what a call began and could not finish."""
        rest, self.rest = self.rest, memoryview(b"")
        sent, self.sent = self.sent, 0
        await self.wire.finish(rest, sent)


class Audience(Listener):
    """``reader`` stands for all of them. Everything here happens in the Trio thread."""

    def __init__(self, reader: Follow, ordinal: int, on_news: Callable[[Audience], None]) -> None:
        self.reader = reader
        self.ordinal = ordinal
        self.cursor = 0
        self.up_to_date = True
        self.heartbeat_at = inf
        self.touch_s = inf
        self.touch_at = inf
        self.busy = False
        """A call is using the descriptors."""
        self.over = False
        """No one is to come any more, and all are to go."""
        self.members: list[Member] = []
        self.descriptors: array[int] = array("i")
        self._sent = 0
        self._joining: list[Member] = []
        self._leaving: set[Member] = set()
        self._on_news = on_news

    @property
    def is_empty(self) -> bool:
        return not (self.members or self._joining or self.busy)

    # -- what the stream does

    def wake(self) -> None:
        self._on_news(self)

    def look_again(self) -> None:
        self.dissolve()
        self._on_news(self)

    # -- who comes and goes

    def join(self, member: Member) -> None:
        """Take a member in; it is released when it must act by itself again.

        It may be ahead of the audience, whose next step then takes it to where that one is.
        """
        member.audience = self
        member.released = trio.Event()
        if self.busy or member.ordinal != self.ordinal:
            self._joining.append(member)
        else:
            self._enroll(member)

    async def leave(self, member: Member) -> None:
        """Go, once no call can be writing to this member any more."""
        if self.busy:
            self._leaving.add(member)
            with trio.CancelScope(shield=True):
                await member.released.wait()
        elif member.index >= 0:
            self._release(member)
        else:
            self._joining.remove(member)
            self._dismiss(member)

    def start_over(self) -> None:
        """Without members, go to where those who wait to join are."""
        self.ordinal = max((member.ordinal for member in self._joining), default=self.ordinal)
        self._admit()

    def dissolve(self) -> None:
        """Release all, as soon as no call is using them."""
        self.over = True
        if not self.busy:
            self._release_all()

    def settle(self, step: Step, shorts: Sequence[Short]) -> None:
        """Take note of what a step came to; ``shorts`` did not take all of it."""
        self.busy = False
        self.ordinal = step.ordinal
        self.up_to_date = step.up_to_date
        self.cursor = step.cursor
        self.heartbeat_at = step.heartbeat_at
        self._sent += len(step.data)
        for member, short in [(self.members[short.place], short) for short in shorts]:
            member.rest = memoryview(step.data)[short.sent :]
            self._release(member)
        leaving, self._leaving = self._leaving, set()
        for member in leaving:
            if member.index >= 0:
                self._release(member)
            elif member.audience is self:
                self._joining.remove(member)
                self._dismiss(member)
        self._admit()
        if self.over:
            self._release_all()

    def _admit(self) -> None:
        joining, self._joining = self._joining, []
        for member in joining:
            if member.ordinal > self.ordinal:
                self._joining.append(member)
            elif member.ordinal < self.ordinal:
                self._dismiss(member)
            else:
                self._enroll(member)

    def _enroll(self, member: Member) -> None:
        member.index = len(self.members)
        member.sent = self._sent
        self.members.append(member)
        self.descriptors.append(member.wire.descriptor)
        self.cursor = max(self.cursor, member.cursor)
        self.heartbeat_at = min(self.heartbeat_at, member.heartbeat_at)

    def _release(self, member: Member) -> None:
        index = member.index
        last = self.members.pop()
        descriptor = self.descriptors.pop()
        if last is not member:
            last.index = index
            self.members[index] = last
            self.descriptors[index] = descriptor
        member.index = -1
        member.sent = self._sent - member.sent - len(member.rest)
        member.ordinal = self.ordinal
        member.cursor = self.cursor
        member.up_to_date = self.up_to_date
        member.heartbeat_at = self.heartbeat_at
        self._dismiss(member)

    def _dismiss(self, member: Member) -> None:
        member.audience = None
        member.released.set()

    def _release_all(self) -> None:
        while self.members:
            self._release(self.members[-1])
        joining, self._joining = self._joining, []
        for member in joining:
            self._dismiss(member)
