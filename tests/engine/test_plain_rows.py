"""Appends in columns come to what the same appends come to one after the other."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tailrace
from tailrace import limits
from tailrace.batch import Kind, split_records
from tailrace.errors import InvalidArgument, Overloaded, StoreClosed
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
from tailrace.options import Options
from tailrace.outcome import Appended, Outcome
from tailrace.rows import AppendedRows, Rows
from tests.engine.crash_lab import OPTIONS, open_store
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
JSON = "application/json"
TYPES = (JSON, "text/plain", "application/json; charset=utf-8")
SIZES = (0, 1, 7, 60, 900, 9_000)


class RowsStep(NamedTuple):
    """Appends of one record each to some streams, each sent with a type."""

    appends: list[tuple[StreamKey, str, list[int]]]


keys = st.sampled_from(KEYS)
rows_steps = st.builds(
    RowsStep,
    st.lists(
        st.tuples(
            keys,
            st.sampled_from((JSON, JSON, *TYPES)),
            st.lists(st.sampled_from(SIZES), min_size=1, max_size=5),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda append: append[0],
    ),
)
options = st.builds(
    StreamOptions,
    st.sampled_from((JSON, JSON, *TYPES)),
    st.sampled_from((None, None, None, 5_000)),
    searchable=st.booleans(),
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
    st.tuples(st.lists(st.one_of(rows_steps, rows_steps, others), max_size=5), st.integers(0, 900)),
    max_size=8,
)


def record(size: int, number: int) -> bytes:
    """A JSON value, so that it may stand in any stream."""
    return b'{"text":"common w%d %s"}' % (number, b"x" * size)


def records_of(step: RowsStep, number: int) -> list[Append]:
    return [
        Append(key, [record(size, number * 100 + i) for i, size in enumerate(sizes)], content_type)
        for key, content_type, sizes in step.appends
    ]


def one_by_one(appends: Sequence[Append]) -> list[Append]:
    alone: list[Append] = []
    for append in appends:
        assert not callable(append.records)
        alone += [append._replace(records=[one]) for one in append.records]
    return alone


def do_in_rows(store: tailrace.Store, number: int, steps: Sequence[Any]) -> list[list[Outcome]]:
    """The outcomes of each step, a rows step's as those of its appends one by one."""
    answers: list[Any] = []
    with one_group(store):
        for at, step in enumerate(steps):
            if not isinstance(step, RowsStep):
                answers.append(store.submit([step]))
                continue
            appends = records_of(step, number + at)
            taken, left = submit_as_rows(store, appends)
            rest = {append.key: store.submit(one_by_one([append])) for append in left}
            answers.append((appends, {one[0].key: one for one in taken}, rest))
    outcomes: list[list[Outcome]] = []
    for answer in answers:
        if isinstance(answer, list):
            outcomes.append([ticket.wait(60) for ticket in answer])
            continue
        appends, taken_by_key, rest = answer
        found: list[Outcome] = []
        for append in appends:
            if append.key in rest:
                found += [ticket.wait(60) for ticket in rest[append.key]]
            else:
                whole = outcome_of_rows(*taken_by_key[append.key])
                assert isinstance(whole, Appended)
                found += [
                    whole._replace(base=ordinal, tail=ordinal + 1)
                    for ordinal in range(whole.base, whole.tail)
                ]
        outcomes.append(found)
    return outcomes


def do_one_by_one(store: tailrace.Store, number: int, steps: Sequence[Any]) -> list[list[Outcome]]:
    answers = []
    with one_group(store):
        for at, step in enumerate(steps):
            operations: Sequence[Operation] = [step]
            if isinstance(step, RowsStep):
                operations = one_by_one(records_of(step, number + at))
            answers.append(store.submit_each(operations, [None] * len(operations)))
    return [[ticket.wait(60) for ticket in tickets] for tickets in answers]


def shown(store: tailrace.Store) -> dict[str, Any]:
    """All that the two must have in common: everything but where batches begin."""
    durable, staged = store._core.durable, store._core.committer._staged
    assert durable.streams == staged.streams
    assert durable.names == staged.names
    assert all(type(state) is type(durable.streams[i]) for i, state in staged.streams.items())
    live = [key for key, i in durable.names.items() if not durable.streams[i].deleted]
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


@settings(deadline=None)
@given(groups=groups, begin=st.lists(options, min_size=3, max_size=5))
def test_the_store_comes_to_the_same(
    groups: list[tuple[list[Any], int]], begin: list[StreamOptions]
) -> None:
    clock = Clock()
    disks = FaultyStorage(), FaultyStorage()
    stores = [open_store(disk, clock) for disk in disks]
    for store in stores:
        store.create_bucket("bucket")
        store.submit([Create(*pair) for pair in zip(KEYS, begin, strict=False)])
    for number, (steps, passed_ms) in enumerate(groups):
        clock.now_ms += passed_ms
        in_rows = do_in_rows(stores[0], number * 10, steps)
        assert in_rows == do_one_by_one(stores[1], number * 10, steps)
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
    made = open_store(FaultyStorage(), Clock())
    made.create_bucket("bucket")
    made.create(A, content_type=JSON)
    made.create(B, content_type="text/plain")
    made.create(C, content_type=JSON)
    return made


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
    found = list(store._core.log.batches(position, store.counters()["durable_position"], ids))
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


def test_more_than_a_batch_may_hold_is_left(store: tailrace.Store) -> None:
    segment_bytes = OPTIONS.segment_bytes
    record = b"1" * (segment_bytes - limits.SEGMENT_HEADER_BYTES - limits.SEAL_BYTES)
    assert store.submit_rows(columns([Append(A, [record], JSON)]), None).left == [0]


def test_more_records_than_a_batch_may_hold_are_left(tmp_path: Path) -> None:
    with tailrace.open(tmp_path, options=Options(background=False)) as store:
        store.create_bucket("bucket")
        store.create(A, content_type=JSON)
        counts = array("I", [limits.BATCH_RECORDS_MAX + 1])
        rows = Rows([A], [JSON], counts, array("I", [2]) * counts[0], b"1," * counts[0])
        assert store.submit_rows(rows, None).left == [0]
        fewer = array("I", [limits.BATCH_RECORDS_MAX])
        rows = Rows([A], [JSON], fewer, rows.lengths[1:], rows.payload[2:])
        assert store.submit_rows(rows, None).left == []
        assert store.head(A).tail == limits.BATCH_RECORDS_MAX


GOOD = columns([Append(A, [b"12", b"3"], JSON), Append(B, [b"4"], "text/plain")])
BAD = [
    (GOOD._replace(keys=[A]), "content_types"),
    (GOOD._replace(content_types=[JSON]), "content_types"),
    (GOOD._replace(counts=array("I", [3])), "counts"),
    (GOOD._replace(counts=array("I", [0, 3])), "counts"),
    (GOOD._replace(counts=array("I", [2, 2])), "counts"),
    (GOOD._replace(counts=array("I", [1, 1])), "counts"),
    (GOOD._replace(counts=array("I", [2**32 - 1, 1])), "counts"),
    (GOOD._replace(counts=array("Q", [2, 1])), "counts"),
    (GOOD._replace(counts=[2, 1]), "counts"),  # type: ignore[arg-type]
    (GOOD._replace(lengths=array("I", [3, 2])), "counts"),
    (GOOD._replace(lengths=array("I", [3, 2, 2])), "lengths"),
    (GOOD._replace(lengths=array("I", [3, 2, 0])), "lengths"),
    (GOOD._replace(lengths=array("I", [3, 2**32 - 1, 2])), "lengths"),
    (GOOD._replace(lengths=array("H", [3, 2, 1])), "lengths"),
    (GOOD._replace(payload=b"12,3,"), "lengths"),
    (GOOD._replace(payload=b"12,3,45"), "lengths"),
    (GOOD._replace(payload=b""), "lengths"),
    (GOOD._replace(payload="12,3,4"), "payload"),  # type: ignore[arg-type]
    (GOOD._replace(payload=memoryview(bytes(12))[::2]), "payload"),
    (GOOD._replace(payload=b"1233,4"), "payload"),
    (GOOD._replace(payload=b"12,334"), "payload"),
    (GOOD._replace(payload=b"123,,4", lengths=array("I", [4, 1, 1])), "payload"),
    (GOOD._replace(payload=b"123,,4", lengths=array("I", [0, 5, 1])), "payload"),
    (GOOD._replace(keys=[A, A]), "keys"),
    (GOOD._replace(keys=[A, A], content_types=[JSON, JSON], payload=b"12,3,,"), "keys"),
    (GOOD._replace(keys=[A, A], content_types=[JSON, "a/b"]), "keys"),
    (GOOD._replace(keys=[D, D]), "keys"),
]


@pytest.mark.parametrize(("rows", "field"), BAD)
def test_columns_that_do_not_fit_together_change_nothing(
    store: tailrace.Store, rows: Rows, field: str
) -> None:
    before = store.counters()
    staged = store._core.committer._staged.copy()
    with pytest.raises(InvalidArgument) as raised:
        store.submit_rows(rows, None)
    assert raised.value.field == field
    assert store.counters() == before
    assert store._core.committer._staged.streams == staged.streams
    _, outcomes = perform_as_rows(store, [Append(A, [b"1"], JSON)])
    assert isinstance(outcomes[0], Appended)
    assert outcomes[0].base == 0


@pytest.mark.parametrize("make", [make_deleted, None])
def test_they_need_not_be_for_streams_that_take_them_to_be_found_wrong(
    store: tailrace.Store, make: Any
) -> None:
    """Else whoever cuts what is left out of the columns would read beyond them."""
    if make is None:  # no room
        large = Append(C, [b"x" * 70_000], JSON)
        bad = columns([Append(A, [b"1"], JSON), large])
    else:
        make(store)
        bad = columns([Append(A, [b"1"], JSON)])
    with pytest.raises(InvalidArgument):
        store.submit_rows(bad._replace(payload=bytes(bad.payload) + b"1"), None)


def test_no_more_streams_at_once_than_operations(store: tailrace.Store) -> None:
    count = limits.OPERATIONS_PER_SUBMIT_MAX + 1
    ones = array("I", [1]) * count
    keys = [StreamKey("bucket", str(i)) for i in range(count)]
    with pytest.raises(InvalidArgument, match="keys"):
        store.submit_rows(Rows(keys, [JSON] * count, ones, ones, bytes(count)), None)
    rows = Rows(keys[1:], [JSON] * (count - 1), ones[1:], ones[1:], bytes(count - 1))
    assert len(store.submit_rows(rows, None).left) == count - 1


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_payload_may_be_any_bytes_and_is_not_kept(store: tailrace.Store, kind: Any) -> None:
    payload = kind(b"12,3,4")
    with one_group(store):
        taken = store.submit_rows(GOOD._replace(payload=payload), None)
        if kind is bytearray:
            payload[:] = b"......"
            payload.append(1)  # nothing holds on to it
    assert taken.ticket is not None
    assert read_all(store, A) == [b"12", b"3"]
    assert read_all(store, B) == [b"4"]


def test_too_much_staged_and_a_closed_store_are_told_as_ever() -> None:
    options = Options(
        segment_bytes=64 * 1024, staged_bytes_max=64 * 1024, mark_idle_s=None, background=False
    )
    store = open_store(FaultyStorage(), Clock(), options)
    store.create_bucket("bucket")
    store.create(A, content_type=JSON)
    rows = columns([Append(A, [b'"%s"' % (b"x" * 40_000)], JSON)])
    with one_group(store):
        assert store.submit_rows(rows, None).ticket is not None
        for ticket in store.submit([Append(A, [b"x" * 40_000])]):
            assert not ticket.done
        with pytest.raises(Overloaded):
            store.submit_rows(rows, None)
    assert store.head(A).tail == 2
    assert store.counters()["staged_bytes"] == 0
    store.close()
    with pytest.raises(StoreClosed):
        store.submit_rows(rows, None)


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
