"""Every crash point of random workloads: what was acknowledged survives, once, whole.

TAILRACE_CRASH_SEEDS=N runs N workloads, with every point in every way; the suite itself samples.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.engine.crash_lab import (
    CrashPoint,
    Judge,
    assert_no_strays,
    judge,
    match,
    open_store,
    recovery_points,
    run,
)
from tests.engine.faulty_storage import DROPPED, KEPT, KILLED
from tests.engine.model import Model
from tests.engine.workload import Clock, observe

pytestmark = pytest.mark.long

EXHAUSTIVE = int(os.environ.get("TAILRACE_CRASH_SEEDS", "0"))
SEEDS = range(EXHAUSTIVE or 5)
GROUPS = 120
POINTS = 1 << 30 if EXHAUSTIVE else 110
RECOVERIES = 60 if EXHAUSTIVE else 12
TORN = 5


def modes(dice: random.Random) -> list[int]:
    """Every way to crash; two of them unless all are asked for."""
    every = [DROPPED, KEPT, KILLED, *(dice.randrange(1 << 30) for _ in range(TORN))]
    return every if EXHAUSTIVE else dice.sample(every, 2)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_crash_point_keeps_what_was_acknowledged(seed: int) -> None:
    history = run(seed, GROUPS)
    dice = random.Random(seed)
    lab = Judge(history)
    for number in sorted(dice.sample(range(len(history.points)), min(POINTS, len(history.points)))):
        point = history.points[number]
        models, pending = lab.candidates(point)
        for mode in modes(dice):
            try:
                judge(point, mode, models, pending)
            except BaseException as error:
                error.add_note(f"seed {seed} point {number} {point.disk.step} mode {mode}")
                raise


@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_crash_in_recovery_is_recovered_from(seed: int) -> None:
    history = run(seed + 1000, GROUPS)
    dice = random.Random(seed)
    lab = Judge(history)
    judged = 0
    for number in sorted(dice.sample(range(len(history.points)), RECOVERIES)):
        point = history.points[number]
        models, _pending = lab.candidates(point)
        (mode, *_) = modes(dice)
        for state in recovery_points(point, mode):
            for inner in modes(dice):
                try:
                    crash_again(CrashPoint(state, point.groups_done, point.now_ms), inner, models)
                except BaseException as error:
                    error.add_note(
                        f"seed {seed} point {number} {point.disk.step} mode {mode}, "
                        f"then {state.step} mode {inner}"
                    )
                    raise
                judged += 1
    assert judged > RECOVERIES // 2


def crash_again(point: CrashPoint, mode: int, models: list[Model]) -> None:
    image = point.disk.image(mode)
    store = open_store(image, Clock(point.now_ms))
    assert_no_strays(image, store)
    seen = observe(store)
    match(seen, models, point.now_ms)
    seen = observe(store)  # once more: the first reads renewed TTLs
    store.close()
    again = open_store(image.image(DROPPED), Clock(point.now_ms))
    assert observe(again) == seen
    again.close()
