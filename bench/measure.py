"""Taking one measurement, and many of them in a fair order.

A *case* is one system doing one job. All cases of a run are measured once per round, and
every round starts with another case, so that a slow minute of the machine hits all of them
alike and none always runs behind the same neighbour.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

WARM_UP_FRACTION: Final = 0.1


@dataclass(frozen=True, slots=True)
class Budget:
    """How long one measurement may take: ``seconds``, or ``steps`` if that comes first."""

    seconds: float
    steps: int | None = None

    def warm_up(self) -> Budget:
        """The part that runs before the clock starts; at least one step."""
        steps = None if self.steps is None else max(1, int(self.steps * WARM_UP_FRACTION))
        return Budget(self.seconds * WARM_UP_FRACTION, steps)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one case did in one round.

    ``units`` events (or bytes, documents, queries) in ``seconds``; ``cpu_s`` is CPU time of
    the whole process meanwhile; ``syncs`` how often data was made durable, where known;
    ``details`` are further numbers of the case, by name with the unit in the name.
    """

    units: int
    seconds: float
    cpu_s: float
    syncs: int | None = None
    details: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.units / self.seconds


class Stopwatch:
    """Wall and CPU time of a block; the garbage collector runs before it, not in it."""

    def __enter__(self) -> Stopwatch:
        gc.collect()
        self._cpu_start = time.process_time()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start
        self.cpu_s = time.process_time() - self._cpu_start


def drive(step: Callable[[int], object], budget: Budget, first: int = 0) -> int:
    """Call ``step(first)``, ``step(first + 1)``, ... until the budget is used; the step after."""
    clock = time.perf_counter
    end = clock() + budget.seconds
    last = None if budget.steps is None else first + budget.steps
    index = first
    while True:
        step(index)
        index += 1
        if clock() >= end or index == last:
            return index


def measure_steps(
    step: Callable[[int], object], units_per_step: int, budget: Budget, *, durable: bool = True
) -> Measurement:
    """Warm up, then time a step; ``durable``: each is one sync and returns after it."""
    first = drive(step, budget.warm_up())
    with Stopwatch() as watch:
        end = drive(step, budget, first)
    steps = end - first
    syncs = steps if durable else None
    return Measurement(steps * units_per_step, watch.seconds, watch.cpu_s, syncs)


@dataclass(frozen=True, slots=True)
class Case:
    """One system doing one job.

    ``job`` groups the cases that may be compared; ``run(directory, budget)`` measures once
    in an empty directory of its own and raises if what it wrote is not there afterwards.
    ``rounds_max``: the case is measured in the first so many rounds only; None: in all.
    """

    job: str
    system: str
    run: Callable[[Path, Budget], Measurement]
    rounds_max: int | None = None

    @property
    def name(self) -> str:
        return f"{self.job} | {self.system}"

    def rounds_of(self, rounds: int) -> int:
        """In how many of a run's rounds it is measured."""
        return rounds if self.rounds_max is None else min(rounds, self.rounds_max)


@dataclass(frozen=True, slots=True)
class Series:
    """The measurements of one case, one per round."""

    job: str
    system: str
    rounds: tuple[Measurement, ...]

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def rates(self) -> list[float]:
        return [measurement.rate for measurement in self.rounds]

    @property
    def spread(self) -> float:
        """Half the distance from the slowest to the fastest round, as a part of the median."""
        return (max(self.rates) - min(self.rates)) / 2 / self.rate

    @property
    def cpu_us_per_unit(self) -> float:
        return statistics.median(m.cpu_s / m.units * 1e6 for m in self.rounds)

    @property
    def units_per_sync(self) -> float | None:
        values = [m.units / m.syncs for m in self.rounds if m.syncs]
        return statistics.median(values) if values else None

    def detail(self, name: str) -> float | None:
        values = [m.details[name] for m in self.rounds if name in m.details]
        return statistics.median(values) if values else None

    def detail_names(self) -> list[str]:
        return list(dict.fromkeys(name for m in self.rounds for name in m.details))


def rotation(count: int, round_number: int) -> Iterator[int]:
    """The order of ``count`` cases in a round: rotated, and backwards in every other round."""
    order = [(round_number + index) % count for index in range(count)]
    return iter(order if round_number % 2 == 0 else order[::-1])


def run_rounds(
    cases: Sequence[Case],
    rounds: int,
    measure: Callable[[Case], Measurement | None],
    progress: Callable[[str], None],
) -> list[Series]:
    """Measure every case once in each of its rounds; the series in the order of ``cases``.

    A case of which one measurement is None has no series.
    """
    taken: list[list[Measurement]] = [[] for _ in cases]
    for round_number in range(rounds):
        for index in rotation(len(cases), round_number):
            case = cases[index]
            if round_number >= case.rounds_of(rounds):
                continue
            progress(f"round {round_number + 1}/{rounds}: {case.name}")
            measurement = measure(case)
            if measurement is not None:
                taken[index].append(measurement)
    return [
        Series(case.job, case.system, tuple(measurements))
        for case, measurements in zip(cases, taken, strict=True)
        if len(measurements) == case.rounds_of(rounds)
    ]


def percentile(values: Sequence[float], fraction: float) -> float:
    """The smallest value that is not less than ``fraction`` of all of them."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]
