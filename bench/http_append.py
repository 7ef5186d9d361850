"""``http-append``: durable appends over HTTP, beside other servers of the same protocol."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from bench.append_target import Job, Targets
from bench.bars import Bar, judge
from bench.events import EVENT_BYTES
from bench.http_measure import COLUMNS, carry_out, costs, latencies
from bench.http_systems import Running, Systems, add_url_argument, find_systems, measure_all
from bench.measure import Budget, Case, Measurement
from bench.report import Report
from bench.run import Options, add_options
from bench.systems import CEILING, ELECTRIC, HYPERCORN, NODE, NODE_MEMORY, REDIS, TAILRACE

SUMMARY: Final = "durable appends over HTTP, beside other servers of this protocol and Redis"

ONE: Final = Job("1 connection", connections=1)
SOME: Final = Job("64 connections", connections=64)
MANY: Final = Job("256 connections", connections=256)
STREAMS_500: Final = Job("64 connections, 500 streams", connections=64, streams=500)
STREAMS_2000: Final = Job("64 connections, 2,000 streams", connections=64, streams=2000)
BATCHED: Final = Job("64 connections, 100 events a request", connections=64, events=100)
PRODUCERS: Final = Job("64 connections, idempotent producers", connections=64, producers=True)
STEADY: Final = Job("1,000 requests/s on 64 connections", connections=64, rate=1000.0)
STEADY_FAST: Final = Job("10,000 requests/s on 64 connections", connections=64, rate=10_000.0)

_WHO: Final = {
    ONE: (TAILRACE, NODE, NODE_MEMORY, ELECTRIC, REDIS, CEILING),
    SOME: (TAILRACE, HYPERCORN, NODE, NODE_MEMORY, ELECTRIC, REDIS, CEILING),
    MANY: (TAILRACE, NODE, ELECTRIC, REDIS, CEILING),
    STREAMS_500: (TAILRACE, ELECTRIC, REDIS),
    STREAMS_2000: (TAILRACE, ELECTRIC, REDIS),
    BATCHED: (TAILRACE, NODE, ELECTRIC, REDIS, CEILING),
    PRODUCERS: (TAILRACE, NODE, ELECTRIC),
    STEADY: (TAILRACE, NODE, ELECTRIC, REDIS, CEILING),
    STEADY_FAST: (TAILRACE, ELECTRIC, REDIS),
}

BARS: Final = (
    Bar("64 connections / Node", (SOME.name, TAILRACE), (SOME.name, NODE), 8.0),
    Bar("256 connections / Node", (MANY.name, TAILRACE), (MANY.name, NODE), 12.0),
    Bar("256 connections / Electric", (MANY.name, TAILRACE), (MANY.name, ELECTRIC), 1.0),
    Bar("1 connection / Node", (ONE.name, TAILRACE), (ONE.name, NODE), 2.5),
    Bar("2,000 streams / 64", (STREAMS_2000.name, TAILRACE), (SOME.name, TAILRACE), 0.8),
    Bar(
        "100 events a request",
        (BATCHED.name, TAILRACE),
        None,
        300_000.0,
        alternative=Bar(
            "100 events a request / Node, single",
            (BATCHED.name, TAILRACE),
            (SOME.name, NODE),
            100.0,
        ),
    ),
    *(
        Bar(f"{job.name} / {peer}", (job.name, TAILRACE), (job.name, peer), 1.0, required=False)
        for job, peer in (
            (ONE, ELECTRIC),
            (SOME, ELECTRIC),
            (SOME, REDIS),
            (MANY, REDIS),
            (STREAMS_2000, ELECTRIC),
            (BATCHED, ELECTRIC),
            (PRODUCERS, ELECTRIC),
        )
    ),
    Bar(
        "producers / without",
        (PRODUCERS.name, TAILRACE),
        (SOME.name, TAILRACE),
        1.0,
        required=False,
    ),
    Bar("ceiling, 64 / tailrace", (SOME.name, CEILING), (SOME.name, TAILRACE), 1.0, required=False),
    Bar(
        "ceiling, 256 / tailrace", (MANY.name, CEILING), (MANY.name, TAILRACE), 1.0, required=False
    ),
)

_NOTES: Final = (
    "Every answer of a durable system came after its sync; after each measurement the events are",
    "read back and counted. CPU is the server's, all threads; the load's CPU is the generator's,",
    "per request, on the same cores. Latencies of the jobs with a fixed rate are from when a",
    f"request should have been sent. '{NODE_MEMORY}' keeps nothing on disk;",
    f"'{CEILING}' is a server in C that answers without looking: the most",
    "that the load generator can do on this machine.",
)


def measure(
    _: Path, budget: Budget, environment: Running, targets: Targets, name: str, job: Job
) -> Measurement:
    """One case, on a server that is up; raises if an answered event is not there."""
    target = targets.get(name, job.streams)
    server = environment.server(name)
    group = target.group(job, budget.steps)
    result = carry_out(environment, server, [group], budget, budget.warm_up().seconds)
    (done,) = result.groups
    target.check(job, done)
    details = latencies(done) | costs(result, server, done.latency.count)
    events = target.events(job, done.units)
    return Measurement(events, result.measured_s, result.server_cpu_s, details=details)


def _cases(systems: Systems, environment: Running) -> Iterator[Case]:
    targets = Targets(environment)
    for job, names in _WHO.items():
        for name in systems.among(*names):
            run_case = partial(
                measure, environment=environment, targets=targets, name=name, job=job
            )
            yield Case(job.name, name, run_case)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, seconds=0.6, rounds=5)
    add_url_argument(parser)


def run(arguments: argparse.Namespace, options: Options, place: Path) -> Report:
    systems = find_systems(arguments)
    found = measure_all(systems, options, place, _cases)
    return Report(
        command="http-append",
        title=f"Durable appends of {EVENT_BYTES}-byte JSON events over HTTP, to 64 streams",
        unit="events",
        conditions=found.conditions,
        warnings=found.warnings,
        settings=options.settings(),
        series=found.series,
        verdicts=judge(BARS, found.series),
        notes=list(_NOTES),
        baseline=NODE,
        columns=COLUMNS,
    )
