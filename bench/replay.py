"""``replay``: many clients come back at once, and each reads its session from the start."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from bench.bars import Bar, judge
from bench.events import stream_name
from bench.http_measure import COLUMNS, LOAD_CPU, P50, P99, Growth, carry_out, costs, latencies
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
from bench.systems import ELECTRIC, HYPERCORN, NODE, NODE_MEMORY, TAILRACE

SUMMARY: Final = "1,000 clients at once, each reading 200 events of 1 KiB from the start"

CLIENTS: Final = 1000
EVENTS: Final = 200
EVENT_BYTES: Final = 1024

_MARKER: Final = b"~replay"
_BODIES: Final = 100
_PATIENCE_S: Final = 60.0
_RATE: Final = "megabytes_s"
_GROWTH: Final = "growth_mib"

BARS: Final = (
    Bar("replay / Node", ("replay", TAILRACE), ("replay", NODE), 3.0),
    Bar("replay / Node in memory", ("replay", TAILRACE), ("replay", NODE_MEMORY), 1.0,
        required=False),
    Bar("replay / Electric, Rust", ("replay", TAILRACE), ("replay", ELECTRIC), 1.0,
        required=False),
)  # fmt: skip

_NOTES: Final = (
    f"Each client has a stream of its own, {EVENTS} events of {EVENT_BYTES} bytes, written by one",
    "append, and is connected before the clock starts. All ask at the same moment, and the clock",
    "stops when the last has everything; latencies are those of whole replays. Every client's",
    "events are counted. 'grew by' is the server's own memory at its highest.",
)


def _events(first: int) -> bytes:
    """A JSON array of :data:`EVENTS` events, different for every ``first``."""
    events: list[bytes] = []
    for number in range(first * EVENTS, (first + 1) * EVENTS):
        head = b'{"type":"agent.message","text":"' + _MARKER + b" %08d " % number
        words = b"%08x " % (number * 2654435761 % 2**32)
        events.append((head + words * EVENT_BYTES)[: EVENT_BYTES - 2] + b'"}')
    return b"[" + b",".join(events) + b"]"


class _Measurer:
    def __init__(self, environment: Running, clients: int) -> None:
        self._environment = environment
        self._clients = clients
        self._bodies = [_events(first) for first in range(min(_BODIES, clients))]
        self._filled: dict[str, list[str]] = {}

    def _paths(self, name: str) -> list[str]:
        if name not in self._filled:
            where = self._environment.server(name).base
            paths = [
                f"{where.prefix}/bench/replay/{stream_name(number)}"
                for number in range(self._clients)
            ]
            load = self._environment.load
            load.run(http.plan(where, http.create(where, paths)))
            load.run(http.plan(where, http.fill(where, paths, self._bodies)))
            self._filled[name] = paths
        return self._filled[name]

    def measure(self, _: Path, __: Budget, name: str) -> Measurement:
        paths = self._paths(name)
        server = self._environment.server(name)
        group = http.catch_up(server.base, paths, _MARKER, connections=self._clients)
        with Growth(server) as growth:
            budget = Budget(_PATIENCE_S)
            result = carry_out(self._environment, server, [group], budget, warm_up_s=0.0)
        (done,) = result.groups
        if any(found != EVENTS for found in done.found):
            raise LostData(f"{name}: a client got {min(done.found)} of {EVENTS} events")
        details = latencies(done) | costs(result, server, done.units)
        details[_RATE] = done.body_bytes / result.measured_s / 1e6
        details[_GROWTH] = growth.mib
        return Measurement(done.units, result.measured_s, result.server_cpu_s, details=details)


def _cases(systems: Systems, measurer: _Measurer) -> Iterator[Case]:
    for name in systems.among(TAILRACE, HYPERCORN, NODE, NODE_MEMORY, ELECTRIC):
        yield Case("replay", name, partial(measurer.measure, name=name))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, seconds=0.0, rounds=5)
    add_url_argument(parser)
    parser.add_argument("--clients", type=int, default=CLIENTS, help=f"default {CLIENTS:,}")


def run(arguments: argparse.Namespace, options: Options, place: Path) -> Report:
    systems = find_systems(arguments)
    found = measure_all(
        systems,
        options,
        place,
        lambda systems, environment: _cases(systems, _Measurer(environment, arguments.clients)),
    )
    return Report(
        command="replay",
        title=f"{arguments.clients:,} clients at once, {EVENTS} events of {EVENT_BYTES} bytes each",
        unit="clients",
        conditions=found.conditions,
        warnings=found.warnings,
        settings={"rounds": options.rounds, "clients": arguments.clients},
        series=found.series,
        verdicts=judge(BARS, found.series),
        notes=list(_NOTES),
        baseline=NODE,
        columns={
            _RATE: "MB/s",
            P50: COLUMNS[P50],
            P99: COLUMNS[P99],
            LOAD_CPU: COLUMNS[LOAD_CPU],
            _GROWTH: "grew by MiB",
        },
    )
