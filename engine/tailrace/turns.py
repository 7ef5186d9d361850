"""Blocking callers whose answers are there, woken one after the other.

Woken all at once they would all ask for the interpreter's lock, which only one can have, and go
back to sleep several times before each got through. Here each caller that wakes wakes the next,
so that at most one waits for the lock while another works.

A caller may lose its turn (an exception raised into its thread from outside, a thread that gets
no processor): :meth:`Turns.hurry` goes on without it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

_IN_TURN_FROM: Final = 3


class Sleeper(Protocol):
    """Somebody who waits for a turn; ``left`` once it waits no more."""

    left: bool

    def wake(self) -> None: ...


class Turns:
    """A queue of sleepers and whose turn it is. ``over`` is called after the last one's turn."""

    def __init__(self, over: Callable[[], None]) -> None:
        self._over = over
        self._lock = threading.Lock()
        self._closed = False
        self._turn: Sleeper | None = None
        self._late: Sleeper | None = None  # whose turn it was when somebody last looked
        self.waiting: deque[Sleeper] = deque()

    @property
    def busy(self) -> bool:
        """Whether turns are going on: after the last of them ``over`` is called."""
        return self._turn is not None

    def add(self, sleepers: Sequence[Sleeper]) -> bool:
        """Wake these: one by one behind those that wait already, or all at once if they are few.

        True: one by one, so somebody has to call :meth:`hurry` now and then until nobody is left.
        """
        with self._lock:
            if self._closed or (self._turn is None and len(sleepers) < _IN_TURN_FROM):
                for sleeper in sleepers:
                    sleeper.wake()
                return False
            self.waiting.extend(sleepers)
            if self._turn is None:
                self._next()
            return True

    def taken(self, sleeper: Sleeper) -> None:
        """``sleeper`` is awake: if it was its turn, wake the next one."""
        if self._turn is sleeper:
            with self._lock:
                if self._turn is sleeper:
                    self._next()
            if not self.busy:
                self._over()

    def leave(self, sleeper: Sleeper) -> None:
        """``sleeper`` no longer waits: whoever is next gets its turn, now or when it comes."""
        with self._lock:
            sleeper.left = True
            if self._turn is sleeper:
                self._next()
        if not self.busy:
            self._over()

    def hurry(self) -> None:
        """Go on without a caller that has not moved since the last call."""
        with self._lock:
            if self._turn is not None and self._turn is self._late:
                self._next()
            self._late = self._turn
        if not self.busy:
            self._over()

    def close(self) -> None:
        """Wake everyone, at once, from now on: nobody calls :meth:`hurry` any more."""
        with self._lock:
            self._closed = True
            for sleeper in self.waiting:
                sleeper.wake()
            self.waiting.clear()
            self._turn = None

    def _next(self) -> None:
        while self.waiting:
            sleeper = self.waiting.popleft()
            if not sleeper.left:
                self._turn = sleeper
                sleeper.wake()
                return
        self._turn = None
