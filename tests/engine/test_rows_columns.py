"""Columns that do not fit together change nothing; bounds hold for columns as for operations."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest

import tailrace
from tailrace import limits
from tailrace.errors import InvalidArgument, Overloaded, StoreClosed
from tailrace.operation import Append, Producer, StreamKey
from tailrace.options import Options
from tailrace.outcome import Appended
from tailrace.rows import Rows
from tests.engine.crash_lab import JSON, OPTIONS, open_store, store_for_rows
from tests.engine.faulty_storage import FaultyStorage
from tests.engine.rows_lab import columns, one_group, perform_as_rows
from tests.engine.workload import Clock, read_all

A, B, C = [StreamKey("bucket", name) for name in "abc"]


@pytest.fixture
def store() -> tailrace.Store:
    return store_for_rows()


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
    (GOOD._replace(producers=[None]), "producers"),
    (GOOD._replace(producers=[None] * 3), "producers"),
    (GOOD._replace(producers=[None, ("p", 0, 1)]), "producers"),  # type: ignore[list-item]
    (GOOD._replace(producers=[None, Producer(b"p", 0, 1)]), "producers"),  # type: ignore[arg-type]
    (GOOD._replace(producers=[None, Producer("p", 0, 1)], payload=b"12,3,45"), "lengths"),
]


@pytest.mark.parametrize(("rows", "field"), BAD)
def test_columns_that_do_not_fit_together_change_nothing(
    store: tailrace.Store, rows: Rows, field: str
) -> None:
    before = store.counters()
    staged = store._core.committer._staging.catalog.copy()
    with pytest.raises(InvalidArgument) as raised:
        store.submit_rows(rows, None)
    assert raised.value.field == field
    assert store.counters() == before
    assert store._core.committer._staging.catalog.streams == staged.streams
    _, outcomes = perform_as_rows(store, [Append(A, [b"1"], JSON)])
    assert isinstance(outcomes[0], Appended)
    assert outcomes[0].base == 0


@pytest.mark.parametrize("why", ["gone", "no room"])
def test_they_need_not_be_for_streams_that_take_them_to_be_found_wrong(
    store: tailrace.Store, why: str
) -> None:
    """Else whoever cuts what is left out of the columns would read beyond them."""
    if why == "no room":
        large = Append(C, [b"x" * 70_000], JSON)
        bad = columns([Append(A, [b"1"], JSON), large])
    else:
        store.delete(A)
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
