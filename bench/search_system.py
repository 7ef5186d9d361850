"""What a system must do to take part in ``search``, and how it is measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

from bench.corpus import Corpus, Query, marker
from bench.measure import Budget, Measurement, Stopwatch, percentile
from bench.shapes import LostData

_VISIBLE_TRIES: Final = 20
COMPARED_QUERIES: Final = 50
"""How many queries' hits are kept, to compare what systems find."""


class Searcher(Protocol):
    """A search engine under test. Event numbers are those of the corpus."""

    def index(self, corpus: Corpus) -> None:
        """Take in all events; return when all of them can be found."""
        ...

    def search(self, words: Iterable[str], session: int | None) -> list[int]:
        """The numbers of the best events with any of ``words``, best first.

        ``session`` None searches everything.
        """
        ...

    def add(self, text: str, session: int) -> bool:
        """Take in one more event, make it visible; False if that means building anew."""
        ...

    def scoped(self) -> bool:
        """Whether it can search one session."""
        ...

    def close(self) -> None: ...


Maker = Callable[[Path], Searcher]
Found = dict[str, list[list[int]]]
"""Per system, the hits of the first queries."""


def _timed_queries(
    searcher: Searcher, queries: list[Query], budget: Budget, *, scoped: bool
) -> tuple[list[float], list[list[int]]]:
    """Milliseconds and hits of each query, as many as the budget allows."""
    times: list[float] = []
    hits: list[list[int]] = []
    end = time.perf_counter() + budget.seconds
    for query in queries[: budget.steps]:
        start = time.perf_counter()
        hits.append(searcher.search(query.words, query.session if scoped else None))
        now = time.perf_counter()
        times.append((now - start) * 1e3)
        if now >= end:
            break
    return times, hits


def _visible_ms(searcher: Searcher, corpus: Corpus) -> float | None:
    """The median time from handing in one event until a search finds it."""
    times: list[float] = []
    for number in range(_VISIBLE_TRIES):
        word = marker(number)
        start = time.perf_counter()
        if not searcher.add(f"some {word} text", number % corpus.sessions):
            return None
        found = searcher.search([word], None)
        times.append((time.perf_counter() - start) * 1e3)
        if len(found) != 1:
            raise LostData(f"a new event was found {len(found)} times")
    return statistics.median(times)


def measure_search(
    directory: Path, budget: Budget, make: Maker, corpus: Corpus, system: str, found: Found
) -> Measurement:
    """Index the corpus, query it, add to it; the rate is events indexed per second."""
    searcher = make(directory)
    try:
        with Stopwatch() as watch:
            searcher.index(corpus)
        details: dict[str, float] = {}
        _timed_queries(searcher, corpus.queries[:5], budget, scoped=False)
        times, hits = _timed_queries(searcher, corpus.queries, budget, scoped=False)
        if not all(hits):
            raise LostData(f"{system} finds nothing where there is something")
        details["all_p50_ms"] = statistics.median(times)
        details["all_p99_ms"] = percentile(times, 0.99)
        found[system] = hits[:COMPARED_QUERIES]
        if searcher.scoped():
            times, hits = _timed_queries(searcher, corpus.queries, budget, scoped=True)
            for query, numbers in zip(corpus.queries, hits, strict=False):
                if not numbers or any(corpus.session_of(n) != query.session for n in numbers):
                    raise LostData(f"{system} does not keep to the session {query.session}")
            details["session_p50_ms"] = statistics.median(times)
            details["session_p99_ms"] = percentile(times, 0.99)
        visible_ms = _visible_ms(searcher, corpus)
        if visible_ms is not None:
            details["visible_ms"] = visible_ms
        return Measurement(corpus.events, watch.seconds, watch.cpu_s, details=details)
    finally:
        searcher.close()


def agreement(ours: list[list[int]], theirs: list[list[int]], best: int = 10) -> float | None:
    """Which part of one system's ``best`` hits the other has among its own; None without any."""
    shares = [
        len(set(a[:best]) & set(b)) / len(a[:best]) for a, b in zip(ours, theirs, strict=False) if a
    ]
    return statistics.mean(shares) if shares else None
