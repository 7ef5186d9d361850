"""``fanout``: one writer, many live readers; from when an event was due until each has it."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench.bars import Bar, judge
from bench.events import EVENT_BYTES
from bench.http_measure import COLUMNS, P99, P999, carry_out, costs, latencies
from bench.http_systems import (
    Running,
    Systems,
    add_url_argument,
    find_systems,
    measure_all,
)
from bench.loadgen import http
from bench.measure import Budget, Case, Measurement
from bench.report import Report
from bench.run import Options, add_options
from bench.shapes import LostData
from bench.systems import ELECTRIC, HYPERCORN, NODE, TAILRACE

SUMMARY: Final = "delivery of live events to 50 to 1,000 subscribers, SSE and long-poll"

EVENTS_PER_SECOND: Final = 50.0
OTHER_ROUNDS: Final = 3
OTHER_PART: Final = 2 / 3
"""The jobs that no bar is for have fewer rounds, and this part of the seconds."""

_WARM_UP_S: Final = 0.4


@dataclass(frozen=True, slots=True)
class Job:
    live: str
    subscribers: int

    @property
    def name(self) -> str:
        return f"{self.subscribers:,} x {self.live}"


SSE_50: Final = Job("sse", 50)
SSE_250: Final = Job("sse", 250)
SSE_1000: Final = Job("sse", 1000)
POLL_50: Final = Job("long-poll", 50)
POLL_1000: Final = Job("long-poll", 1000)

_PEERS: Final = (NODE, ELECTRIC)
_WHO: Final = {
    SSE_50: (TAILRACE, HYPERCORN, *_PEERS),
    SSE_250: (TAILRACE, *_PEERS),
    SSE_1000: (TAILRACE, *_PEERS),
    POLL_50: (TAILRACE, *_PEERS),
    POLL_1000: (TAILRACE, *_PEERS),
}

BARS: Final = (
    Bar("1,000 SSE, p99", (SSE_1000.name, TAILRACE), None, 25.0, detail=P99, at_most=True),
    Bar(
        "1,000 SSE, deliveries/s",
        (SSE_1000.name, TAILRACE),
        None,
        0.95 * 1000 * EVENTS_PER_SECOND,
        required=False,
    ),
    Bar(
        "1,000 long-poll, p99",
        (POLL_1000.name, TAILRACE),
        None,
        25.0,
        detail=P99,
        at_most=True,
        required=False,
    ),
)

_NOTES: Final = (
    f"One writer appends {EVENTS_PER_SECOND:g} events a second to one stream, whatever the answers",
    "do; each carries its number and the time it should have been sent. Latency is from then until",
    "a subscriber has read it: waiting, storing, syncing and fanning out. Every subscriber must",
    "get every event once and in order, or the run fails. One thread reads for all subscribers and",
    "needs a few microseconds for each delivery: at 1,000, several ms of the p99 are its own.",
    "deliveries/s: all that were due in the time, over the time until the last had arrived.",
    f"The jobs that no bar is for: {OTHER_ROUNDS} rounds at most, of two thirds of the seconds.",
)


_BARRED: Final = frozenset(bar.who[0] for bar in BARS if bar.required)


class _Measurer:
    def __init__(self, environment: Running) -> None:
        self._environment = environment
        self._numbers = itertools.count()

    def measure(self, _: Path, budget: Budget, name: str, job: Job) -> Measurement:
        if job.name not in _BARRED:
            budget = Budget(budget.seconds * OTHER_PART, budget.steps)
        server = self._environment.server(name)
        path = f"{server.base.prefix}/bench/fanout-{next(self._numbers)}"
        self._environment.load.run(http.plan(server.base, http.create(server.base, [path])))
        groups = http.fan_out(
            server.base,
            path,
            http.START,
            subscribers=job.subscribers,
            rate=EVENTS_PER_SECOND,
            live=job.live,
            size=EVENT_BYTES,
            steps=budget.steps,
        )
        result = carry_out(self._environment, server, groups, budget, _WARM_UP_S)
        writer, readers = result.groups
        sent = sum(writer.acknowledged)
        if any(received != sent for received in readers.received):
            fewest = min(readers.received)
            raise LostData(f"{name}: of {sent} events a subscriber got {fewest}")
        details = latencies(readers) | costs(result, server, readers.units)
        seconds, cpu_s = result.drained_s, result.drained_cpu_s
        return Measurement(readers.units, seconds, cpu_s, details=details)


def _cases(systems: Systems, environment: Running) -> Iterator[Case]:
    measurer = _Measurer(environment)
    for job, names in _WHO.items():
        for name in systems.among(*names):
            rounds_max = None if job.name in _BARRED else OTHER_ROUNDS
            run_case = partial(measurer.measure, name=name, job=job)
            yield Case(job.name, name, run_case, rounds_max)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, seconds=1.5, rounds=5)
    add_url_argument(parser)


def run(arguments: argparse.Namespace, options: Options, place: Path) -> Report:
    systems = find_systems(arguments)
    found = measure_all(systems, options, place, _cases)
    return Report(
        command="fanout",
        title=f"Delivery of {EVENT_BYTES}-byte events to live subscribers",
        unit="deliveries",
        conditions=found.conditions,
        warnings=found.warnings,
        settings=options.settings() | {"events_per_second": EVENTS_PER_SECOND},
        series=found.series,
        verdicts=judge(BARS, found.series),
        notes=list(_NOTES),
        columns={**COLUMNS, P999: "p99.9 ms"},
        drawn=P99,
    )
