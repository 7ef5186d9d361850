"""``decide`` and ``apply`` against the model, without any disk."""

from __future__ import annotations

import os

import pytest

from tailrace.batch import Batch, split_records
from tailrace.catalog import Catalog, Change, apply
from tailrace.decide import decide
from tailrace.operation import Create, Expire, Operation
from tailrace.plan import Context, Partial, Plan
from tests.engine.model import Model
from tests.engine.snapshot_lab import told
from tests.engine.workload import KEYS, Clock, Workload, assert_outcome

SEEDS = range(int(os.environ.get("TAILRACE_MODEL_SEEDS", "150")))
STEPS = 150


class Pure:
    """A catalog, and the records that batches carried, by stream id and ordinal."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.records: dict[int, dict[int, bytes]] = {}

    def record(self, stream_id: int, ordinal: int) -> bytes | None:
        config = self.catalog.streams[stream_id].config
        while ordinal < config.base:
            assert config.source_id is not None
            config = self.catalog.streams[config.source_id].config
        return self.records[config.stream_id].get(ordinal)

    def partial(self, operation: Operation) -> Partial | None:
        if not isinstance(operation, Create) or operation.fork is None:
            return None
        source = self.catalog.find(operation.fork.source)
        if source is None:
            return None
        ordinal = source.tail if operation.fork.ordinal is None else operation.fork.ordinal
        if not source.start <= ordinal < source.tail:
            return None
        record = self.record(source.config.stream_id, ordinal)
        return None if record is None else Partial(source.config.stream_id, ordinal, record)

    def install(self, batch: Batch) -> Change:
        change = apply(self.catalog, batch)
        self.catalog.install(change)
        if len(batch.ends):
            is_json = self.catalog.streams[batch.stream_id].config.is_json
            own = self.records.setdefault(batch.stream_id, {})
            for i, record in enumerate(split_records(batch.payload, batch.ends, is_json)):
                own[batch.base_ordinal + i] = record
        self.records.setdefault(batch.stream_id, {})
        return change


def sweep(pure: Pure, now_ms: int) -> None:
    """What the store does every few seconds."""
    for key in list(pure.catalog.names):
        decision = decide(pure.catalog, Expire(key), Context(now_ms, 1 << 20))
        if isinstance(decision, Plan):
            pure.install(decision.batch)


def assert_consistent(pure: Pure) -> None:
    """Every name leads to a stream, every source is held, every count is right."""
    catalog = pure.catalog
    for key, stream_id in catalog.names.items():
        assert catalog.streams[stream_id].config.key == key
        assert not catalog.streams[stream_id].detached
    forks: dict[int, int] = {}
    for state in catalog.streams.values():
        if state.config.source_id is not None:
            forks[state.config.source_id] = forks.get(state.config.source_id, 0) + 1
    for stream_id, state in catalog.streams.items():
        assert state.forks == forks.get(stream_id, 0)
        if state.deleted:
            assert state.forks > 0, "a deleted stream is kept though nothing needs it"
        else:
            assert catalog.names[state.config.key] == stream_id
        assert 0 <= state.start <= state.tail
    for bucket, held in catalog.buckets.items():
        assert held.streams == sum(key.bucket == bucket for key in catalog.names)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_operations_agree_with_the_model(seed: int) -> None:
    clock, model, pure = Clock(), Model(), Pure()
    workload = Workload(seed, large=0.0, snapshots=True)
    for _ in range(STEPS):
        clock.now_ms += workload.dice.choice((0, 0, 1, 200, 900))
        if workload.dice.random() < 0.1:
            sweep(pure, clock.now_ms)
            model.sweep(clock.now_ms)
        operation = workload.operation(model, clock.now_ms)
        context = Context(clock.now_ms, 1 << 20, pure.partial(operation))
        decision = decide(pure.catalog, operation, context)
        if isinstance(decision, Plan):
            pure.install(decision.batch)
            outcome = decision.outcome
        else:
            outcome = decision
        expected = model.perform(operation, clock.now_ms)
        assert_outcome(expected, outcome)
        assert_consistent(pure)
    for key in KEYS:
        stream = model.present(key, clock.now_ms)
        state = pure.catalog.find(key)
        if stream is None:
            continue
        assert state is not None
        got = [pure.record(state.config.stream_id, n) for n in range(stream.start, stream.tail)]
        assert got == stream.records[stream.start :]
        assert (state.tail, state.start, state.closed) == (stream.tail, stream.start, stream.closed)
        assert state.metadata == stream.metadata
        assert told(state.snapshot) == told(stream.snapshot)
