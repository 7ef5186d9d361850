"""Threads, of which the system may have none left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from tailrace.errors import Overloaded

_RETRY_AFTER_S: Final = 1.0


class NoThread(Overloaded):
    """The system gives this process no more threads. What needed one was not begun."""

    def __init__(self) -> None:
        super().__init__(
            "the system gives this process no more threads; try again later",
            retry_after_s=_RETRY_AFTER_S,
        )


def start(name: str, run: Callable[[], None]) -> threading.Thread:
    """A new thread that runs ``run`` and does not keep the process alive. Raises NoThread."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        raise NoThread from None
    return thread
