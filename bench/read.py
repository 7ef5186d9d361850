"""``read``: catching up with a long session that is in the page cache, checksums verified."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import tailrace
from bench.bars import Bar, judge
from bench.conditions import conditions, warnings
from bench.events import session_events
from bench.measure import Budget, Case, Measurement, measure_steps
from bench.report import Report
from bench.run import Options, add_options, run_cases
from bench.shapes import LostData
from bench.systems import MEMCPY, PLAIN_FILE, TAILRACE
from tailrace.operation import Append, StreamKey

SUMMARY: Final = "catch-up read of a long session from the page cache, beside memcpy"

EVENTS: Final = 100_000
PIECE_BYTES: Final = 1024 * 1024
SMALL_PIECE_BYTES: Final = 64 * 1024
NEIGHBOURS: Final = 3

SINGLY: Final = "appended one by one"
BATCHED: Final = "appended 100 at a time"
MINGLED: Final = f"one by one, mingled with {NEIGHBOURS} other sessions"
REFERENCE: Final = "the same bytes"

_BUCKET: Final = "bench"
_OPERATIONS_PER_SUBMIT: Final = 1000
_GIGABYTE: Final = 1e9

_BARS: Final = (
    Bar("session appended 100 at a time", (BATCHED, TAILRACE), None, _GIGABYTE),
    Bar("session appended one by one", (SINGLY, TAILRACE), None, _GIGABYTE),
)

_NOTES: Final = (
    f"A step reads the whole session, {PIECE_BYTES >> 20} MiB at a time (or as the row says), from",
    "mapped segments that are in the page cache; every batch's CRC-32C is verified in every read.",
    f"'{MEMCPY}' copies the same bytes in memory in the same pieces; '{PLAIN_FILE}' reads them",
    "with pread from one file in the page cache, into a buffer it uses again.",
)


class _Sessions:
    """A store with one session's events, laid out in the log in three ways."""

    def __init__(self, directory: Path, events: Sequence[bytes]) -> None:
        self.payload = b"".join(event + b"," for event in events)
        self.digest = hashlib.sha256(self.payload).digest()
        self.events = len(events)
        self.store = tailrace.open(directory / "tailrace")
        self.store.create_bucket(_BUCKET)
        self.keys = {
            SINGLY: StreamKey(_BUCKET, "singly"),
            BATCHED: StreamKey(_BUCKET, "batched"),
            MINGLED: StreamKey(_BUCKET, "mingled"),
        }
        neighbours = [StreamKey(_BUCKET, f"neighbour-{n}") for n in range(NEIGHBOURS)]
        for key in (*self.keys.values(), *neighbours):
            self.store.create(key, content_type="application/json")
        for first in range(0, len(events), 100):
            self.store.append(self.keys[BATCHED], events[first : first + 100])
        self._submit([Append(self.keys[SINGLY], (event,)) for event in events])
        self._submit(
            [Append(key, (event,)) for event in events for key in (self.keys[MINGLED], *neighbours)]
        )

    def _submit(self, operations: list[Append]) -> None:
        """All of them, each a batch of its own in the log."""
        for first in range(0, len(operations), _OPERATIONS_PER_SUBMIT):
            tickets = self.store.submit(operations[first : first + _OPERATIONS_PER_SUBMIT])
            tickets[-1].wait()

    def check(self, key: StreamKey, piece_bytes: int) -> None:
        """The session comes back byte for byte; LostData if not."""
        digest = hashlib.sha256()
        ordinal = 0
        while True:
            result = self.store.read(key, ordinal, max_bytes=piece_bytes)
            digest.update(result.payload)
            ordinal = result.next
            if result.up_to_date:
                break
        if ordinal != self.events or digest.digest() != self.digest:
            raise LostData(f"{key} does not read back as it was written")

    def catch_up(self, key: StreamKey, piece_bytes: int) -> int:
        """Read the whole session; how many bytes came."""
        read = self.store.read
        ordinal = length = 0
        while True:
            result = read(key, ordinal, max_bytes=piece_bytes)
            length += len(result.payload)
            ordinal = result.next
            if result.up_to_date:
                return length


def _engine(_: Path, budget: Budget, sessions: _Sessions, job: str, piece: int) -> Measurement:
    key = sessions.keys[job]
    sessions.check(key, piece)
    return measure_steps(
        lambda _: sessions.catch_up(key, piece), len(sessions.payload), budget, durable=False
    )


def _memcpy(_: Path, budget: Budget, payload: bytes) -> Measurement:
    source = memoryview(payload)
    target = bytearray(min(PIECE_BYTES, len(payload)))

    def step(_: int) -> None:
        for position in range(0, len(source), PIECE_BYTES):
            piece = source[position : position + PIECE_BYTES]
            target[: len(piece)] = piece

    return measure_steps(step, len(payload), budget, durable=False)


def _plain_file(directory: Path, budget: Budget, payload: bytes) -> Measurement:
    (directory / "payload").write_bytes(payload)
    descriptor = os.open(directory / "payload", os.O_RDONLY)
    target = bytearray(PIECE_BYTES)

    def step(_: int) -> None:
        for position in range(0, len(payload), PIECE_BYTES):
            os.preadv(descriptor, [target], position)

    try:
        return measure_steps(step, len(payload), budget, durable=False)
    finally:
        os.close(descriptor)


def _cases(sessions: _Sessions) -> list[Case]:
    small = f"{TAILRACE}, {SMALL_PIECE_BYTES >> 10} KiB at a time"
    cases = [
        Case(REFERENCE, MEMCPY, partial(_memcpy, payload=sessions.payload)),
        Case(REFERENCE, PLAIN_FILE, partial(_plain_file, payload=sessions.payload)),
    ]
    for job in sessions.keys:
        for system, piece in ((TAILRACE, PIECE_BYTES), (small, SMALL_PIECE_BYTES)):
            run_case = partial(_engine, sessions=sessions, job=job, piece=piece)
            cases.append(Case(job, system, run_case))
    return cases


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, seconds=0.5, rounds=5)
    parser.add_argument("--events", type=int, default=EVENTS, help=f"default {EVENTS:,}")


def run(arguments: argparse.Namespace, options: Options, place: Path) -> Report:
    found = conditions(place)
    options.say(f"writing a session of {arguments.events:,} events three times")
    sessions = _Sessions(place, session_events(arguments.events))
    try:
        series = run_cases(options, _cases(sessions), place)
    finally:
        sessions.store.close()
    size = len(sessions.payload)
    return Report(
        command="read",
        title=f"Catch-up read of a session of {arguments.events:,} events, {size:,} bytes",
        unit="bytes",
        conditions=found,
        warnings=warnings(found),
        settings=options.settings() | {"events": arguments.events, "session_bytes": size},
        series=series,
        verdicts=judge(_BARS, series),
        notes=list(_NOTES),
        scale=_GIGABYTE,
        scaled_unit="GB/s",
    )
