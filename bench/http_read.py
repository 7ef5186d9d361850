"""``http-read``: small catch-up reads over HTTP, as every agent that wakes up makes one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Final

from bench.bars import Bar, judge
from bench.events import EVENT_BYTES, STREAMS, small_batches, stream_name
from bench.http_measure import COLUMNS, carry_out, costs, latencies
from bench.http_systems import (
    Running,
    Systems,
    add_url_argument,
    find_systems,
    measure_all,
)
from bench.loadgen import http
from bench.loadgen.plan import Group, Kind, Wire
from bench.measure import Budget, Case, Measurement
from bench.peers.redis_server import command
from bench.report import Report
from bench.run import Options, add_options
from bench.shapes import LostData
from bench.systems import CEILING, ELECTRIC, HYPERCORN, NODE, NODE_MEMORY, REDIS, TAILRACE

SUMMARY: Final = "small catch-up reads over HTTP, beside other servers of this protocol and Redis"

EVENTS: Final = 10
_MARKER: Final = b"user.message"


@dataclass(frozen=True, slots=True)
class Job:
    name: str
    connections: int
    rate: float | None = None
    streams: int = STREAMS


ONE: Final = Job("1 connection", 1)
SOME: Final = Job("64 connections", 64)
MANY: Final = Job("256 connections", 256)
APART: Final = Job("64 connections, 5,000 streams", 64, streams=5000)
STEADY: Final = Job("2,000 reads/s on 64 connections", 64, 2000.0)

_ALL: Final = (TAILRACE, NODE, NODE_MEMORY, ELECTRIC, REDIS, CEILING)
_WHO: Final = {
    ONE: _ALL,
    SOME: (TAILRACE, HYPERCORN, *_ALL[1:]),
    MANY: _ALL,
    APART: (TAILRACE, NODE_MEMORY, ELECTRIC, REDIS, CEILING),
    STEADY: _ALL,
}

BARS: Final = (
    Bar("64 connections / Node in memory", (SOME.name, TAILRACE), (SOME.name, NODE_MEMORY), 1.5),
    Bar(
        f"{APART.name} / Node in memory",
        (APART.name, TAILRACE),
        (APART.name, NODE_MEMORY),
        1.0,
        required=False,
    ),
    *(
        Bar(f"{job.name} / {peer}", (job.name, TAILRACE), (job.name, peer), 1.0, required=False)
        for job in (SOME, MANY, APART)
        for peer in (ELECTRIC, REDIS)
    ),
    Bar("ceiling, 64 / tailrace", (SOME.name, CEILING), (SOME.name, TAILRACE), 1.0, required=False),
)

_NOTES: Final = (
    f"A read asks for a stream of {EVENTS} events from its start (offset=-1) and gets all of it;",
    f"{STREAMS} streams in turn. Every answer's events are counted. Redis: XRANGE key - +.",
    "tailrace gives the answer to a read again while its stream is unchanged, which these are;",
    f"'{APART.name}' asks for {APART.streams:,} streams in turn, more than it keeps answers of.",
    "CPU is the server's, all threads; the load's CPU is the load generator's, which runs on the",
    f"same cores. '{CEILING}' is a server in C that answers with as many bytes, without looking.",
)


def _array(events: list[bytes]) -> bytes:
    return b"[" + b",".join(events) + b"]"


class _Readable:
    """A system that holds so many small streams."""

    def __init__(self, environment: Running, name: str, streams: int) -> None:
        self._name = name
        self._base = environment.server(name).base
        self._paths = [
            f"{self._base.prefix}/bench/{streams}/{stream_name(number)}"
            for number in range(streams)
        ]
        bodies = list(islice(cycle(small_batches(EVENTS)), streams))
        if name == REDIS:
            filling = [
                b"".join(
                    command(b"XADD", path.encode("ascii"), b"*", b"e", event) for event in body
                )
                for path, body in zip(self._paths, bodies, strict=True)
            ]
            group = Group(
                name="fill",
                kind=Kind.REQUEST,
                wire=Wire.RESP,
                connections=1,
                heads=filling,
                answers=EVENTS,
                once=True,
            )
        else:
            environment.load.run(http.plan(self._base, http.create(self._base, self._paths)))
            arrays = [_array(body) for body in bodies]
            group = http.fill(self._base, self._paths, arrays)
        if name != CEILING:
            environment.load.run(http.plan(self._base, group))

    def group(self, job: Job, steps: int | None) -> Group:
        steps = None if steps is None else max(steps, job.connections)
        if self._name != REDIS:
            return http.read(
                self._base,
                self._paths,
                connections=job.connections,
                rate=job.rate,
                steps=steps,
                marker=_MARKER,
            )
        keys = [path.encode("ascii") for path in self._paths]
        return Group(
            name="XRANGE",
            kind=Kind.REQUEST,
            wire=Wire.RESP,
            connections=job.connections,
            heads=[command(b"XRANGE", key, b"-", b"+") for key in keys],
            rate=job.rate,
            steps=steps,
            marker=_MARKER,
        )


class _Measurer:
    def __init__(self, environment: Running) -> None:
        self._environment = environment
        self._readable: dict[tuple[str, int], _Readable] = {}

    def measure(self, _: Path, budget: Budget, name: str, job: Job) -> Measurement:
        place = name, job.streams
        if place not in self._readable:
            self._readable[place] = _Readable(self._environment, *place)
        server = self._environment.server(name)
        group = self._readable[place].group(job, budget.steps)
        result = carry_out(self._environment, server, [group], budget, budget.warm_up().seconds)
        (done,) = result.groups
        if list(done.found) != [count * EVENTS for count in done.acknowledged]:
            raise LostData(
                f"{name} gave {sum(done.found)} events in {sum(done.acknowledged)} reads"
            )
        details = latencies(done) | costs(result, server, done.latency.count)
        return Measurement(done.units, result.measured_s, result.server_cpu_s, details=details)


def _cases(systems: Systems, environment: Running) -> Iterator[Case]:
    measurer = _Measurer(environment)
    for job, names in _WHO.items():
        for name in systems.among(*names):
            yield Case(job.name, name, partial(measurer.measure, name=name, job=job))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, seconds=0.8, rounds=5)
    add_url_argument(parser)


def run(arguments: argparse.Namespace, options: Options, place: Path) -> Report:
    answer = place / "answer"
    answer.write_bytes(_array(small_batches(EVENTS)[0]))
    systems = find_systems(arguments, answer)
    found = measure_all(systems, options, place, _cases)
    return Report(
        command="http-read",
        title=f"Catch-up reads of {EVENTS} events of {EVENT_BYTES} bytes over HTTP",
        unit="reads",
        conditions=found.conditions,
        warnings=found.warnings,
        settings=options.settings(),
        series=found.series,
        verdicts=judge(BARS, found.series),
        notes=list(_NOTES),
        baseline=NODE_MEMORY,
        columns=COLUMNS,
    )
