"""A system that gives this process no more threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def no_threads(after: int = 0) -> Iterator[None]:
    """Threads cannot be started, as Python says it, but for so many. Those there are go on."""
    start = threading._start_new_thread  # type: ignore[attr-defined]
    left = after

    def refuse(*arguments: Any) -> int:
        nonlocal left
        if not left:
            raise RuntimeError("can't start new thread")
        left -= 1
        return int(start(*arguments))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "_start_new_thread", refuse)
        yield
