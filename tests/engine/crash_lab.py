"""Run a workload on the storage double, remember the disk before every step, judge what is left.

The engine runs without threads and on a clock of its own, so one run of a workload passes every
crash point there is; what the disk may hold at each is derived afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import tailrace
from tailrace.filenames import SNAPSHOT_DIRECTORY, snapshot
from tailrace.operation import Append, Create, Operation, PutSnapshot, StreamKey
from tailrace.options import Options
from tailrace.outcome import Outcome
from tests.engine.faulty_storage import KEPT, DiskState, FaultyStorage, Step
from tests.engine.model import Model
from tests.engine.rows_lab import perform_as_rows
from tests.engine.snapshot_lab import perform
from tests.engine.workload import KEYS, Clock, Workload, assert_outcome, assert_search, observe

JSON = "application/json"
OPTIONS = Options(
    segment_bytes=64 * 1024,
    checkpoint_every_bytes=40 * 1024,
    mark_idle_s=None,
    expiry_sweep_s=1e9,
    background=False,
)


def open_store(storage: FaultyStorage, clock: Clock, options: Options = OPTIONS) -> tailrace.Store:
    """Without threads; expired streams go only when an operation says so, as the model's do."""
    store = tailrace.open("/nowhere", options=options, storage=storage, now_ms=clock)
    store._core.upkeep.sweep = lambda: None  # type: ignore[method-assign]
    return store


def store_for_rows() -> tailrace.Store:
    """With the streams a and c of JSON, and b of text."""
    store = open_store(FaultyStorage(), Clock())
    store.create_bucket("bucket")
    for name, content_type in (("a", JSON), ("b", "text/plain"), ("c", JSON)):
        store.create(StreamKey("bucket", name), content_type=content_type)
    return store


def upkeep(store: tailrace.Store) -> None:
    """What the upkeep thread would do, now."""
    store._core.upkeep.prepare_segment()
    store._core.reserve.wanted = max(store._core.reserve.wanted, 1)  # as after a burst
    store._core.upkeep.fill_reserve()
    store._core.upkeep.run_once()


def without_staged_cut(operation: Operation, group: Sequence[Operation]) -> Operation:
    """A byte sub-offset cuts a durable record, not one that the same group appends."""
    if isinstance(operation, Create) and operation.fork is not None and group:
        return replace(operation, fork=operation.fork._replace(sub_offset=0))
    return operation


@dataclass(slots=True)
class CrashPoint:
    """The disk just before one step, and what had been acknowledged by then."""

    disk: DiskState
    groups_done: int
    now_ms: int


@dataclass(slots=True)
class History:
    """A finished run. ``groups[i]`` was submitted in one call at ``times[i]``."""

    seed: int
    groups: list[list[Operation]] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    points: list[CrashPoint] = field(default_factory=list)


def run(seed: int, groups: int, options: Options = OPTIONS, *, reopen_every: int = 40) -> History:
    """A seeded workload, each operation's outcome held to the model's."""
    history = History(seed)
    clock, model, storage = Clock(), Model(), FaultyStorage()
    workload = Workload(seed, snapshots=True)
    dice = workload.dice

    def remember(_step: Step) -> None:
        history.points.append(CrashPoint(storage.freeze(), done, clock.now_ms))

    done = 0
    storage.on_step = remember
    store = open_store(storage, clock, options)
    for number in range(groups):
        clock.now_ms += dice.choice((0, 1, 7, 300, 1500))
        group: list[Operation] = []
        as_rows = dice.random() < 0.25
        ahead = model.copy()
        if as_rows:
            group += workload.rows(ahead, clock.now_ms)
        for _ in range(0 if as_rows else dice.choice((1, 1, 1, 2, 5))):
            operation = workload.operation(ahead, clock.now_ms)
            operation = without_staged_cut(operation, group)
            if isinstance(operation, PutSnapshot):
                # It has a file, written before, so nothing else is submitted with it.
                if not group:
                    group = [operation]
                break
            ahead.perform(operation, clock.now_ms)
            group.append(operation)
        history.groups.append(group)
        history.times.append(clock.now_ms)
        if as_rows:
            # In the order they were staged in, for the judge: what was left comes last.
            appends = [operation for operation in group if isinstance(operation, Append)]
            group[:], answers = perform_as_rows(store, appends)
        else:
            answers = outcomes(store, group)
        for operation, outcome in zip(group, answers, strict=True):
            assert_outcome(model.perform(operation, clock.now_ms), outcome)
        done += 1
        if dice.random() < 0.2:
            upkeep(store)
        if number % reopen_every == reopen_every - 1:
            store.close()
            store = open_store(storage, clock, options)
    store.close()
    history.points.append(CrashPoint(storage.freeze(), done, clock.now_ms))
    return history


def outcomes(store: tailrace.Store, group: Sequence[Operation]) -> list[Outcome]:
    if isinstance(group[0], PutSnapshot):
        return [perform(store, group[0])]
    return [ticket.wait(60) for ticket in store.submit(group)]


class Judge:
    """The model at each group boundary, rolled forward once as the points go by."""

    def __init__(self, history: History) -> None:
        self.history = history
        self._model = Model()
        self._groups = 0

    def candidates(self, point: CrashPoint) -> tuple[list[Model], list[Operation]]:
        """What may have survived: all that was acknowledged, and any prefix of the rest.

        A log keeps its order, so an operation cannot survive without those before it.
        """
        history = self.history
        assert point.groups_done >= self._groups
        while self._groups < point.groups_done:
            now_ms = history.times[self._groups]
            for operation in history.groups[self._groups]:
                self._model.perform(operation, now_ms)
            self._groups += 1
        pending: list[Operation] = []
        if point.groups_done < len(history.groups) and (
            history.times[point.groups_done] <= point.now_ms
        ):
            pending = history.groups[point.groups_done]
        models = [self._model.copy()]
        for operation in pending:
            after = models[-1].copy()
            after.perform(operation, point.now_ms)
            models.append(after)
        return models, pending


def match(seen: Any, models: Sequence[Model], now_ms: int) -> int:
    """Which candidate the store shows; an assertion that shows the difference if none."""
    wanted = [model.copy().observe(now_ms, KEYS) for model in models]
    for number in reversed(range(len(wanted))):
        if seen == wanted[number]:
            return number
    assert seen == wanted[0]
    raise AssertionError("unreachable")


def judge(
    point: CrashPoint, mode: int, models: Sequence[Model], pending: Sequence[Operation],
    options: Options = OPTIONS,
) -> None:  # fmt: skip
    """Crash here, in this way; recover; everything acknowledged must be there, once."""
    clock = Clock(point.now_ms)
    image = point.disk.image(mode)
    store = open_store(image, clock, options)
    seen = observe(store)
    survived = match(seen, models, point.now_ms)
    assert_no_strays(image, store)
    model = models[survived].copy()
    model.observe(point.now_ms, KEYS)  # it was read, as the store was
    dice = random.Random(mode)
    assert_search(store, model, point.now_ms, dice, most=2)

    seen = observe(store)  # once more: the first reads renewed TTLs
    # What a reader saw must survive a power failure now, and a second recovery.
    for later in (image.image(-1), image.image(KEPT), image.image(dice.randrange(1 << 30))):
        again = open_store(later, clock, options)
        assert observe(again) == seen
        again.close()

    # Clients ask again for what they got no answer to: producers' appends come out once.
    for operation in pending:
        repeatable = isinstance(operation, PutSnapshot) or (
            isinstance(operation, Append) and operation.producer is not None
        )
        if repeatable:
            assert_outcome(model.perform(operation, clock.now_ms), perform(store, operation))
            assert_no_strays(image, store)
    assert observe(store) == model.observe(clock.now_ms, KEYS)
    store.close()


def assert_no_strays(storage: FaultyStorage, store: tailrace.Store) -> None:
    """Of the files of snapshots there are those that some stream names, and no other."""
    states = store._core.durable.streams.values()
    named = {state.snapshot.file for state in states if state.snapshot is not None}
    there = [name for name in storage.names() if name.startswith(f"{SNAPSHOT_DIRECTORY}/")]
    assert sorted(snapshot(file) for file in named) == there


def recovery_points(point: CrashPoint, mode: int, options: Options = OPTIONS) -> list[DiskState]:
    """The disk before every step of the recovery that follows a crash here."""
    image = point.disk.image(mode)
    states: list[DiskState] = []
    image.on_step = lambda _step: states.append(image.freeze())
    open_store(image, Clock(point.now_ms), options)
    return states
