"""Expired streams go, and finding them costs what expires, not what there is (section 5.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import tailrace
from tailrace.batch import Kind
from tailrace.decide import decide
from tailrace.expiry import Expiry
from tailrace.operation import Append, Create, Delete, Expire, StreamKey, StreamOptions, Touch
from tailrace.options import Options
from tailrace.plan import Context, Plan
from tailrace.stream import StreamState, is_expired
from tests.engine.decide_lab import A, Engine
from tests.engine.model import Model
from tests.engine.test_decide_model import Pure
from tests.engine.workload import Clock, Workload

QUIET = Options(background=False, mark_idle_s=None)
TTL = StreamOptions(ttl_ms=1_000)


class Watched(Mapping[int, StreamState]):
    """An engine's streams, and how often one was looked at."""

    def __init__(self, engine: Engine) -> None:
        self.looks = 0
        self._streams = engine.catalog.streams

    def __getitem__(self, stream_id: int) -> StreamState:
        self.looks += 1
        return self._streams[stream_id]

    def __iter__(self) -> Iterator[int]:
        self.looks += len(self._streams)
        return iter(self._streams)

    def __len__(self) -> int:
        return len(self._streams)


def key(number: int) -> StreamKey:
    return StreamKey("bucket", f"s{number}")


def made(engine: Engine, expiry: Expiry, key: StreamKey, options: StreamOptions) -> None:
    stream_id = engine.done(Create(key, options)).stream_id
    expiry.add(engine.catalog.streams[stream_id])


def test_a_look_costs_what_is_due_not_what_there_is() -> None:
    engine = Engine()
    for number in range(2_000):
        options = StreamOptions() if number % 2 else StreamOptions(ttl_ms=1_000_000 + number)
        engine.done(Create(key(number), options))
    for number in range(2_000, 2_005):
        engine.done(Create(key(number), TTL))
    streams = Watched(engine)
    expiry = Expiry(streams)
    streams.looks = 0
    assert len(expiry) == 1_005, "streams without an expiry have no entry"
    assert expiry.due(engine.now_ms) == [] and streams.looks == 0
    engine.now_ms += 1_000
    expired = expiry.due(engine.now_ms)
    assert sorted(expired) == [key(number) for number in range(2_000, 2_005)]
    assert streams.looks == 5
    # Told again until they are gone, which the sweep sees to.
    assert sorted(expiry.due(engine.now_ms)) == sorted(expired)
    for name in expired:
        engine.done(Expire(name))
    streams.looks = 0
    assert expiry.due(engine.now_ms) == [] and streams.looks == 5
    assert expiry.due(engine.now_ms) == [] and streams.looks == 5


def test_a_stream_in_use_is_looked_at_once_in_each_ttl() -> None:
    engine = Engine()
    engine.done(Create(A, TTL))
    streams = Watched(engine)
    expiry = Expiry(streams)
    streams.looks = 0
    rounds = 500
    for number in range(rounds):
        engine.now_ms += 250
        engine.done(Append(A, [b"x"]) if number % 2 else Touch(A))
        before = streams.looks
        assert expiry.due(engine.now_ms) == []
        assert streams.looks - before <= 1 and len(expiry) == 1
    assert streams.looks < 2 + rounds * 250 // 750
    engine.now_ms += 1_000
    assert expiry.due(engine.now_ms) == [A]


def test_streams_deleted_before_their_time_are_forgotten() -> None:
    engine = Engine()
    expiry = Expiry(engine.catalog.streams)
    made(engine, expiry, A, StreamOptions(ttl_ms=1_000_000))
    for number in range(5_000):
        made(engine, expiry, key(number), StreamOptions(ttl_ms=1_000_000))
        engine.done(Delete(key(number)))
    assert len(expiry) < 2_000
    engine.now_ms += 1_000_000
    assert expiry.due(engine.now_ms) == [A]


def test_it_finds_what_looking_at_every_stream_finds() -> None:
    assert sum(map(_compared, range(30))) > 100, "hardly anything expired"


def _compared(seed: int) -> int:
    """Run random operations; how often a stream was found to be due."""
    clock, model, pure = Clock(), Model(), Pure()
    workload = Workload(seed, large=0.0)
    expiry = Expiry(pure.catalog.streams)
    found = 0
    for _ in range(200):
        clock.now_ms += workload.dice.choice((0, 0, 1, 200, 900))
        operation = workload.operation(model, clock.now_ms)
        context = Context(clock.now_ms, 1 << 20, pure.partial(operation))
        decision = decide(pure.catalog, operation, context)
        model.perform(operation, clock.now_ms)
        if isinstance(decision, Plan):
            pure.install(decision.batch)
            if decision.batch.kind == Kind.CREATE:
                expiry.add(pure.catalog.streams[decision.batch.stream_id])
        due = expiry.due(clock.now_ms)
        assert sorted(due) == sorted(
            state.config.key
            for state in pure.catalog.streams.values()
            if not state.detached and is_expired(state, clock.now_ms)
        )
        assert sorted(due) == sorted(Expiry(pure.catalog.streams).due(clock.now_ms))
        found += len(due)
    return found


def test_a_sweep_deletes_what_is_over_also_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    with tailrace.open(tmp_path, options=QUIET, now_ms=clock) as store:
        store.create_bucket("bucket")
        for number in range(3):
            store.create(key(number), ttl_ms=1_000)
        store.create(key(3), expires_at_ms=clock.now_ms + 5_000)
        store.append(key(4), [b"x"], create=StreamOptions(ttl_ms=9_000))
        clock.now_ms += 800
        store.append(key(0), [b"x"])
        store.read(key(1), 0)
        clock.now_ms += 200
        store._core.upkeep.sweep()
        assert store.counters()["streams"] == 4
    with tailrace.open(tmp_path, options=QUIET, now_ms=clock) as store:
        clock.now_ms += 1_000
        store._core.upkeep.sweep()
        assert store.counters()["streams"] == 2
        clock.now_ms += 10_000
        store._core.upkeep.sweep()
        assert store.counters()["streams"] == 0
        store._core.upkeep.sweep()
        assert len(store._core.expiry) == 0
