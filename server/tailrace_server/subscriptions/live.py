"""One subscription at work: its state, and what it is busy with."""

from __future__ import annotations

from typing import Final

import trio

from tailrace_server.protocol.subscription_state import State
from tailrace_server.subscriptions.journal import Stored


class LiveSubscription:
    """``lock`` is held by whoever changes ``state``; reading it needs none.

    known: the streams it is about, as far as they have been seen: those linked, and those
        that its pattern matches.
    candidates: those of them that may have pending work, in the order it was noticed.
    announced: the wake whose event is in the wake stream.
    delivering: the wake that is on its way to the webhook; ``delivery`` cancels that.
    """

    __slots__ = (
        "announced",
        "candidates",
        "delivering",
        "delivery",
        "gone",
        "id",
        "known",
        "lock",
        "news",
        "records",
        "scope",
        "state",
        "tail",
    )

    def __init__(self, stored: Stored) -> None:
        self.id: Final = stored.id
        self.state: State = stored.state
        self.tail = stored.tail
        self.records = stored.records
        self.lock: Final = trio.Lock()
        self.news = trio.Event()
        self.known: Final = set(stored.state.links)
        self.candidates: Final = dict.fromkeys(stored.state.links)
        self.scope: Final = trio.CancelScope()
        self.announced: str | None = None
        self.delivering: str | None = None
        self.delivery = trio.CancelScope()
        self.gone = False

    def poke(self) -> None:
        """Have it look again at what there is to do."""
        self.news.set()

    def notice(self, path: str) -> None:
        """A stream of this subscription has changed, or was found."""
        self.known.add(path)
        self.candidates[path] = None
        # With a wake in flight there is nothing to do before that ends, which pokes too.
        if self.state.wake is None:
            self.news.set()

    def end(self) -> None:
        self.gone = True
        self.scope.cancel()
        self.delivery.cancel()
