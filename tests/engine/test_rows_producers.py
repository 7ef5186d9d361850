"""Appends of producers in columns (protocol section 5.2.1): each a batch with its number."""

from __future__ import annotations

import pytest

import tailrace
from tailrace.batch import Batch, Flag
from tailrace.limits import PRODUCER_NUMBER_MAX
from tailrace.operation import Append, Producer, StreamKey
from tailrace.outcome import Appended
from tailrace.plain_append import producer_fields
from tailrace.producer import ProducerState
from tests.engine.crash_lab import JSON, store_for_rows
from tests.engine.rows_lab import outcome_of_rows, submit_as_rows
from tests.engine.workload import read_all

A, B = [StreamKey("bucket", name) for name in "ab"]


@pytest.fixture
def store() -> tailrace.Store:
    return store_for_rows()


def test_a_producers_append_is_a_batch_of_its_own(store: tailrace.Store) -> None:
    """Protocol section 5.2.1: its numbers are durable with its records."""
    store.append(A, [b"0"], producer=Producer("p", 3, 0))
    store.append(A, [b"0"], producer=Producer("q", 0, 0))
    before = store.counters()
    appends = [
        Append(A, [b"1", b"2"], JSON, producer=Producer("p", 3, 1)),
        Append(A, [b"3", b"4"], JSON),
        Append(A, [b"5"], JSON, producer=Producer("q", 0, 1)),
        Append(A, [b"6"], JSON, producer=Producer("p", 3, 2)),
        Append(B, [b"7"], "text/plain"),
    ]
    taken, left = submit_as_rows(store, appends)
    assert left == []
    outcomes = [outcome_of_rows(*one) for one in taken]
    assert [(o.base, o.tail) for o in outcomes if isinstance(o, Appended)] == [
        *((2, 4), (4, 6), (6, 7), (7, 8), (0, 1)),
    ]
    assert store.counters()["groups"] == before["groups"] + 1
    assert store.counters()["batches"] == before["batches"] + 5
    position, stop = before["durable_position"], store.counters()["durable_position"]
    ids = {store.head(A).stream_id}
    found = [b for b in store._core.log.batches(position, stop, ids) if isinstance(b, Batch)]
    fields = producer_fields("p"), b"", producer_fields("q"), producer_fields("p")
    assert [(b.producer_epoch, b.producer_seq) for b in found] == [(3, 1), (0, 0), (0, 1), (3, 2)]
    assert tuple(batch.fields for batch in found) == fields
    assert [bool(batch.flags & Flag.PRODUCER) for batch in found] == [True, False, True, True]
    again = store.append(A, [b"6"], producer=Producer("p", 3, 2))
    assert again.duplicate
    assert read_all(store, A) == [b"%d" % n for n in (0, 0, 1, 2, 3, 4, 5, 6)]


@pytest.mark.parametrize(
    "producer",
    [
        Producer("p", 3, 4),
        Producer("p", 3, 6),
        Producer("p", 2, 5),
        Producer("p", 4, 0),
        Producer("p", 4, 5),
        Producer("new", 0, 0),
        Producer("\ud800", 0, 0),
        Producer("x" * 300, 0, 0),
        Producer("last", 0, PRODUCER_NUMBER_MAX + 1),
    ],
)
def test_what_is_not_a_producers_next_append_is_left(
    store: tailrace.Store, producer: Producer
) -> None:
    """A duplicate, a gap, another epoch, a stranger: the long way has the answers."""
    for seq in range(5):
        store.append(A, [b"0"], producer=Producer("p", 3, seq))
    states = store._core.committer._staging.catalog.streams
    stream_id = store.head(A).stream_id
    state = states[stream_id]
    last = state.producers.set("last", ProducerState(0, PRODUCER_NUMBER_MAX))
    states[stream_id] = state._replace(producers=last)
    appends = [
        Append(A, [b"1"], JSON, producer=producer),
        Append(A, [b"2"], JSON, producer=Producer("p", 3, 5)),
        Append(A, [b"3"], JSON, producer=Producer("p", 3, 5)),
    ]
    taken, left = submit_as_rows(store, appends)
    assert [append for append, _, _ in taken] == [appends[1]]
    assert left == [appends[0], appends[2]]
