"""``mixed``: writers, readers, live readers and searches at the same time, at fixed rates."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench.bars import Bar, judge
from bench.corpus import WORDS_PER_QUERY, make_corpus
from bench.events import stream_name
from bench.http_measure import COLUMNS, LOAD_CORES, MEMORY, P99, carry_out, costs, latencies
from bench.http_systems import (
    Running,
    Systems,
    add_url_argument,
    find_systems,
    measure_all,
)
from bench.loadgen import http
from bench.loadgen.plan import Group, GroupResult, Kind
from bench.measure import Budget, Case, Measurement
from bench.report import Report
from bench.run import Options, add_options
from bench.shapes import LostData
from bench.systems import ELECTRIC, NODE, TAILRACE

SUMMARY: Final = "writers, readers, live readers and searches at the same time"

WRITES_PER_SECOND: Final = 500.0
READS_PER_SECOND: Final = 200.0
SEARCHES_PER_SECOND: Final = 20.0
TAILERS: Final = 128
STREAMS: Final = 32
"""As many are read. The reference server answers 404 to appends beyond 100 streams in use."""

STREAMS_JOB: Final = "streams: write, read, tail"
SESSIONS_JOB: Final = "sessions: write, read, tail, search"

_EVENT_BYTES: Final = 300
_CORPUS_EVENTS: Final = 20_000
_QUERIES: Final = 200
_WRITERS: Final = 16
_READERS: Final = 16
_SEARCHERS: Final = 4
_WARM_UP_S: Final = 0.4
_KINDS: Final = ("append", "read", "tail", "search")
_COLUMNS: Final = {f"{kind}_{P99}": f"{kind} p99 ms" for kind in _KINDS}

BARS: Final = (
    Bar("appends/s of those asked for", (STREAMS_JOB, TAILRACE), None, 0.95 * WRITES_PER_SECOND,
        required=False),
)  # fmt: skip

_NOTES: Final = (
    f"At the same time, whatever the answers do: {WRITES_PER_SECOND:g} appends/s of one event of",
    f"{_EVENT_BYTES} bytes to {STREAMS} streams, {READS_PER_SECOND:g} reads/s of streams of 20",
    f"events, {TAILERS} SSE subscribers dealt to the streams that are written; and in sessions,",
    f"which are indexed, {SEARCHES_PER_SECOND:g} searches/s of {WORDS_PER_QUERY} words over all.",
    "Latencies are from the intended time until the answer or (tail) until a subscriber has the",
    "event. Every subscriber must get every event once and in order, or the run fails.",
)


@dataclass(frozen=True, slots=True)
class _Surface:
    """Where a job's streams are, what an append looks like, and whether it can be searched."""

    prefix: str
    suffix: str
    searched: bool

    def paths(self, what: str) -> list[str]:
        return [f"{self.prefix}{what}-{stream_name(n)}{self.suffix}" for n in range(STREAMS)]


class _Measurer:
    def __init__(self, environment: Running) -> None:
        self._environment = environment
        corpus = make_corpus(_CORPUS_EVENTS, STREAMS, _QUERIES)
        self._queries = ["+".join(query.words) for query in corpus.queries]
        self._bodies = [
            self._array(batch.texts[:20]) for batch in corpus.batches if len(batch.texts) >= 20
        ]
        self._tails: dict[tuple[str, str], Sequence[bytes]] = {}

    @staticmethod
    def _array(texts: list[str]) -> bytes:
        """Events of equal length, so that a head serves all of them."""
        events = [
            b'{"type":"user.message","text":"' + text.encode("ascii").ljust(320)[:320] + b'"}'
            for text in texts
        ]
        return b"[" + b",".join(events) + b"]"

    def _surface(self, name: str, job: str) -> _Surface:
        where = self._environment.server(name).base
        if job == SESSIONS_JOB:
            return _Surface("/v1/sessions/", "/events", searched=True)
        return _Surface(f"{where.prefix}/bench/", "", searched=False)

    def _create(self, where: http.Base, surface: _Surface, paths: list[str]) -> None:
        if not surface.searched:  # a session is made by its first append
            self._environment.load.run(http.plan(where, http.create(where, paths)))

    def _groups(self, name: str, job: str, budget: Budget) -> list[Group]:
        where = self._environment.server(name).base
        surface = self._surface(name, job)
        load = self._environment.load
        read, live = surface.paths("read"), surface.paths("live")
        if (name, job) not in self._tails:
            self._create(where, surface, [*read, *live])
            load.run(http.plan(where, http.fill(where, read, self._bodies)))
            if surface.searched:
                load.run(http.plan(where, http.fill(where, live, [b'{"type":"session.started"}'])))
            self._tails[name, job] = [http.START] * len(live)
        follow = http.catch_up(where, live, b"", starts=self._tails[name, job])
        ends = load.run(http.plan(where, follow)).groups[0].ends
        starts = self._tails[name, job] = [end.encode("ascii") for end in ends]
        body, stamp_at = http.stamped_body(_EVENT_BYTES)
        steps = budget.steps
        groups = [
            http.append(
                where,
                live,
                [body],
                connections=_WRITERS,
                rate=WRITES_PER_SECOND,
                steps=steps,
                stamp_at=stamp_at,
            ),
            http.read(where, read, connections=_READERS, rate=READS_PER_SECOND, steps=steps),
            http.subscribe(where, live, starts, connections=TAILERS, live="sse"),
        ]
        if surface.searched:
            searches = [f"/v1/search?limit=20&q={query}" for query in self._queries]
            groups.append(
                Group(
                    name="search",
                    kind=Kind.REQUEST,
                    connections=_SEARCHERS,
                    heads=[http.head(where, b"GET", path) for path in searches],
                    statuses=(200, 200),
                    rate=SEARCHES_PER_SECOND,
                    steps=steps,
                )
            )
        return groups

    def measure(self, _: Path, budget: Budget, name: str, job: str) -> Measurement:
        groups = self._groups(name, job, budget)
        server = self._environment.server(name)
        result = carry_out(self._environment, server, groups, budget, _WARM_UP_S)
        self._check(name, result.groups[0], result.groups[2])
        details: dict[str, float] = {}
        for kind, done in zip(_KINDS, result.groups, strict=False):
            details |= latencies(done, f"{kind}_")
            details[f"{kind}_per_s"] = done.units / result.measured_s
        units = result.groups[0].units
        details |= costs(result, server, sum(done.units for done in result.groups))
        return Measurement(units, result.measured_s, result.server_cpu_s, details=details)

    @staticmethod
    def _check(name: str, writers: GroupResult, tailers: GroupResult) -> None:
        for number, received in enumerate(tailers.received):
            sent = writers.acknowledged[number % STREAMS]
            if received != sent:
                raise LostData(f"{name}: of {sent} events a subscriber got {received}")


def _cases(systems: Systems, environment: Running) -> Iterator[Case]:
    measurer = _Measurer(environment)
    for job, names in {
        STREAMS_JOB: systems.among(TAILRACE, NODE, ELECTRIC),
        SESSIONS_JOB: [TAILRACE],
    }.items():
        for name in names:
            yield Case(job, name, partial(measurer.measure, name=name, job=job))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, seconds=4.0, rounds=5)
    add_url_argument(parser)


def run(arguments: argparse.Namespace, options: Options, place: Path) -> Report:
    systems = find_systems(arguments)
    found = measure_all(systems, options, place, _cases)
    return Report(
        command="mixed",
        title="Everything at once, at fixed rates",
        unit="appends",
        conditions=found.conditions,
        warnings=found.warnings,
        settings=options.settings()
        | {
            "writes_per_s": WRITES_PER_SECOND,
            "reads_per_s": READS_PER_SECOND,
            "searches_per_s": SEARCHES_PER_SECOND,
            "tailers": TAILERS,
        },
        series=found.series,
        verdicts=judge(BARS, found.series),
        notes=list(_NOTES),
        columns={**_COLUMNS, LOAD_CORES: "load's cores", MEMORY: COLUMNS[MEMORY]},
        drawn=f"tail_{P99}",
    )
