"""Appends in columns come to what the same appends come to one after the other."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tailrace
from tailrace.batch import Batch, Kind, split_records
from tailrace.offset_index import BadIndex, MemoryIndex
from tailrace.operation import (
    Append,
    Create,
    Delete,
    ForkPoint,
    Operation,
    Producer,
    StreamKey,
    StreamOptions,
    Trim,
)
from tailrace.outcome import Appended, Outcome
from tailrace.plan import live_stream
from tailrace.rows import AppendedRows
from tailrace.stream import StreamState
from tests.engine.crash_lab import JSON, open_store, store_for_rows
from tests.engine.faulty_storage import FaultyStorage
from tests.engine.rows_lab import (
    columns,
    one_group,
    outcome_of_rows,
    perform_as_rows,
    submit_as_rows,
)
from tests.engine.workload import Clock, read_all

KEYS = [StreamKey("bucket", name) for name in "abcde"]
A, B, C, D, E = KEYS
TYPES = (JSON, "text/plain", "application/json; charset=utf-8")
SIZES = (0, 1, 7, 60, 900, 9_000)


class Whose(NamedTuple):
    """A producer, and how far its numbers are from those that come next."""

    id: str
    epochs: int
    seqs: int


class RowsStep(NamedTuple):
    """Appends of one record each to some streams, each sent with a type, or one of a producer."""

    appends: list[tuple[StreamKey, str, list[int], Whose | None]]


keys = st.sampled_from(KEYS)
rows_steps = st.builds(
    RowsStep,
    st.lists(
        st.tuples(
            keys,
            st.sampled_from((JSON, JSON, *TYPES)),
            st.lists(st.sampled_from(SIZES), min_size=1, max_size=5),
            st.none()
            | st.builds(
                Whose,
                st.sampled_from("ppq"),
                st.sampled_from((0, 0, 0, 1, -1)),
                st.sampled_from((0, 0, 0, 0, 1, -1)),
            ),
        ),
        min_size=1,
        max_size=5,
    ),
)
options = st.builds(
    StreamOptions,
    st.sampled_from((JSON, JSON, *TYPES)),
    st.sampled_from((None, None, None, None, 1_000)),
    searchable=st.booleans(),
    metadata=st.sampled_from((b"", b"m")),
)
others = st.one_of(
    st.builds(Create, keys, options),
    st.builds(
        lambda key, source, at: Create(key, fork=ForkPoint(source, at)),
        keys,
        keys,
        st.none() | st.integers(0, 3),
    ),
    st.builds(Delete, keys),
    st.builds(Trim, keys, st.integers(0, 4)),
    st.builds(lambda key: Append(key, close=True), keys),
    st.builds(
        lambda key, seq, epoch: Append(key, [b"0"], producer=Producer("p", epoch, seq)),
        keys,
        st.integers(0, 2),
        st.integers(0, 1),
    ),
    st.builds(lambda key, seq: Append(key, [b"1", b"2"], stream_seq=seq), keys, st.just("a")),
)
groups = st.lists(
    st.tuples(
        st.lists(st.one_of(rows_steps, rows_steps, others), min_size=1, max_size=5),
        st.integers(0, 900),
    ),
    min_size=1,
    max_size=6,
)


def record(size: int, number: int) -> bytes:
    """A JSON value, so that it may stand in any stream."""
    return b'{"text":"common w%d %s"}' % (number, b"x" * size)


def records_of(store: tailrace.Store, step: RowsStep, number: int) -> list[Append]:
    found: list[Append] = []
    last: dict[tuple[StreamKey, str], tuple[int, int]] = {}
    for at, (key, content_type, sizes, whose) in enumerate(step.appends):
        producer = None
        if whose is not None:
            state = store._core.committer._staging.catalog.find(key)
            known = None if state is None else state.producers.get(whose.id)
            epoch, seq = last.get((key, whose.id), known or (0, -1))
            producer = Producer(
                whose.id, max(0, epoch + whose.epochs), max(0, seq + 1 + whose.seqs)
            )
            last[key, whose.id] = producer.epoch, producer.seq
        records = [record(size, number * 100 + at * 10 + i) for i, size in enumerate(sizes)]
        found.append(Append(key, records, content_type, producer=producer))
    return found


def one_by_one(append: Append) -> list[Operation]:
    assert not callable(append.records)
    if append.producer is not None:
        return [append]
    return [append._replace(records=[one]) for one in append.records]


class Done(NamedTuple):
    """``outcomes`` of what was staged, a rows step's by its appends one by one, and the order that
    these were staged in: what is left of columns comes after them.
    """

    operations: list[list[Operation]]
    outcomes: list[list[Outcome]]


def do_in_rows(store: tailrace.Store, number: int, steps: Sequence[Any]) -> Done:
    operations: list[list[Operation]] = []
    answers: list[Any] = []
    with one_group(store):
        for at, step in enumerate(steps):
            if not isinstance(step, RowsStep):
                operations.append([step])
                answers.append(([], store.submit([step])))
                continue
            appends = records_of(store, step, number + at)
            taken, left = submit_as_rows(store, appends)
            alone = [one for append in left for one in one_by_one(append)]
            operations.append([one for append, _, _ in taken for one in one_by_one(append)] + alone)
            answers.append((taken, store.submit(alone)))
    outcomes: list[list[Outcome]] = []
    for taken, tickets in answers:
        found: list[Outcome] = []
        for one in taken:
            whole = outcome_of_rows(*one)
            assert isinstance(whole, Appended)
            if whole.producer_epoch is not None:
                found.append(whole)
                continue
            found += [
                whole._replace(base=ordinal, tail=ordinal + 1)
                for ordinal in range(whole.base, whole.tail)
            ]
        outcomes.append(found + [ticket.wait(60) for ticket in tickets])
    return Done(operations, outcomes)


def do_one_by_one(
    store: tailrace.Store, steps: Sequence[Sequence[Operation]]
) -> list[list[Outcome]]:
    with one_group(store):
        answers = [store.submit_each(step, [None] * len(step)) for step in steps]
    return [[ticket.wait(60) for ticket in tickets] for tickets in answers]


def shown(store: tailrace.Store) -> dict[str, Any]:
    """All that the two must have in common: everything but where batches begin."""
    durable, staged = store._core.durable, store._core.committer._staging.catalog
    assert durable.streams == staged.streams
    assert durable.names == staged.names
    assert all(type(state) is type(durable.streams[i]) for i, state in staged.streams.items())
    live = [
        key
        for key in durable.names
        if isinstance(live_stream(durable, key, store._core.now_ms()), StreamState)
    ]
    return {
        "states": durable.streams,
        "names": durable.names,
        "buckets": durable.buckets,
        "next": durable.next_stream_id,
        "records": {key: read_all(store, key) for key in sorted(live)},
        "found": sorted(
            (hit.key, hit.ordinal, round(hit.score, 6))
            for hit in store.search("common", limit=1000).hits
        ),
    }


@settings(max_examples=200, deadline=None)
@given(
    groups=groups,
    begin=st.lists(options, min_size=4, max_size=4),
    before=st.lists(others, min_size=2, max_size=6),
)
def test_the_store_comes_to_the_same(
    groups: list[tuple[list[Any], int]], begin: list[StreamOptions], before: list[Operation]
) -> None:
    clock = Clock()
    disks = FaultyStorage(), FaultyStorage()
    stores = [open_store(disk, clock) for disk in disks]
    for store in stores:
        store.create_bucket("bucket")
        store.submit([Create(*pair) for pair in zip(KEYS, begin, strict=False)])
        store.submit(
            [Append(A, [b"0"], producer=Producer("p", 0, 0)), Create(E, fork=ForkPoint(B))]
        )
        store.submit(before)
    for number, (steps, passed_ms) in enumerate(groups):
        clock.now_ms += passed_ms
        in_rows = do_in_rows(stores[0], number * 10, steps)
        assert in_rows.outcomes == do_one_by_one(stores[1], in_rows.operations)
        assert shown(stores[0]) == shown(stores[1])
    for store in stores:
        store.close()
    stores = [open_store(disk, clock) for disk in disks]
    assert shown(stores[0]) == shown(stores[1])
    for disk in disks:
        # Nothing but what was synced, and no checkpoint to begin from but the last.
        again = open_store(disk.image(-1), clock)
        assert again._core.durable.streams == stores[0]._core.durable.streams


@pytest.fixture
def store() -> tailrace.Store:
    return store_for_rows()


def test_the_records_of_a_stream_are_one_batch(store: tailrace.Store) -> None:
    groups, batches = store.counters()["groups"], store.counters()["batches"]
    position = store.counters()["durable_position"]
    appends = [Append(A, [b"1", b"22", b"333"], JSON), Append(B, [b"", b"x"], "text/plain")]
    told: list[tailrace.Group] = []
    store.on_group = told.append
    taken = store.submit_rows(columns(appends), "mine")
    assert taken.left == []
    assert taken.ticket is not None
    assert taken.ticket.context == "mine"
    ids = {store.head(A).stream_id, store.head(B).stream_id}
    assert told == [tailrace.Group([taken.ticket], ids)]
    rows = taken.ticket.outcome
    assert isinstance(rows, AppendedRows)
    assert list(rows.stream_ids) == [store.head(A).stream_id, store.head(B).stream_id]
    assert list(rows.firsts) == [0, 0]
    assert store.counters()["groups"] == groups + 1
    assert store.counters()["batches"] == batches + 2
    stop = store.counters()["durable_position"]
    found = [b for b in store._core.log.batches(position, stop, ids) if isinstance(b, Batch)]
    assert [batch.kind for batch in found] == [Kind.APPEND, Kind.APPEND]
    assert split_records(found[0].payload, found[0].ends, is_json=True) == [b"1", b"22", b"333"]
    assert split_records(found[1].payload, found[1].ends, is_json=False) == [b"", b"x"]
    assert store.read(A, 1, max_records=1).payload == b"22,"


def make_closed(store: tailrace.Store) -> None:
    store.close_stream(A)


def make_deleted(store: tailrace.Store) -> None:
    store.delete(A)


def make_hidden(store: tailrace.Store) -> None:
    store.fork(D, A)
    store.delete(A)


def make_sliding(store: tailrace.Store) -> None:
    store.delete(A)
    store.create(A, content_type=JSON, ttl_ms=60_000)


def make_expiring(store: tailrace.Store) -> None:
    store.delete(A)
    store.create(A, content_type=JSON, expires_at_ms=Clock().now_ms + 60_000)


def make_text(store: tailrace.Store) -> None:
    store.delete(A)
    store.create(A, content_type="text/plain")


@pytest.mark.parametrize(
    "make", [make_closed, make_deleted, make_hidden, make_sliding, make_expiring, make_text]
)
def test_what_needs_a_decision_is_left(store: tailrace.Store, make: Any) -> None:
    make(store)
    appends = [Append(C, [b"1"], JSON), Append(A, [b"2"], JSON), Append(B, [b"3"], "text/plain")]
    taken, left = submit_as_rows(store, appends)
    assert [append.key for append, _, _ in taken] == [C, B]
    assert left == [appends[1]]
    _, _, number = taken[1]
    assert number == 2
    rows = taken[0][1].outcome
    assert isinstance(rows, AppendedRows)
    assert rows.stream_ids[1] == 0


def test_nothing_is_staged_and_nobody_told_where_all_are_left(store: tailrace.Store) -> None:
    told: list[tailrace.Group] = []
    store.on_group = told.append
    before = store.counters()
    taken = store.submit_rows(columns([Append(D, [b"1"], JSON), Append(E, [b"1"], JSON)]), None)
    assert taken == tailrace.RowsTaken(None, [0, 1])
    assert store.submit_rows(columns([]), None) == tailrace.RowsTaken(None, [])
    assert store.counters() == before
    assert told == []


def test_all_are_left_where_the_segment_may_not_hold_them(store: tailrace.Store) -> None:
    appends = [Append(A, [b'"%s"' % (b"x" * 3_000)] * 3, JSON), Append(C, [b"1"] * 9, JSON)]
    wanted: dict[StreamKey, list[bytes]] = {A: [], C: []}
    ways = set()
    segments = store.counters()["segments"]
    for _ in range(40):
        taken, left = submit_as_rows(store, appends)
        assert len(taken) in (0, 2), "one fate for all"
        ways.add(len(taken))
        for ticket in store.submit(left):
            assert isinstance(ticket.wait(60), Appended)
        for append in appends:
            wanted[append.key] += append.records  # type: ignore[arg-type]
    assert ways == {0, 2}
    assert store.counters()["segments"] > segments + 2
    assert {key: read_all(store, key) for key in wanted} == wanted


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_clock_of_a_stream_never_goes_back(seed: int) -> None:
    dice, clock = random.Random(seed), Clock()
    store = open_store(FaultyStorage(), clock)
    store.create_bucket("bucket")
    store.create(A, content_type=JSON)
    times = []
    for _ in range(6):
        clock.now_ms += dice.randint(-50, 50)
        _, (outcome,) = perform_as_rows(store, [Append(A, [b"1"] * dice.randint(1, 2), JSON)])
        assert isinstance(outcome, Appended)
        times.append(outcome.created_at_ms)
        assert outcome.created_at_ms == store.head(A).last_write_ms >= clock.now_ms
    assert times == sorted(times)


def test_the_index_comes_to_the_same_and_refuses_the_same() -> None:
    """Where records were given up in a repair, entries say so; an ordinal never goes back."""
    together, alone = MemoryIndex(), MemoryIndex()
    assert together.add_each([7, 0, 8], [3, 0, 0], [2, 1, 1], [100, 0, 200], 4096) == [
        (7, 3),
        (8, 0),
    ]
    assert together.add_each([8, 7], [1, 9], [3, 1], [0, 300], 8192) == []
    noted = [(7, 3, 2, 4196), (8, 0, 1, 4296), (8, 1, 3, 8192), (7, 9, 1, 8492)]
    assert [alone.add(*batch) for batch in noted] == [True, True, False, False]
    assert together.encode(1, 9000) == alone.encode(1, 9000)
    assert list(together.entries(7, 3, 9)) == [4196, 4196, 0, 0, 0, 0, 8492]
    with pytest.raises(BadIndex):
        together.add_each([7], [9], [1], [400], 8192)
