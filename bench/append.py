"""``append``: durable events per second, beside what people would use instead."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from bench import engine_append as engine
from bench.bars import Bar, judge
from bench.conditions import conditions, warnings
from bench.events import EVENT_BYTES, STREAMS
from bench.measure import Budget, Case, Measurement
from bench.optional import Missing, load
from bench.report import Report
from bench.run import Options, add_options, run_cases
from bench.shapes import Shape
from bench.systems import RAW, ROCKSDB, SQLITE, SQLITE_HEAP, TAILRACE

SUMMARY: Final = "durable appends per second, beside SQLite, RocksDB and the raw disk"

SINGLE: Final = "1 event per call"
BATCH_64: Final = "64 events of one stream per call"
SPREAD_64: Final = f"64 single events of {STREAMS} streams"
BATCH_1000: Final = "1,000 events of one stream per call"
SUSTAINED: Final = "1,000 events of one stream per call, sustained"
SPREAD_1000: Final = f"1,000 single events of {STREAMS} streams"
SEARCHABLE: Final = "searchable streams, until all is indexed"

IN_FLIGHT: Final = f"{TAILRACE}, 64 in flight (submit)"
THREADS: Final = f"{TAILRACE}, 64 blocking threads"

_SUSTAINED_TIMES: Final = 6  # as long as the other cases: by then no reserve is left

_SHAPES: Final = {
    SINGLE: Shape(1),
    BATCH_64: Shape(64),
    SPREAD_64: Shape(64, spread=True),
    BATCH_1000: Shape(1000),
    SUSTAINED: Shape(1000),
    SPREAD_1000: Shape(1000, spread=True),
}

BARS: Final = (
    Bar("1,000 per call / RocksDB", (BATCH_1000, TAILRACE), (BATCH_1000, ROCKSDB), 3.0),
    Bar("1,000 per call / raw", (BATCH_1000, TAILRACE), (BATCH_1000, RAW), 0.4),
    Bar("64 in flight / SQLite", (SPREAD_64, IN_FLIGHT), (SPREAD_64, SQLITE), 1.5),
    Bar("64 threads / SQLite", (SPREAD_64, THREADS), (SPREAD_64, SQLITE), 0.6),
    Bar("one blocking writer / raw", (SINGLE, TAILRACE), (SINGLE, RAW), 0.7),
    Bar(
        "64 in flight / SQLite, heap",
        (SPREAD_64, IN_FLIGHT),
        (SPREAD_64, SQLITE_HEAP),
        1.5,
        required=False,
    ),
    Bar(
        "64 in flight / RocksDB", (SPREAD_64, IN_FLIGHT), (SPREAD_64, ROCKSDB), 1.0, required=False
    ),
    Bar(
        "1,000 per call, sustained / RocksDB",
        (SUSTAINED, TAILRACE),
        (SUSTAINED, ROCKSDB),
        3.0,
        required=False,
    ),
    Bar(
        "1,000 per call, sustained / raw",
        (SUSTAINED, TAILRACE),
        (SUSTAINED, RAW),
        0.4,
        required=False,
    ),
    Bar(
        "1,000 per call / RocksDB, 64 streams",
        (BATCH_1000, TAILRACE),
        (SPREAD_1000, ROCKSDB),
        3.0,
        required=False,
    ),
)

_NOTES: Final = (
    "Every rate counts events that were durable (fdatasync returned) when they were answered.",
    "All tailrace rows use streams that are not searchable, except the last group: there the",
    "clock runs on until every event is in the search index as well.",
    f"'{SQLITE}' is a table clustered by (stream, ordinal); '{SQLITE_HEAP}' is cheaper to write",
    "and dearer to read. Both can do what tailrace does: hand out a stream from any ordinal.",
    f"'{BATCH_1000}': the clock starts when the disk is prepared, as a store's is that was idle",
    "before a burst: the raw file is zeroed, tailrace has zeroed segments for another burst like",
    f"the one before. Sustained: {_SUSTAINED_TIMES} times as long on a new store, so that tailrace",
    "zeroes most of its segments while the clock runs; the raw file is written over and over.",
)


def _sustained(run: Callable[[Path, Budget], Measurement]) -> Callable[[Path, Budget], Measurement]:
    def longer(directory: Path, budget: Budget) -> Measurement:
        return run(directory, Budget(budget.seconds * _SUSTAINED_TIMES, budget.steps))

    return longer


def _engine_cases() -> list[Case]:
    def case(job: str, rows: int) -> Case:
        return Case(job, TAILRACE, partial(engine.append, rows=rows))

    return [
        case(SINGLE, 1),
        case(BATCH_64, 64),
        Case(SPREAD_64, IN_FLIGHT, engine.in_flight),
        Case(SPREAD_64, THREADS, engine.threads),
        Case(BATCH_1000, TAILRACE, partial(engine.append, rows=1000, prepared=True)),
        Case(SUSTAINED, TAILRACE, _sustained(partial(engine.append, rows=1000))),
        Case(SPREAD_1000, f"{TAILRACE}, 1,000 in flight", partial(engine.in_flight, limit=1000)),
        Case(
            SEARCHABLE,
            f"{TAILRACE}, 1,000 per call",
            partial(engine.append, rows=1000, searchable=True),
        ),
        Case(SEARCHABLE, IN_FLIGHT, partial(engine.in_flight, searchable=True)),
    ]


def all_cases() -> tuple[list[Case], list[str]]:
    """Every case, grouped by job; and a line for each peer that cannot run here."""
    raw, sqlite, rocksdb = load("peers.raw"), load("peers.sqlite"), load("peers.rocksdb")
    cases: list[Case] = []
    own = _engine_cases()
    for job, shape in _SHAPES.items():
        peers: list[tuple[str, Callable[[Path, Budget], Measurement]]] = []
        if not isinstance(raw, Missing):
            peers.append((RAW, partial(raw.append, shape=shape)))
        if not isinstance(sqlite, Missing) and job != SUSTAINED:
            for table in (SQLITE, SQLITE_HEAP):
                peers.append((table, partial(sqlite.append, shape=shape, table=table)))
        if not isinstance(rocksdb, Missing):
            peers.append((ROCKSDB, partial(rocksdb.append, shape=shape)))
        for system, run in peers:
            cases.append(Case(job, system, _sustained(run) if job == SUSTAINED else run))
        cases += [case for case in own if case.job == job]
    cases += [case for case in own if case.job == SEARCHABLE]
    missing = [str(peer) for peer in (raw, sqlite, rocksdb) if isinstance(peer, Missing)]
    return cases, missing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, seconds=1.0, rounds=5)


def run(_: argparse.Namespace, options: Options, place: Path) -> Report:
    found = conditions(place)
    cases, missing = all_cases()
    series = run_cases(options, cases, place)
    return Report(
        command="append",
        title=f"Durable appends of {EVENT_BYTES}-byte JSON events to {STREAMS} streams",
        unit="events",
        conditions=found,
        warnings=warnings(found) + missing,
        settings=options.settings(),
        series=series,
        verdicts=judge(BARS, series),
        notes=list(_NOTES),
        baseline=RAW,
    )
