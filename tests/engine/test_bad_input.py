"""Whatever a caller hands over: the documented error that names it, and a store that goes on."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

import tailrace
from tailrace import (
    Append,
    Create,
    InvalidArgument,
    Options,
    Producer,
    Reason,
    Rejected,
    Rejection,
    Rows,
    SetMetadata,
    StreamKey,
    StreamOptions,
)
from tests.engine.crash_lab import OPTIONS, open_store
from tests.engine.faulty_storage import FaultyStorage
from tests.engine.workload import Clock

A = StreamKey("bucket", "a")
TEXT = StreamKey("bucket", "text")
TTL = StreamKey("bucket", "ttl")
JSON = "application/json"
HUGE: list[Any] = [2**63, 2**64, 10**30]
NEGATIVE: list[Any] = [-1, -(2**63), -(10**30)]
NO_NUMBER: list[Any] = ["x", b"x", [], object()]
NO_INTEGER: list[Any] = [1.5, math.nan, math.inf, *NO_NUMBER]
NO_TEXT: list[Any] = [5, b"x", []]
NO_KEY: list[Any] = [5, "x", ("bucket",), ("bucket", "a", "b"), ("bucket", 5), ([], "a")]
NO_SECONDS: list[Any] = [math.nan, *NO_NUMBER]
NO_RECORDS: list[Any] = [
    5, b"abc", "abc", [None], ["a"], [5], [b"1", "x"], (b"1", None), iter([b"1"]), {b"1"},
    lambda _base, _at: 5, lambda _base, _at: [None],
]  # fmt: skip


def filled(*, background: bool = False) -> tailrace.Store:
    # Nothing is written but what is asked for: no mark after a rest.
    options = replace(OPTIONS, background=background, mark_idle_s=None)
    clock = Clock()
    store = tailrace.open("/nowhere", options=options, storage=FaultyStorage(), now_ms=clock)
    store.create_bucket("bucket")
    store.create(A, content_type=JSON, searchable=True, records=[b"1", b'"word"'])
    store.create(TEXT, content_type="text/plain", records=[b"abc"])
    store.create(TTL, content_type=JSON, ttl_ms=1000)
    return store


@pytest.fixture(params=[False, True], ids=["alone", "background"])
def store(request: pytest.FixtureRequest) -> Iterator[tailrace.Store]:
    with filled(background=request.param) as store:
        yield store


def rows(**columns: Any) -> Rows:
    one = Rows([A], [JSON], array("I", [1]), array("I", [2]), b"1,")
    return one._replace(**columns)


def written(store: tailrace.Store, piece: Any) -> None:
    with store.begin_snapshot(A, 0) as snapshot:
        snapshot.write(piece)


Call = Callable[[tailrace.Store, Any], object]
CALLS: list[tuple[str, str, Call, list[Any]]] = [
    ("read", "ordinal", lambda s, v: s.read(A, v), [*NEGATIVE, *NO_INTEGER, None]),
    ("read", "max_bytes", lambda s, v: s.read(A, 0, max_bytes=v),
     [0, *HUGE, *NEGATIVE, *NO_INTEGER, None]),
    ("read", "max_records", lambda s, v: s.read(A, 0, max_records=v), [*NEGATIVE, *NO_INTEGER]),
    ("read", "stop", lambda s, v: s.read(A, 0, stop=v), [*NEGATIVE, *NO_INTEGER]),
    ("read", "key", lambda s, v: s.read(v, 0), NO_KEY),
    ("read_near", "ordinal", lambda s, v: s.read_near(A, v, max_bytes=9), NO_INTEGER),
    ("read_near", "max_records", lambda s, v: s.read_near(A, 0, max_bytes=9, max_records=v),
     [*NEGATIVE, *NO_INTEGER]),
    ("read_pieces", "max_bytes", lambda s, v: s.read_pieces(A, 0, max_bytes=v),
     [*HUGE, *NEGATIVE, *NO_INTEGER]),
    ("pieces_near", "ordinal", lambda s, v: s.pieces_near(A, v), [*NEGATIVE, *NO_INTEGER]),
    ("is_resident", "ordinal", lambda s, v: s.is_resident(A, v), [*NEGATIVE, *NO_INTEGER]),
    ("head", "key", lambda s, v: s.head(v), NO_KEY),
    ("head", "key", lambda s, _: s.head(StreamKey("bucket", [])), [0]),  # type: ignore[arg-type]
    ("version", "key", lambda s, v: s.version(v), NO_KEY),
    ("wait", "ordinal", lambda s, v: s.wait(A, v, 0.01), [*NEGATIVE, *NO_INTEGER]),
    ("wait", "timeout_s", lambda s, v: s.wait(A, 0, v), [*NO_SECONDS, None]),
    ("perform", "timeout_s", lambda s, v: s.perform(Append(A, [b"1"]), v), NO_SECONDS),
    ("perform", "operation", lambda s, v: s.perform(v), [None, 5, "x"]),
    ("submit", "operations", lambda s, v: s.submit(v), [None, 5, iter(())]),
    ("submit", "operation", lambda s, v: s.submit(v), [[None], ["x"]]),
    ("submit", "operations", lambda s, v: s.submit([v] * 10_001), [Append(A, [b"1"])]),
    ("submit_each", "contexts", lambda s, v: s.submit_each([Append(A, [b"1"])], v), [(), 5]),
    ("submit_each", "patience_s",
     lambda s, v: s.submit_each([Append(A, [b"1"])], [1], patience_s=v), [*NO_SECONDS, None]),
    ("append", "key", lambda s, v: s.append(v, [b"1"]), NO_KEY),
    ("append", "key", lambda s, v: s.perform(Append(v, [b"1"])), [("bucket", [])]),
    ("append", "records", lambda s, v: s.append(A, v), NO_RECORDS),
    ("append", "records", lambda s, v: s.append(TEXT, v), NO_RECORDS),
    ("append", "content_type", lambda s, v: s.append(A, [b"1"], content_type=v), NO_TEXT),
    ("append", "producer", lambda s, v: s.append(A, [b"1"], producer=v), [5, ("a", 0, 0)]),
    ("append", "producer_id", lambda s, v: s.append(A, [b"1"], producer=Producer(v, 0, 0)),
     ["", "i" * 257, "\ud800", *NO_TEXT]),
    ("append", "producer_seq", lambda s, v: s.append(A, [b"1"], producer=Producer("p", 0, v)),
     [2**53, *HUGE, *NEGATIVE, *NO_INTEGER]),
    ("append", "stream_seq", lambda s, v: s.append(A, [b"1"], stream_seq=v),
     ["", "s" * 257, "\ud800", *NO_TEXT]),
    ("append", "options", lambda s, v: s.append(("bucket", "new"), [b"1"], create=v), [5, "x"]),
    ("create", "key", lambda s, v: s.create(v), NO_KEY),
    ("create", "stream", lambda s, v: s.create(("bucket", v)), ["", "n" * 1025, "\0", "\ud800"]),
    ("create", "records", lambda s, v: s.create(("bucket", "new"), records=v), NO_RECORDS),
    ("create", "content_type", lambda s, v: s.create(("bucket", "new"), content_type=v),
     ["", "x", "a/" + "b" * 254, *NO_TEXT]),
    ("create", "ttl_ms", lambda s, v: s.create(("bucket", "new"), ttl_ms=v),
     [*HUGE, *NEGATIVE, *NO_INTEGER]),
    ("create", "expires_at_ms", lambda s, v: s.create(("bucket", "new"), expires_at_ms=v),
     [*HUGE, *NEGATIVE, *NO_INTEGER]),
    ("create", "metadata", lambda s, v: s.create(("bucket", "new"), metadata=v),
     [None, "x", b"m" * 65_537, array("I", [1])]),
    ("create_bucket", "bucket", lambda s, v: s.create_bucket(v), [*NO_TEXT, "", "B" * 9]),
    ("delete", "key", lambda s, v: s.delete(v), NO_KEY),
    ("fork", "key", lambda s, v: s.fork(("bucket", "new"), v), NO_KEY),
    ("fork", "records", lambda s, v: s.fork(("bucket", "new"), A, records=v), NO_RECORDS),
    ("fork", "fork_ordinal", lambda s, v: s.fork(("bucket", "new"), A, ordinal=v),
     [*HUGE, *NEGATIVE, *NO_INTEGER]),
    ("fork", "fork_sub_offset",
     lambda s, v: s.fork(("bucket", "new"), TEXT, ordinal=0, sub_offset=v),
     [*HUGE, *NEGATIVE, *NO_INTEGER, None]),
    ("set_metadata", "metadata", lambda s, v: s.set_metadata(A, v),
     [None, "x", 5, b"m" * 65_537, array("I", [1])]),
    ("trim", "ordinal", lambda s, v: s.trim(A, v), [*HUGE, *NEGATIVE, *NO_INTEGER]),
    ("begin_snapshot", "ordinal", lambda s, v: s.begin_snapshot(A, v),
     [*HUGE, *NEGATIVE, *NO_INTEGER]),
    ("begin_snapshot", "match", lambda s, v: s.begin_snapshot(A, 0, match=v), [5, "x", b"short"]),
    ("snapshot", "piece", written, [None, 5, "x", [1]]),
    ("open_snapshot", "ordinal", lambda s, v: s.open_snapshot(A, v),
     [*HUGE, *NEGATIVE, *NO_INTEGER]),
    ("bucket", "bucket", lambda s, v: s.bucket(v), NO_TEXT),
    ("list_streams", "limit", lambda s, v: s.list_streams("bucket", limit=v),
     [0, 1001, *HUGE, *NEGATIVE, *NO_INTEGER]),
    ("list_streams", "prefix", lambda s, v: s.list_streams("bucket", prefix=v), NO_TEXT),
    ("list_streams", "after", lambda s, v: s.list_streams("bucket", after=v), NO_TEXT),
    ("list_created", "after", lambda s, v: s.list_created("bucket", after=v),
     [5, "x", (1,), (1, 2), ("x", "y"), (None, "x")]),
    ("list_created", "created_from_ms",
     lambda s, v: s.list_created("bucket", created_from_ms=v), NO_INTEGER),
    ("search", "query", lambda s, v: s.search(v), [None, *NO_TEXT]),
    ("search", "keys", lambda s, v: s.search("word", v), [5]),
    ("search", "key", lambda s, v: s.search("word", v), ["x", [5], [("bucket",)], [([], "a")]]),
    ("search", "bucket", lambda s, v: s.search("word", bucket=v), NO_TEXT),
    ("search", "types", lambda s, v: s.search("word", types=v), [5, None, [5], [b"x"], [[]]]),
    ("search", "limit", lambda s, v: s.search("word", limit=v), [0, *HUGE, *NEGATIVE, *NO_INTEGER]),
    ("search", "created_until_ms", lambda s, v: s.search("word", created_until_ms=v), NO_INTEGER),
    ("submit_rows", "rows", lambda s, v: s.submit_rows(v, None), [None, 5]),
    ("submit_rows", "keys", lambda s, v: s.submit_rows(rows(keys=v), None), [5, [A] * 10_001]),
    ("submit_rows", "key", lambda s, v: s.submit_rows(rows(keys=v), None), [[("bucket", [])]]),
    ("submit_rows", "content_types",
     lambda s, v: s.submit_rows(rows(content_types=v), None), [5, []]),
    ("submit_rows", "producers", lambda s, v: s.submit_rows(rows(producers=v), None), [5, [5]]),
    ("submit_rows", "patience_s",
     lambda s, v: s.submit_rows(rows(), None, patience_s=v), NO_SECONDS),
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "call", "values"),
    [call[1:] for call in CALLS],
    ids=[f"{name}-{field}" for name, field, *_ in CALLS],
)
def test_the_error_names_the_field_and_nothing_changes(
    store: tailrace.Store, field: str, call: Call, values: list[Any]
) -> None:
    position = store._core.committer.durable_position
    for value in values:
        with pytest.raises(InvalidArgument) as caught:
            call(store, value)
        assert caught.value.field == field, value
    assert store._core.committer.durable_position == position
    assert store.append(A, [b"3"]).base == 2


@pytest.mark.parametrize("key", [A, TEXT, TTL])
@pytest.mark.parametrize("count", [1, 17])
def test_gigabytes_of_records_are_too_large(key: StreamKey, count: int) -> None:
    """Beyond what 32 bits say. Nothing of it is looked at or copied: all is the same zeros."""
    chunk = bytes(2**33 // 17 if count > 1 else 2**32 + 1)
    records = [chunk] * count
    with filled() as store:
        for operation in (
            Append(key, records),
            Append(key, tuple(records), producer=Producer("p", 0, 0)),
            Append(key, lambda _base, _at: records, close=True),
            Append(StreamKey("bucket", "new"), records, create=StreamOptions(JSON)),
            Create(StreamKey("bucket", "new"), records=records),
            Create(StreamKey("bucket", "new"), records=records, fork=tailrace.ForkPoint(key)),
        ):
            outcomes = [
                store.perform(operation),
                store.submit([operation])[0].wait(),
                store.submit_each([operation], [None])[0].wait(),
            ]
            for outcome in outcomes:
                assert isinstance(outcome, Rejection)
                assert outcome.reason is Reason.TOO_LARGE
        tail = store.head(key).tail
        assert store.append(key, [b"1"]).base == tail


def test_as_many_callers_as_an_inbox_is_made_for_can_be_too_large() -> None:
    with filled() as store:
        committer = store._core.committer
        tickets = []
        with committer.commit_lock:
            committer._background = True  # so that nobody waits for the lock
            for _ in range(6):
                tickets.append(committer.perform(Append(A, [bytes(2**32)]), None))
                tickets.append(committer.perform(Append(A, [b"1"]), None))
            committer._background = False
            committer.commit()
        outcomes = [ticket.wait(0) for ticket in tickets]
        assert [isinstance(outcome, Rejection) for outcome in outcomes] == [True, False] * 6


@pytest.mark.parametrize("size", [61_200, 61_260, 61_290, 61_360, 62_000, 65_536])
def test_metadata_that_no_batch_of_a_small_segment_holds(size: int) -> None:
    """What crosses the segment's end would end all writing."""
    with filled() as store:
        outcome = store.perform(SetMetadata(A, bytes(size)))
        too_large = isinstance(outcome, Rejection)
        if isinstance(outcome, Rejection):
            assert outcome.reason is Reason.TOO_LARGE
        assert too_large == (size > 61_270)
        store.append(A, [b"3"])
        assert len(store.head(A).metadata) == (0 if too_large else size)


@pytest.mark.parametrize("value", [10**30, 2**63, math.inf])
def test_a_wait_that_is_longer_than_any_is_a_wait(store: tailrace.Store, value: float) -> None:
    assert store.wait(A, 0, value)
    assert not isinstance(store.perform(Append(A, [b"3"]), value), Rejection)
    (ticket,) = store.submit([Append(A, [b"4"])])
    assert not isinstance(ticket.wait(value), Rejection)


@pytest.mark.parametrize("value", [0, -1, -1e30, -math.inf])
def test_a_wait_that_is_over_before_it_begins(store: tailrace.Store, value: float) -> None:
    assert not store.wait(A, 100, value)
    waits = tailrace.Ticket(None, None)
    with pytest.raises(TimeoutError):
        waits.wait(value)


@pytest.mark.parametrize("value", NO_SECONDS)
def test_a_tickets_timeout(value: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        tailrace.Ticket(None, None).wait(value)
    assert caught.value.field == "timeout_s"


@pytest.mark.parametrize("value", [*HUGE, *NEGATIVE])
def test_times_that_no_record_has_bound_a_search_as_a_listing(value: int) -> None:
    with filled() as store:
        found = store.search("word", created_from_ms=value).total
        assert found == (value < 0)
        assert bool(store.list_created("bucket", created_from_ms=value).streams) == (value < 0)
        found = store.search("word", created_until_ms=value).total
        assert found == (value > 0)
        assert bool(store.list_created("bucket", created_until_ms=value).streams) == (value > 0)


def test_a_place_beyond_every_record_is_the_tail(store: tailrace.Store) -> None:
    for value in HUGE:
        assert store.read(A, value).next == 2
        assert store.read(A, 0, stop=value, max_records=value).next == 2
        assert store.read_pieces(A, value).next == 2
        assert store.is_resident(A, value)


@pytest.mark.parametrize("field", ["mark_idle_s", "expiry_sweep_s"])
@pytest.mark.parametrize("value", [0, -1, 1e18, *NO_SECONDS, math.inf])
def test_options_that_no_thread_could_wait_for(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Options(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    "field",
    ["segment_bytes", "staged_bytes_max", "checkpoint_every_bytes", "index_lag_bytes_max",
     "reserve_bytes_max"],
)  # fmt: skip
@pytest.mark.parametrize("value", [-1, *NO_INTEGER, None])
def test_options_that_are_no_sizes(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Options(**{field: value})
    assert caught.value.field == field


def test_one_that_is_invalid_fails_alone() -> None:
    with open_store(FaultyStorage(), Clock()) as store:
        store.create_bucket("bucket")
        good = Append(A, [b"1"], create=StreamOptions())
        wrong: Any = 5
        keyless: Any = ("bucket", [wrong])
        bad: list[Any] = [Append(A, wrong), Append(A, [wrong]), Append(keyless, [b"1"]), None]
        operations = [good, *bad, good]
        tickets = store.submit_each(operations, range(len(operations)))
        errors = [type(ticket.error) for ticket in tickets]
        assert errors == [type(None), *[InvalidArgument] * 4, type(None)]
        with pytest.raises(Rejected):
            store.read(("bucket", "b"), 0)
        assert store.head(A).tail == 2
