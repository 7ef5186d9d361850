"""The engine's side of ``append``: the same events, through ``import tailrace``."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import tailrace
from bench.events import STREAMS, small_batches, stream_name
from bench.measure import Budget, Measurement, Stopwatch, drive
from bench.shapes import LostData
from tailrace.operation import Append, StreamKey

IN_FLIGHT: Final = 64
THREADS: Final = 64

_BUCKET: Final = "bench"
_JSON: Final = "application/json"
_INDEXED_POLL_S: Final = 0.002
_PREPARED_POLL_S: Final = 0.02
_PREPARED_S_MAX: Final = 60.0


class _Streams:
    """A new store with the streams of a run."""

    def __init__(self, directory: Path, *, searchable: bool) -> None:
        self.store = tailrace.open(directory / "tailrace")
        self.searchable = searchable
        self.keys = [StreamKey(_BUCKET, stream_name(number)) for number in range(STREAMS)]
        self.store.create_bucket(_BUCKET)
        for key in self.keys:
            self.store.create(key, content_type=_JSON, searchable=searchable)

    def measure(
        self, work: Callable[[Budget], int], budget: Budget, *, prepared: bool = False
    ) -> Measurement:
        """Warm up with ``work``, time it (it answers how many events it wrote), check, close.

        ``prepared``: warm up with as much, and let the store prepare for as much again.
        """
        try:
            warm = work(budget if prepared else budget.warm_up())
            self._settle()
            if prepared:
                wait_until_prepared(self.store)
            syncs = self._syncs()
            with Stopwatch() as watch:
                events = work(budget)
                acknowledged = time.perf_counter()
                self._settle()
                lag_s = time.perf_counter() - acknowledged
            syncs = self._syncs() - syncs
            self._check(warm + events)
        finally:
            self.store.close()
        details = {"index_lag_s": lag_s} if self.searchable else {}
        return Measurement(events, watch.seconds, watch.cpu_s, syncs, details)

    def _settle(self) -> None:
        if self.searchable:
            wait_until_indexed(self.store)

    def _syncs(self) -> int:
        return int(self.store.counters()["groups"])

    def _check(self, events: int) -> None:
        heads = [self.store.head(key) for key in self.keys]
        stored = sum(head.tail for head in heads)
        if stored != events:
            raise LostData(f"tailrace has {stored} of {events} records")
        known = {body for batch in small_batches(1) for body in batch}
        for head in heads:
            if head.tail:
                last = self.store.read(head.key, head.tail - 1)
                if [bytes(record) for record in last.records()][-1] not in known:
                    raise LostData(f"the last record of {head.key} is not one that was written")


def append(
    directory: Path,
    budget: Budget,
    rows: int,
    *,
    searchable: bool = False,
    prepared: bool = False,
) -> Measurement:
    """One blocking writer, ``rows`` events a call, the streams in turn.

    ``prepared``: the clock starts when the store has zeroed room ahead for another such burst.
    """
    streams = _Streams(directory, searchable=searchable)
    batches = small_batches(rows)
    write, keys = streams.store.append, streams.keys

    def step(number: int) -> None:
        write(keys[number % STREAMS], batches[number % len(batches)])

    return streams.measure(lambda part: drive(step, part) * rows, budget, prepared=prepared)


def in_flight(
    directory: Path, budget: Budget, limit: int = IN_FLIGHT, searchable: bool = False
) -> Measurement:
    """Single events through ``submit``: one thread keeps up to ``limit`` of them outstanding.

    It is woken once per durable group and submits as many new ones as were answered, in one
    call; each is an operation, a batch of the log and an answer of its own. It hands them over
    in two halves, so that one is staged while the other is being synced; more than ``limit``
    are never outstanding.
    """
    streams = _Streams(directory, searchable=searchable)
    events = [event for (event,) in small_batches(1)]
    done: queue.SimpleQueue[int] = queue.SimpleQueue()

    def on_group(group: tailrace.Group) -> None:
        done.put(len(group.tickets))

    streams.store.on_group = on_group
    keys, submit = streams.keys, streams.store.submit
    half = max(1, limit // 2)

    def work(part: Budget) -> int:
        end = time.perf_counter() + part.seconds
        number = outstanding = 0
        while True:
            room = min(half, limit - outstanding)
            if time.perf_counter() >= end or (part.steps is not None and number >= part.steps):
                if outstanding == 0:
                    return number
            elif room > 0:
                submit(
                    [
                        Append(keys[index % STREAMS], (events[index % len(events)],))
                        for index in range(number, number + room)
                    ]
                )
                number += room
                outstanding += room
                if outstanding < limit and done.empty():
                    # The committer starts on this half only when this thread lets it run.
                    time.sleep(0)
                    continue
            outstanding -= done.get()
            while not done.empty():
                outstanding -= done.get()

    return streams.measure(work, budget)


def threads(directory: Path, budget: Budget) -> Measurement:
    """:data:`THREADS` threads, each appending single events to its own stream, blocking."""
    streams = _Streams(directory, searchable=False)
    events = small_batches(1)
    write = streams.store.append

    def work(part: Budget) -> int:
        counts = [0] * THREADS
        failures: list[Exception] = []
        begin = threading.Event()

        def writer(index: int) -> None:
            key = streams.keys[index % STREAMS]

            def step(number: int) -> None:
                write(key, events[(number + index) % len(events)])

            begin.wait()
            try:
                counts[index] = drive(step, part)
            except Exception as error:  # raised again below, in the thread that reports
                failures.append(error)

        workers = [threading.Thread(target=writer, args=(index,)) for index in range(THREADS)]
        for worker in workers:
            worker.start()
        begin.set()
        for worker in workers:
            worker.join()
        if failures:
            raise failures[0]
        return sum(counts)

    return streams.measure(work, budget)


def wait_until_prepared(store: tailrace.Store) -> None:
    """Until the log's reserve holds what the burst before asked for, and its zeros are written."""
    give_up = time.perf_counter() + _PREPARED_S_MAX
    while time.perf_counter() < give_up:
        counters = store.counters()
        if counters["reserve_segments"] >= counters["reserve_segments_wanted"]:
            return
        time.sleep(_PREPARED_POLL_S)


def wait_until_indexed(store: tailrace.Store) -> None:
    """Until nothing that is durable now is missing from the search index."""
    durable_position = store.counters()["durable_position"]
    while store.counters()["indexed_position"] < durable_position:
        time.sleep(_INDEXED_POLL_S)
