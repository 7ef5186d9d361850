"""How long tests go on that do as much as they can in a time."""

from __future__ import annotations

import os


def lengthened(seconds: float, threads: int = 1) -> float:
    """As long as it takes to do, beside other test processes, what ``seconds`` alone would.

    ``threads`` is how many processors the test would keep busy. Without pytest-xdist, or
    where each of its processes has that many processors, it is ``seconds``.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return seconds * slowdown(threads, workers, len(os.sched_getaffinity(0)))


def slowdown(threads: int, workers: int, processors: int) -> float:
    """By how much ``threads`` are slower where ``workers`` share the processors evenly."""
    return min(threads, processors) / min(threads, processors / workers)
