"""``http-catch-up``: one long stream read from its start over HTTP, beside sendfile(2)."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from bench import servers
from bench.bars import Bar, judge
from bench.events import session_events
from bench.http_measure import COLUMNS, LOAD_CORES, MEMORY, Growth, carry_out
from bench.http_systems import (
    Running,
    Systems,
    add_url_argument,
    find_systems,
    measure_all,
)
from bench.loadgen import http
from bench.loadgen.plan import Result
from bench.measure import Budget, Case, Measurement
from bench.report import Report
from bench.run import Options, add_options
from bench.shapes import LostData
from bench.systems import ELECTRIC, HYPERCORN, NODE, NODE_MEMORY, SENDFILE, TAILRACE

SUMMARY: Final = "a 100 MB stream read over HTTP, beside sendfile(2) of the same bytes"

MEGABYTES: Final = 100
_APPEND_BYTES: Final = 1_000_000
_POOL_EVENTS: Final = 20_000
_PATH: Final = "/bench/long"
_PATIENCE_S: Final = 60.0
_TIMES_MAX: Final = 100
_MARKER: Final = b"evt_"
_GIGABYTE: Final = 1e9
_GROWTH: Final = "growth_mib"
_RESIDENT: Final = "resident_growth_mib"

JOB: Final = "one client"
FOUR: Final = "4 clients"
_CLIENTS: Final = {JOB: 1, FOUR: 4}

BARS: Final = (
    Bar("one client / sendfile", (JOB, TAILRACE), (JOB, SENDFILE), 0.35),
    Bar("server's memory grows by", (JOB, TAILRACE), None, 32.0, detail=_GROWTH, at_most=True),
    Bar("4 clients / sendfile", (FOUR, TAILRACE), (FOUR, SENDFILE), 0.35, required=False),
    Bar("one client / Electric, Rust", (JOB, TAILRACE), (JOB, ELECTRIC), 1.0, required=False),
    Bar("one client / Node", (JOB, TAILRACE), (JOB, NODE), 1.0, required=False),
)

_NOTES: Final = (
    "A client reads the whole stream from offset=-1, page by page as the server gives it, and",
    "begins again; bytes are those of the bodies. The server's memory is what it has of its own",
    "(anonymous and shared), at its highest so far, over what it had when the stream was written;",
    "'mapped too' counts pages of mapped files as well, which are the page cache's.",
    f"'{SENDFILE}' sends the same JSON as one answer.",
)


class _Long:
    """The stream's contents: events of a session, over and over, in appends of about 1 MB."""

    def __init__(self, size: int) -> None:
        pool = session_events(_POOL_EVENTS)
        self.bodies: list[bytes] = []
        self.events = length = 0
        batch: list[bytes] = []
        batch_bytes = number = 0
        while length < size:
            event = pool[number % len(pool)]
            number += 1
            batch.append(event)
            batch_bytes += len(event) + 1
            if batch_bytes >= min(_APPEND_BYTES, size - length):
                self.bodies.append(b"[" + b",".join(batch) + b"]")
                self.events += len(batch)
                length += batch_bytes
                batch, batch_bytes = [], 0
        self.json = b"[" + b",".join(body[1:-1] for body in self.bodies) + b"]"


class _Measurer:
    def __init__(self, environment: Running, long: _Long) -> None:
        self._environment = environment
        self._long = long
        self._growth: dict[str, Growth] = {}

    def _fill(self, name: str) -> None:
        """Write the stream, and see that it comes back: every event, and as many bytes."""
        where = self._environment.server(name).base
        paths = [where.prefix + _PATH]
        load = self._environment.load
        if name != SENDFILE:
            load.run(http.plan(where, http.create(where, paths)))
            load.run(http.plan(where, http.append_in_order(where, paths[0], self._long.bodies)))
        self._growth[name] = Growth(self._environment.server(name))
        with self._growth[name]:
            read = load.run(http.plan(where, http.catch_up(where, paths, _MARKER))).groups[0]
        if read.found[0] != self._long.events:
            raise LostData(f"{name} gives back {read.found[0]} of {self._long.events} events")

    def _read(self, name: str, job: str, times: int) -> Result:
        """Every client reads the whole stream so many times."""
        server = self._environment.server(name)
        clients = _CLIENTS[job]
        paths = [server.base.prefix + _PATH] * (clients * times)
        group = http.catch_up(server.base, paths, b"", connections=clients)
        budget = Budget(_PATIENCE_S)
        return carry_out(self._environment, server, [group], budget, warm_up_s=0.0)

    def measure(self, _: Path, budget: Budget, name: str, job: str) -> Measurement:
        if name not in self._growth:
            self._fill(name)
        server = self._environment.server(name)
        with self._growth[name] as growth:
            first = self._read(name, job, 1)  # the warm-up, which says how often to read
            times = max(1, min(budget.steps or _TIMES_MAX, int(budget.seconds / first.measured_s)))
            result = self._read(name, job, times)
        (done,) = result.groups
        details = {
            LOAD_CORES: result.cpu_s / result.measured_s,
            MEMORY: server.memory_mib("VmRSS"),
            _GROWTH: growth.mib,
            _RESIDENT: growth.resident_mib,
        }
        return Measurement(done.body_bytes, result.measured_s, result.server_cpu_s, details=details)


def _cases(systems: Systems, measurer: _Measurer, jobs: Sequence[str]) -> Iterator[Case]:
    names = (TAILRACE, HYPERCORN, NODE, NODE_MEMORY, ELECTRIC, SENDFILE)
    for job in jobs:
        for name in systems.among(*names):
            yield Case(job, name, partial(measurer.measure, name=name, job=job))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, seconds=1.0, rounds=5)
    add_url_argument(parser)
    parser.add_argument(
        "--megabytes", type=float, default=MEGABYTES, help=f"of the stream (default {MEGABYTES})"
    )


def run(arguments: argparse.Namespace, options: Options, place: Path) -> Report:
    long = _Long(int(arguments.megabytes * 1e6))
    file = place / "sent"
    file.write_bytes(long.json)
    systems = find_systems(arguments)
    systems.starters[SENDFILE] = partial(servers.nothing, body=file, sendfile=True)
    found = measure_all(
        systems,
        options,
        place,
        lambda systems, environment: _cases(systems, _Measurer(environment, long), tuple(_CLIENTS)),
    )
    size = len(long.json)
    return Report(
        command="http-catch-up",
        title=f"Catch-up read of a stream of {long.events:,} events, {size:,} bytes, over HTTP",
        unit="bytes",
        conditions=found.conditions,
        warnings=found.warnings,
        settings=options.settings() | {"stream_bytes": size, "stream_events": long.events},
        series=found.series,
        verdicts=judge(BARS, found.series),
        notes=list(_NOTES),
        scale=_GIGABYTE,
        scaled_unit="GB/s",
        baseline=SENDFILE,
        columns={
            LOAD_CORES: "load's cores",
            MEMORY: COLUMNS[MEMORY],
            _GROWTH: "grew by MiB",
            _RESIDENT: "mapped too, MiB",
        },
    )
