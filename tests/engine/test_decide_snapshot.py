"""The rules of snapshots and of retention beside them, without any disk."""

from __future__ import annotations

import pytest

from tailrace.errors import InvalidArgument
from tailrace.operation import (
    Append,
    Create,
    Delete,
    Expire,
    ForkPoint,
    PutSnapshot,
    StreamOptions,
    Touch,
    Trim,
)
from tailrace.outcome import Deleted, Reason, SnapshotStored, Updated
from tests.engine.decide_lab import NOW_MS, TEXT, A, B, Engine
from tests.engine.snapshot_lab import put_snapshot


@pytest.fixture
def engine() -> Engine:
    """With a stream of five records."""
    engine = Engine()
    engine.done(Create(A, TEXT, [b"0", b"1", b"2", b"3", b"4"]))
    return engine


def at(ordinal: int, content: bytes = b"folded", **more: object) -> PutSnapshot:
    return put_snapshot(A, ordinal, content, **more)  # type: ignore[arg-type]


def visible(engine: Engine) -> object:
    state = engine.catalog.find(A)
    assert state is not None
    return state.snapshot


def test_any_boundary_from_the_start_to_the_tail_may_have_one(engine: Engine) -> None:
    for ordinal in range(6):
        wanted = at(ordinal)
        outcome = engine.done(wanted)
        assert isinstance(outcome, SnapshotStored)
        assert (outcome.tail, outcome.existed) == (5, False)
        assert outcome.snapshot == wanted.snapshot == visible(engine)


def test_the_very_same_is_confirmed(engine: Engine) -> None:
    first = at(2)
    engine.done(first)
    again = engine.done(PutSnapshot(A, first.snapshot._replace(file=9)))
    assert again.existed
    assert again.snapshot == first.snapshot == visible(engine)


@pytest.mark.parametrize(
    "other",
    [at(2, b"other"), at(2, content_type="text/plain"), at(2, b"")],
    ids=["bytes", "content type", "length"],
)
def test_another_one_at_its_ordinal_is_refused(engine: Engine, other: PutSnapshot) -> None:
    engine.done(at(2))
    refused = engine.refused(other)
    assert refused.reason is Reason.SNAPSHOT_CONFLICT
    assert refused.snapshot == visible(engine)


def test_one_beyond_the_tail_is_refused(engine: Engine) -> None:
    refused = engine.refused(at(6))
    assert (refused.reason, refused.tail) == (Reason.SNAPSHOT_BEYOND_TAIL, 5)
    engine.done(Append(A, [b"5"]))
    engine.done(at(6))


def test_one_before_the_retained_start_is_gone(engine: Engine) -> None:
    engine.done(Trim(A, 3))
    assert engine.reason(at(2)) is Reason.TRIMMED
    engine.done(at(3))


def test_one_older_than_the_visible_is_refused(engine: Engine) -> None:
    engine.done(at(3))
    refused = engine.refused(at(2))
    assert refused.reason is Reason.SNAPSHOT_STALE
    assert refused.snapshot == visible(engine)


def test_compare_and_set_by_digest(engine: Engine) -> None:
    first = at(1)
    assert engine.reason(at(1, match=bytes(32))) is Reason.SNAPSHOT_MISMATCH
    engine.done(first)
    assert engine.reason(at(2, match=bytes(32))) is Reason.SNAPSHOT_MISMATCH
    second = at(2, b"second", match=first.snapshot.digest)
    assert not engine.done(second).existed
    # A retry is seen as one before what is visible is compared.
    assert engine.done(second).existed
    assert engine.reason(at(3, match=first.snapshot.digest)) is Reason.SNAPSHOT_MISMATCH


def test_there_must_be_a_stream(engine: Engine) -> None:
    assert engine.reason(put_snapshot(B, 0, b"")) is Reason.STREAM_NOT_FOUND
    engine.done(Create(B, fork=ForkPoint(A)))
    engine.done(Delete(A))
    assert engine.reason(at(1)) is Reason.STREAM_GONE


def test_a_closed_stream_may_have_one(engine: Engine) -> None:
    engine.done(Append(A, close=True))
    assert not engine.done(at(5)).existed


def test_retention_is_not_newer_than_the_visible_snapshot(engine: Engine) -> None:
    """Extensions, retention."""
    assert engine.done(Trim(A, 1)) == Updated(1, 5)  # no snapshot: any record may go
    engine.done(at(3))
    refused = engine.refused(Trim(A, 4))
    assert refused.reason is Reason.TRIM_BEYOND_SNAPSHOT
    assert refused.snapshot == visible(engine)
    assert engine.done(Trim(A, 3)) == Updated(1, 5)
    engine.done(at(5))
    assert engine.done(Trim(A, 5)) == Updated(1, 5)
    assert engine.reason(Trim(A, 4)) is Reason.TRIM_BACKWARDS
    assert engine.reason(Trim(A, 6)) is Reason.TRIM_BEYOND_TAIL


def test_a_fork_has_no_snapshot_until_it_gets_its_own(engine: Engine) -> None:
    engine.done(at(3))
    engine.done(Create(B, fork=ForkPoint(A, 4)))
    fork = engine.catalog.find(B)
    assert fork is not None
    assert fork.snapshot is None
    engine.done(put_snapshot(B, 2, b"the fork's"))
    assert engine.catalog.find(B).snapshot.ordinal == 2  # type: ignore[union-attr]
    assert visible(engine).ordinal == 3  # type: ignore[attr-defined]


def test_a_deleted_stream_lets_go_of_its_own(engine: Engine) -> None:
    engine.done(at(3))
    engine.done(Create(B, fork=ForkPoint(A)))
    outcome = engine.done(Delete(A))
    assert isinstance(outcome, Deleted)
    assert outcome.soft
    assert engine.catalog.streams[outcome.stream_id].snapshot is None


def test_storing_one_renews_a_sliding_ttl() -> None:
    engine = Engine()
    engine.done(Create(A, StreamOptions(ttl_ms=1000), [b"0"]))
    engine.now_ms += 900
    engine.done(at(1))
    engine.now_ms += 900
    engine.done(Touch(A))
    engine.now_ms += 1000
    assert engine.reason(at(1)) is Reason.STREAM_NOT_FOUND
    engine.done(Expire(A))
    assert engine.catalog.streams == {}
    assert engine.now_ms == NOW_MS + 2800


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("ordinal", {"ordinal": -1}),
        ("digest", {"digest": b"short"}),
        ("length", {"length": -1}),
        ("content_type", {"content_type": "no type"}),
        ("file", {"file": 2**64}),
    ],
)
def test_what_is_no_snapshot_is_refused_by_name(
    engine: Engine, field: str, change: dict[str, object]
) -> None:
    bad = PutSnapshot(A, at(1).snapshot._replace(**change))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument) as caught:
        engine.do(bad)
    assert caught.value.field == field


def test_what_is_no_digest_to_match_is_refused_by_name(engine: Engine) -> None:
    with pytest.raises(InvalidArgument, match="match"):
        engine.do(PutSnapshot(A, at(1).snapshot, b"x"))
