"""A machine made worse than it is, for the server's tests: ``TAILRACE_BUSY=1``, or another seed.

What comes over a socket or from a thread is noticed late, what came together is met in several
turns of the front, and a sync takes its time. Any machine may do all of that, so no test may
mind; on a good one it happens once in some thousand runs.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any, Final

import trio
from trio._core import _io_epoll

from tailrace_server.fast.tick import Tick

SEED: Final = os.environ.get("TAILRACE_BUSY", "")
_LATE_SHARE: Final = 0.3
_LATE_S_MAX: Final = 0.03
_ROWS: Final = (1, 1, 2, 3, None)
"""How many requests a turn meets; None: all there are."""


def install() -> None:
    """From now on, until this process ends."""
    dice = random.Random(SEED)

    def late_s() -> float:
        return dice.random() ** 3 * _LATE_S_MAX if dice.random() < _LATE_SHARE else 0.0

    wait_readable, fdatasync, run = _io_epoll.EpollIOManager.wait_readable, os.fdatasync, Tick.run

    async def wait_readable_late(self: _io_epoll.EpollIOManager, fd: Any) -> None:
        await wait_readable(self, fd)
        if (seconds := late_s()) > 0:
            await trio.sleep(seconds)

    def fdatasync_slowly(fd: Any) -> None:
        fdatasync(fd)
        time.sleep(late_s())

    def run_in_part(self: Tick, room: int) -> bool:
        turn = self._reactor._turn
        whole = turn.rows_capacity
        turn.rows_capacity = dice.choice(_ROWS) or whole
        try:
            return run(self, room)
        finally:
            turn.rows_capacity = whole

    _io_epoll.EpollIOManager.wait_readable = wait_readable_late  # type: ignore[method-assign]
    os.fdatasync = fdatasync_slowly
    Tick.run = run_in_part  # type: ignore[method-assign]
