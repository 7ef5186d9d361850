"""Trio's time without the moments in which the machine does not let us run.

Client and server of a test are one process. When a busy machine stops it for half a second, its
client has said nothing for so long and its server has not listened: neither is what a timeout
is about. On this clock no such moment is longer than a step, so that a deadline passes only
where the process could have done what it is for.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

_TICK_S: Final = 0.02
"""While somebody waits for a time, it is looked at so often."""
_STEP_S_MAX: Final = 0.05


class SteadyClock(trio.abc.Clock):
    """Goes on by a step at most from one look at it to the next, however long that took."""

    def __init__(self, real_s: Callable[[], float] = time.perf_counter) -> None:
        self._real_s = real_s
        self._last_s = real_s()
        self._now_s = 0.0

    def start_clock(self) -> None:
        self._last_s = self._real_s()

    def current_time(self) -> float:
        last_s, self._last_s = self._last_s, self._real_s()
        self._now_s += min(self._last_s - last_s, _STEP_S_MAX)
        return self._now_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return min(deadline - self.current_time(), _TICK_S)


def run(test: Callable[[], Awaitable[Any]], *, clock: trio.abc.Clock | None, **how: Any) -> Any:
    """As :func:`trio.run`, on this clock unless the test has one of its own."""
    return trio.run(test, clock=clock or SteadyClock(), **how)
