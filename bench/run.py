"""What all commands share: their options, a directory of their own, and who runs when."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.measure import Budget, Case, Measurement, Series, run_rounds

_QUICK_SECONDS: Final = 0.3
_QUICK_ROUNDS: Final = 3
_PROBE_BYTES: Final = 4096
_SETTLE_S_MAX: Final = 1.0
_STEADY_SYNCS: Final = 50
_STEADY_FACTOR: Final = 3.0


@dataclass(frozen=True, slots=True)
class Options:
    """The common options of a command."""

    seconds: float
    rounds: int
    steps: int | None
    only: tuple[str, ...]
    directory: Path
    quiet: bool

    def settings(self) -> dict[str, object]:
        return {"rounds": self.rounds, "seconds_per_case": self.seconds}

    @property
    def budget(self) -> Budget:
        return Budget(self.seconds, self.steps)

    def wants(self, case: Case) -> bool:
        """Whether ``--only`` (parts of names, any of them) lets the case run."""
        name = case.name.lower()
        return not self.only or any(part.lower() in name for part in self.only)

    def say(self, line: str) -> None:
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)


def add_options(parser: argparse.ArgumentParser, *, seconds: float, rounds: int) -> None:
    """The common options, with a command's own defaults."""
    parser.add_argument("--seconds", type=float, help=f"per case and round (default {seconds:g})")
    parser.add_argument("--rounds", type=int, help=f"medians are taken of these (default {rounds})")
    parser.add_argument(
        "--steps",
        type=int,
        help="at most so many durable writes (reads, queries) per case: to check, not to measure",
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{_QUICK_SECONDS:g} s, {_QUICK_ROUNDS} rounds"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PART",
        help="only cases whose name contains this (may be repeated)",
    )
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path("."),
        help="a directory on the disk to measure; all is written below it and removed again "
        "(default: the current one)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to FILE")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw them (.png, .svg; needs matplotlib)"
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with status 1 if a bar is not reached"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress lines")
    parser.set_defaults(default_seconds=seconds, default_rounds=rounds)


def options_of(arguments: argparse.Namespace) -> Options:
    """The parsed common options; what was given wins over ``--quick``, that over defaults."""
    seconds = _QUICK_SECONDS if arguments.quick else arguments.default_seconds
    rounds = _QUICK_ROUNDS if arguments.quick else arguments.default_rounds
    return Options(
        seconds=seconds if arguments.seconds is None else arguments.seconds,
        rounds=rounds if arguments.rounds is None else arguments.rounds,
        steps=arguments.steps,
        only=tuple(arguments.only),
        directory=arguments.dir,
        quiet=arguments.quiet,
    )


@contextmanager
def workspace(options: Options) -> Iterator[Path]:
    """A new directory below ``--dir``, removed at the end."""
    options.directory.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=".bench-", dir=options.directory))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def settle(place: Path) -> None:
    """Wait until the disk has dealt with what ran before: late writes, deleted files.

    Deleting files can keep a disk busy after the call returns (the journal, discards), and a
    case must not pay for its neighbour. Done when syncs are steady, or after a bounded time.
    """
    descriptor = os.open(place / "settle", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, bytes(_PROBE_BYTES), 0)
        os.fsync(descriptor)
        give_up = time.perf_counter() + _SETTLE_S_MAX
        fastest = float("inf")
        steady = 0
        while steady < _STEADY_SYNCS and time.perf_counter() < give_up:
            start = time.perf_counter()
            os.pwrite(descriptor, b"\1", 0)
            os.fdatasync(descriptor)
            seconds = time.perf_counter() - start
            fastest = min(fastest, seconds)
            steady = steady + 1 if seconds < _STEADY_FACTOR * fastest else 0
    finally:
        os.close(descriptor)


def _measurer(options: Options, place: Path) -> Callable[[Case], Measurement]:
    def measure(case: Case) -> Measurement:
        path = Path(tempfile.mkdtemp(dir=place))
        if options.steps is None:  # else it is a check of the program, not a measurement
            settle(place)
        try:
            return case.run(path, options.budget)
        finally:
            shutil.rmtree(path)

    return measure


def run_cases(options: Options, cases: Sequence[Case], place: Path) -> list[Series]:
    """All wanted cases in rounds, each measurement in an empty directory of its own."""
    wanted = [case for case in cases if options.wants(case)]
    return run_rounds(wanted, options.rounds, _measurer(options, place), options.say)


def run_forgiving(
    options: Options,
    cases: Sequence[Case],
    place: Path,
    forgives: Callable[[Case, Exception], bool],
) -> tuple[list[Series], list[str]]:
    """As :func:`run_cases`; a case whose error ``forgives`` accepts is left out of the rest of
    the run and of the result, with a line that says why.
    """
    failed: dict[str, str] = {}
    measure = _measurer(options, place)

    def try_to(case: Case) -> Measurement | None:
        if case.name in failed:
            return None
        try:
            return measure(case)
        except Exception as error:
            if not forgives(case, error):
                raise
            failed[case.name] = f"'{case.name}' was left out: {' '.join(str(error).split())}"
            return None

    wanted = [case for case in cases if options.wants(case)]
    series = run_rounds(wanted, options.rounds, try_to, options.say)
    return series, list(failed.values())
