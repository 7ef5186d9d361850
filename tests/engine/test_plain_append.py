"""The short way for plain appends comes to exactly what the long way comes to."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.batch import batch_parts
from tailrace.catalog import Catalog, Change, apply
from tailrace.decide import decide
from tailrace.limits import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, SEAL_BYTES
from tailrace.operation import (
    Append,
    Create,
    CreateBucket,
    ForkPoint,
    Operation,
    Producer,
    StreamKey,
    StreamOptions,
)
from tailrace.plain_append import PlainAppend, plain_append
from tailrace.plan import Context, Plan

NOW_MS = 1_000
POSITION = 4096
WATERMARK = 4000
ROOM = 1 << 26
KEY = StreamKey("bench", "one")
JSON = StreamOptions("application/json")


def do(catalog: Catalog, operation: Operation, now_ms: int = NOW_MS) -> None:
    plan = decide(catalog, operation, Context(now_ms, BATCH_BYTES_MAX))
    assert isinstance(plan, Plan)
    catalog.install(apply(catalog, plan.batch))


def catalog_with(options: StreamOptions, before: int = 0, *, closed: bool = False) -> Catalog:
    catalog = Catalog()
    do(catalog, CreateBucket("bench"))
    do(catalog, Create(KEY, options, [b"1"] * before, closed))
    return catalog


def plain(
    catalog: Catalog, operation: Append, *, room: int = ROOM, now_ms: int = NOW_MS
) -> PlainAppend | None:
    return plain_append(catalog, operation, now_ms, POSITION, room, WATERMARK)


@given(
    records=st.lists(st.binary(max_size=40), min_size=1, max_size=5),
    content_type=st.sampled_from(["application/json", "text/plain", "Application/JSON; a=b"]),
    before=st.integers(0, 3),
    says_type=st.booleans(),
    as_tuple=st.booleans(),
    has_producer=st.booleans(),
    from_producer=st.booleans(),
    producer_id=st.sampled_from(["p", "é", "q" * 256]),
    epoch=st.sampled_from([0, 1, 2**53 - 1]),
    seq=st.integers(0, 3),
    has_fork=st.booleans(),
    now_ms=st.integers(NOW_MS - 10, NOW_MS + 10),
)
def test_it_is_the_same_batch_change_and_answer(
    records: list[bytes],
    content_type: str,
    before: int,
    says_type: bool,
    as_tuple: bool,
    has_producer: bool,
    from_producer: bool,
    producer_id: str,
    epoch: int,
    seq: int,
    has_fork: bool,
    now_ms: int,
) -> None:
    catalog = catalog_with(StreamOptions(content_type, metadata=b"{}"), before)
    if has_producer:
        do(catalog, Append(KEY, [b"0"], producer=Producer("other", 0, 0), stream_seq="a"))
    if from_producer:
        for before_seq in range(seq + 1):
            do(catalog, Append(KEY, [b"0"], producer=Producer(producer_id, epoch, before_seq)))
    if has_fork:
        do(catalog, Create(StreamKey("bench", "fork"), fork=ForkPoint(KEY)))
    operation = Append(
        KEY,
        tuple(records) if as_tuple else records,
        content_type=content_type if says_type else None,
        producer=Producer(producer_id, epoch, seq + 1) if from_producer else None,
    )
    plan = decide(catalog, operation, Context(now_ms, BATCH_BYTES_MAX))
    assert isinstance(plan, Plan)
    parts = batch_parts(plan.batch, POSITION, WATERMARK)
    found = plain(catalog, operation, now_ms=now_ms)
    assert found is not None
    assert b"".join(found.parts) == b"".join(parts)
    assert found.length == sum(map(len, parts))
    assert Change((found.state,)) == apply(catalog, plan.batch)
    assert found.outcome == plan.outcome


@pytest.mark.parametrize(
    ("options", "operation"),
    [
        (JSON, Append(StreamKey("bench", "two"), [b"1"])),
        (JSON, Append(KEY, [])),
        (JSON, Append(KEY, ["1"])),  # type: ignore[list-item]
        (JSON, Append(KEY, [b"1", "2"])),  # type: ignore[list-item]
        (JSON, Append(KEY, [b"1", bytearray(b"2")])),  # type: ignore[list-item]
        (JSON, Append(KEY, deque([b"1", b"2"]))),
        (JSON, Append(KEY, b"1")),  # type: ignore[arg-type]
        (JSON, Append(KEY, [b"1"], close=True)),
        (JSON, Append(KEY, [b"1"], producer=Producer("p", 0, 0))),
        (JSON, Append(KEY, [b"1"], stream_seq="a")),
        (JSON, Append(KEY, [b"1"], expected_ordinal=0)),
        (JSON, Append(KEY, [b"1"], expected_stream_id=1)),
        (JSON, Append(KEY, [b"1"], content_type="text/plain")),
        (JSON, Append(KEY, lambda _, __: [b"1"])),
        (StreamOptions("application/json", ttl_ms=10), Append(KEY, [b"1"])),
        (StreamOptions("application/json", expires_at_ms=9_999), Append(KEY, [b"1"])),
    ],
)
def test_what_needs_a_decision_is_left_to_decide(options: StreamOptions, operation: Append) -> None:
    assert plain(catalog_with(options), operation) is None


@pytest.mark.parametrize(
    "producer",
    [
        Producer("q", 1, 0),
        Producer("p", 1, 2),
        Producer("p", 1, 0),
        Producer("p", 1, 4),
        Producer("p", 0, 3),
        Producer("p", 2, 0),
        Producer("p", 2, 3),
    ],
)
def test_a_producers_first_repeated_and_missing_numbers_are_left_to_decide(
    producer: Producer,
) -> None:
    """Protocol section 5.2.1: only the next number of a known epoch is plain."""
    catalog = catalog_with(JSON)
    for seq in range(3):
        do(catalog, Append(KEY, [b"0"], producer=Producer("p", 1, seq)))
    assert plain(catalog, Append(KEY, [b"1"], producer=Producer("p", 1, 3))) is not None
    assert plain(catalog, Append(KEY, [b"1"], producer=producer)) is None


def test_a_closed_stream_is_left_to_decide() -> None:
    assert plain(catalog_with(JSON, closed=True), Append(KEY, [b"1"])) is None


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_a_batch_that_would_leave_no_room_for_the_seal_is_left_to_the_long_way(count: int) -> None:
    catalog = catalog_with(JSON)
    operation = Append(KEY, [b"1"] * count)
    found = plain(catalog, operation)
    assert found is not None
    needed = found.length + SEAL_BYTES
    assert plain(catalog, operation, room=needed) is not None
    assert plain(catalog, operation, room=needed - 1) is None
    assert plain(catalog, operation, room=1) is None


def test_more_records_than_a_batch_holds_are_left_to_be_refused() -> None:
    catalog = catalog_with(JSON)
    assert plain(catalog, Append(KEY, [b"1"] * BATCH_RECORDS_MAX)) is not None
    assert plain(catalog, Append(KEY, [b"1"] * (BATCH_RECORDS_MAX + 1))) is None
