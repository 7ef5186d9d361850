"""Work in Trio's worker threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from tailrace.threads import NoThread

T = TypeVar("T")


async def in_thread(work: Callable[[], T], limiter: trio.CapacityLimiter | None = None) -> T:
    """What ``work`` gives, run in a worker thread. Cancelling waits for it.

    Raises what ``work`` does, and :class:`~tailrace.threads.NoThread`.
    """
    begun = False

    def run() -> T:
        nonlocal begun
        begun = True
        return work()

    try:
        return await trio.to_thread.run_sync(run, limiter=limiter)
    except RuntimeError:
        if begun:
            raise
        raise NoThread from None


async def in_thread_or_here(
    work: Callable[[], T], limiter: trio.CapacityLimiter | None = None
) -> T:
    """The same for work that must not be left undone: without a thread it is run in this one.

    Cannot be cancelled before it is done.
    """
    with trio.CancelScope(shield=True):
        try:
            found = await in_thread(work, limiter)
        except NoThread:
            found = work()
    return found
