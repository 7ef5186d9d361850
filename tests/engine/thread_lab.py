"""Stores on the real disk, and threads that never hang a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tailrace
from tailrace import (
    CreateBucket,
    Options,
    Rejection,
    Store,
    StreamKey,
)

KEY = StreamKey("bucket", "s")
SMALL = Options(segment_bytes=64 * 1024, checkpoint_every_bytes=128 * 1024)
PATIENCE_S = 60.0


@contextmanager
def opened(path: Path, options: Options = SMALL, **more: Any) -> Iterator[Store]:
    with tailrace.open(path, options=options, **more) as store:
        if isinstance(store.perform(CreateBucket("bucket")), Rejection):
            pass
        yield store


def callbacks_are_over(store: Store) -> None:
    """Wait for the callbacks of those who were answered: a ticket's thread is woken before."""
    with store._core.committer.commit_lock:
        pass


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    """What each call returned; the first exception, if any raised one. Never hangs."""
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        return [future.result(PATIENCE_S) for future in futures]
