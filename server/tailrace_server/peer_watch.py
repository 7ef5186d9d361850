"""Tells a connection that its client left, whatever the connection is doing.

Reading is the usual way to notice, but a connection that is answering does not read: the
next request may be waiting there and must stay in the kernel, which is what keeps a client
from filling our memory. So the kernel is asked for the news alone: one epoll set, edge
triggered, with no interest but the peer's end. It costs a connection one system call, and a
request none. Trio waits on the set's own descriptor.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Final

import trio

_EVENTS_PER_POLL: Final = 1024

OnLeft = Callable[[bool], None]
"""Called with True if the connection is broken (reset, or closed both ways), with False if
the client only closed its sending side, which is also what a plain ``close()`` looks like."""


class PeerWatch:
    """The watch of one listener. Register a socket after accepting, remove it before closing."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._on_left: dict[int, OnLeft] = {}

    def add(self, descriptor: int, on_left: OnLeft) -> None:
        """Call ``on_left`` (in the Trio thread, must not raise) when the peer leaves. OSError."""
        self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLET)
        self._on_left[descriptor] = on_left

    def remove(self, descriptor: int) -> None:
        """Forget a socket that is still open, if it was added. Its descriptor is free after."""
        if self._on_left.pop(descriptor, None) is not None and not self._epoll.closed:
            self._epoll.unregister(descriptor)  # unless the watch was cancelled first

    async def run(self) -> None:
        """Deliver the news until cancelled, then close the set."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                # No await below: a callback can only be told of its own connection.
                for descriptor, events in self._epoll.poll(0, _EVENTS_PER_POLL):
                    on_left = self._on_left.get(descriptor)
                    if on_left is not None:
                        on_left(bool(events & (select.EPOLLHUP | select.EPOLLERR)))
        finally:
            self._epoll.close()
