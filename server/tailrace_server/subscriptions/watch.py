"""Which subscriptions a stream concerns: told of a change, or found by going over the streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import trio

import tailrace
from tailrace.operation import StreamKey
from tailrace_server.config import FLAT_BUCKET
from tailrace_server.engine_bridge import EngineBridge
from tailrace_server.protocol import subscription_machine as machine
from tailrace_server.protocol.subscription_glob import literal_prefix
from tailrace_server.subscriptions.live import LiveSubscription

_INTERESTED_MAX: Final = 100_000


class Watch:
    """``lives``, the subscriptions by id; they are told of changes while there are any."""

    def __init__(self, bridge: EngineBridge) -> None:
        self._bridge = bridge
        self._interested: dict[str, tuple[LiveSubscription, ...]] = {}
        self.lives: Final[dict[str, LiveSubscription]] = {}

    def add(self, live: LiveSubscription) -> None:
        self.lives[live.id] = live
        self.links_changed()
        self._bridge.on_change = self._changed

    def remove(self, live: LiveSubscription) -> None:
        del self.lives[live.id]
        self.links_changed()
        if not self.lives:
            self.stop()

    def stop(self) -> None:
        """Tell nobody any more."""
        self._bridge.on_change = None

    def links_changed(self) -> None:
        """A subscription may be about other streams than before."""
        self._interested.clear()

    def _changed(self, key: StreamKey, created: bool) -> None:
        """A stream was appended to. Called for every append; must not raise."""
        if key.bucket != FLAT_BUCKET:
            return
        name = key.stream
        interested = self._interested.get(name)
        if interested is None:
            if len(self._interested) >= _INTERESTED_MAX:
                self._interested.clear()
            interested = self._interested[name] = tuple(
                live
                for live in self.lives.values()
                if name == live.state.config.wake_stream
                or machine.link_of(live.state, name) is not None
            )
        for live in interested:
            if created and name == live.state.config.wake_stream:
                # A wake that could not be written before it was made, or is gone with the old.
                live.announced = None
                live.poke()
            else:
                live.notice(name)

    async def discover(self, lives: Sequence[LiveSubscription]) -> None:
        """Find the streams that patterns match and nobody has told of: made before a crash."""
        patterns = [live for live in lives if live.state.config.pattern is not None]
        if not patterns:
            return
        prefix = ""
        if len(patterns) == 1:
            prefix = literal_prefix(patterns[0].state.config.pattern or "")
        for page in self.pages(prefix):
            for head in page:
                for live in patterns:
                    if machine.matches(live.state, head.key.stream):
                        live.notice(head.key.stream)
            await trio.lowlevel.checkpoint()

    def pages(self, prefix: str) -> Iterator[list[tailrace.Head]]:
        """The streams that there are, by name."""
        after: str | None = None
        while True:
            page = self._bridge.store.list_streams(FLAT_BUCKET, prefix=prefix, after=after)
            yield page.streams
            if not page.has_more or not page.streams:
                return
            after = page.streams[-1].key.stream
