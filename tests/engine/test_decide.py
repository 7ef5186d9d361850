"""The protocol's rules one by one: each test's name says the section it holds the engine to."""

from __future__ import annotations

import pytest

from tailrace import limits
from tailrace.errors import InvalidArgument
from tailrace.operation import (
    Append,
    Create,
    CreateBucket,
    Delete,
    DeleteBucket,
    Expire,
    ForkPoint,
    Operation,
    Producer,
    SetMetadata,
    StreamKey,
    StreamOptions,
    Touch,
    Trim,
)
from tailrace.outcome import (
    BucketDone,
    Created,
    Deleted,
    Reason,
    Rejection,
    Updated,
)
from tailrace.stream import expires_at_ms
from tests.engine.decide_lab import CLOSED, JSON, NOW_MS, TEXT, A, B, Engine


@pytest.fixture
def engine() -> Engine:
    return Engine()


# ---- buckets


def test_buckets_are_created_once_and_deleted_when_empty(engine: Engine) -> None:
    assert engine.reason(CreateBucket("bucket")) is Reason.BUCKET_EXISTS
    assert engine.do(CreateBucket("other")) == BucketDone("other")
    engine.done(Create(StreamKey("other", "s")))
    assert engine.reason(DeleteBucket("other")) is Reason.BUCKET_NOT_EMPTY
    engine.done(Delete(StreamKey("other", "s")))
    engine.done(DeleteBucket("other"))
    assert engine.reason(DeleteBucket("other")) is Reason.BUCKET_NOT_FOUND
    assert engine.reason(Create(StreamKey("other", "s"))) is Reason.BUCKET_NOT_FOUND
    created = Append(StreamKey("other", "s"), [b"x"], create=TEXT)
    assert engine.reason(created) is Reason.BUCKET_NOT_FOUND


def test_a_soft_deleted_stream_keeps_its_bucket_from_being_deleted(engine: Engine) -> None:
    engine.done(CreateBucket("other"))
    engine.done(Create(StreamKey("other", "s")))
    engine.done(Create(A, fork=ForkPoint(StreamKey("other", "s"))))
    engine.done(Delete(StreamKey("other", "s")))
    assert engine.reason(DeleteBucket("other")) is Reason.BUCKET_NOT_EMPTY
    engine.done(Delete(A))
    engine.done(DeleteBucket("other"))


# ---- 5.1 create


def test_5_1_content_type_defaults_to_octet_stream(engine: Engine) -> None:
    created = engine.done(Create(A))
    assert created == Created(
        created.stream_id, 0, False, "application/octet-stream", existed=False
    )


def test_5_1_initial_records_and_closed_make_a_complete_stream(engine: Engine) -> None:
    created = engine.done(Create(A, JSON, [b"1", b"2"], closed=True))
    assert (created.tail, created.closed) == (2, True)
    assert engine.reason(Append(A, [b"3"])) is Reason.STREAM_CLOSED


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (Create(A), Create(A), True),
        (Create(A, TEXT), Create(A, TEXT), True),
        (Create(A, TEXT), Create(A, StreamOptions("TEXT/Plain; charset=utf-8")), True),
        (Create(A, TEXT), Create(A, JSON), False),
        (Create(A, TEXT), Create(A), False),
        (Create(A), Create(A, StreamOptions("application/octet-stream")), True),
        (Create(A, StreamOptions(ttl_ms=5000)), Create(A, StreamOptions(ttl_ms=5000)), True),
        (Create(A, StreamOptions(ttl_ms=5000)), Create(A, StreamOptions(ttl_ms=6000)), False),
        (Create(A, StreamOptions(ttl_ms=5000)), Create(A), False),
        (Create(A), Create(A, StreamOptions(ttl_ms=5000)), False),
        (
            Create(A, StreamOptions(expires_at_ms=NOW_MS + 5)),
            Create(A, StreamOptions(expires_at_ms=NOW_MS + 5)),
            True,
        ),
        (
            Create(A, StreamOptions(expires_at_ms=NOW_MS + 5)),
            Create(A, StreamOptions(expires_at_ms=NOW_MS + 6)),
            False,
        ),
        (
            Create(A, StreamOptions(expires_at_ms=NOW_MS + 5000)),
            Create(A, StreamOptions(ttl_ms=5000)),
            False,
        ),
        (Create(A, records=[b"x"]), Create(A, records=[b"y"]), True),
        (Create(A), Create(A, closed=True), False),
        (Create(A, closed=True), Create(A), False),
        (Create(A, closed=True), Create(A, closed=True), True),
    ],
)
def test_5_1_create_again_is_confirmed_or_a_conflict(
    engine: Engine, first: Create, second: Create, same: bool
) -> None:
    created = engine.done(first)
    outcome = engine.do(second)
    if same:
        assert outcome == Created(
            created.stream_id, created.tail, created.closed, created.content_type, existed=True
        )
    else:
        assert isinstance(outcome, Rejection)
        assert outcome.reason is Reason.CONFIG_MISMATCH
        assert (outcome.tail, outcome.closed) == (created.tail, created.closed)


def test_5_1_closure_is_compared_with_the_present_not_with_the_creation(engine: Engine) -> None:
    engine.done(Create(A))
    engine.done(Append(A, close=True))
    assert engine.reason(Create(A)) is Reason.CONFIG_MISMATCH
    assert engine.done(Create(A, closed=True)).existed


def test_5_1_an_expired_stream_does_not_block_its_name(engine: Engine) -> None:
    first = engine.done(Create(A, StreamOptions(ttl_ms=100), [b"old"]))
    engine.now_ms += 99
    assert engine.done(Create(A, StreamOptions(ttl_ms=100))).existed
    engine.now_ms += 1
    assert engine.reason(Append(A, [b"x"])) is Reason.STREAM_NOT_FOUND
    assert engine.reason(Delete(A)) is Reason.STREAM_NOT_FOUND
    second = engine.done(Create(A, JSON))
    assert not second.existed
    assert second.stream_id != first.stream_id
    assert second.tail == 0


def test_5_1_ttl_slides_with_writes_and_throttled_reads(engine: Engine) -> None:
    engine.done(Create(A, StreamOptions(ttl_ms=1000)))
    engine.now_ms += 600
    engine.done(Append(A, [b"x"]))

    def expires() -> int | None:
        state = engine.catalog.find(A)
        assert state is not None
        return expires_at_ms(state)

    assert expires() == engine.now_ms + 1000
    engine.now_ms += 249
    engine.done(Touch(A))
    assert expires() == engine.now_ms - 249 + 1000, "too soon to be worth a write"
    engine.now_ms += 1
    engine.done(Touch(A))
    assert expires() == engine.now_ms + 1000
    engine.now_ms += 1000
    assert engine.reason(Touch(A)) is Reason.STREAM_NOT_FOUND


def test_5_1_absolute_expiry_does_not_slide(engine: Engine) -> None:
    engine.done(Create(A, StreamOptions(expires_at_ms=NOW_MS + 1000)))
    engine.now_ms += 999
    engine.done(Append(A, [b"x"]))
    engine.done(Touch(A))
    engine.now_ms += 1
    assert engine.reason(Append(A, [b"x"])) is Reason.STREAM_NOT_FOUND


def test_5_1_ttl_and_expiry_together_are_refused(engine: Engine) -> None:
    with pytest.raises(InvalidArgument) as caught:
        engine.do(Create(A, StreamOptions(ttl_ms=1, expires_at_ms=1)))
    assert caught.value.field == "ttl_ms"


def test_expiry_is_logged_only_when_it_is_due(engine: Engine) -> None:
    engine.done(Create(A, StreamOptions(ttl_ms=10)))
    assert engine.reason(Expire(A)) is Reason.STREAM_NOT_FOUND
    engine.now_ms += 10
    assert engine.done(Expire(A)).soft is False
    assert engine.catalog.streams == {}
    assert engine.catalog.buckets["bucket"].streams == 0


# ---- 5.4 delete, incarnations


def test_5_4_delete_and_create_again_is_another_stream(engine: Engine) -> None:
    first = engine.done(Create(A, TEXT, [b"1"]))
    producer = Producer("p", 4, 0)
    engine.done(Append(A, [b"2"], producer=producer, stream_seq="z"))
    assert engine.do(Delete(A)) == Deleted(first.stream_id, soft=False)
    assert engine.reason(Delete(A)) is Reason.STREAM_NOT_FOUND
    second = engine.done(Create(A, TEXT))
    assert second.stream_id > first.stream_id
    append = Append(A, [b"1"], producer=producer._replace(epoch=0), stream_seq="a")
    assert engine.done(append).base == 0


def test_stream_ids_are_never_used_again(engine: Engine) -> None:
    seen = set()
    for _ in range(5):
        stream_id = engine.done(Create(A)).stream_id
        assert stream_id not in seen
        seen.add(stream_id)
        engine.done(Delete(A))


# ---- retention and metadata


def test_trim_moves_the_start_and_nothing_else(engine: Engine) -> None:
    stream_id = engine.done(Create(A, TEXT, [b"1", b"2", b"3"])).stream_id
    assert engine.do(Trim(A, 2)) == Updated(stream_id, 3)
    assert engine.do(Trim(A, 2)) == Updated(stream_id, 3)
    backwards = engine.refused(Trim(A, 1))
    assert (backwards.reason, backwards.tail) == (Reason.TRIM_BACKWARDS, 3)
    state = engine.catalog.find(A)
    assert state is not None
    assert (state.start, state.tail) == (2, 3)
    refused = engine.refused(Trim(A, 4))
    assert (refused.reason, refused.tail) == (Reason.TRIM_BEYOND_TAIL, 3)
    engine.done(Trim(A, 3))
    assert engine.done(Append(A, [b"4"])).base == 3


@pytest.mark.parametrize("closed", CLOSED)
def test_a_rejection_says_whether_the_stream_is_closed(engine: Engine, closed: bool) -> None:
    engine.done(Create(A, closed=closed))
    assert engine.refused(Trim(A, 1)).closed == closed
    assert engine.refused(Create(A, JSON, closed=closed)).closed == closed


def test_metadata_is_replaced_and_is_no_write(engine: Engine) -> None:
    stream_id = engine.done(Create(A, StreamOptions(metadata=b"old"))).stream_id
    before = engine.catalog.find(A)
    assert before is not None
    engine.now_ms += 10
    assert engine.do(SetMetadata(A, b"new")) == Updated(stream_id, 0)
    after = engine.catalog.find(A)
    assert after == before._replace(metadata=b"new")
    with pytest.raises(InvalidArgument):
        engine.do(SetMetadata(A, bytes(limits.METADATA_BYTES_MAX + 1)))


@pytest.mark.parametrize(
    "operation",
    [
        CreateBucket("abc"),
        CreateBucket("UPPER"),
        CreateBucket("a" * 65),
        CreateBucket("dots.dots"),
        CreateBucket("newline\n"),
        Create(StreamKey("bucket", "")),
        Create(StreamKey("bucket", "x" * 1025)),
        Create(StreamKey("bucket", "\ud800")),
        Create(A, StreamOptions("nonsense")),
        Create(A, StreamOptions("text/plain\r\nx: y")),
        Create(A, StreamOptions(ttl_ms=-1)),
        Create(A, StreamOptions(ttl_ms=limits.TTL_MS_MAX + 1)),
        Create(A, StreamOptions(metadata=bytes(limits.METADATA_BYTES_MAX + 1))),
        Create(A, fork=ForkPoint(B, -1)),
        Create(A, fork=ForkPoint(B, 0, -1)),
        Append(A, [b"x"], stream_seq=""),
        Append(A, [b"x"], stream_seq="x" * 257),
        Trim(A, -1),
    ],
)
def test_values_that_break_a_rule_are_invalid_arguments(
    engine: Engine, operation: Operation
) -> None:
    with pytest.raises(InvalidArgument):
        engine.do(operation)
