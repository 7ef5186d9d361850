"""The protocol's rules one by one: each test's name says the section it holds the engine to."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tailrace import limits
from tailrace.operation import (
    Append,
    Create,
    Delete,
    Expire,
    ForkPoint,
    Producer,
    SetMetadata,
    StreamKey,
    StreamOptions,
    Touch,
    Trim,
)
from tailrace.outcome import (
    Created,
    Reason,
    Rejection,
)
from tailrace.stream import expires_at_ms
from tests.engine.decide_lab import JSON, NOW_MS, TEXT, A, B, C, Engine


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_4_2_a_fork_shares_the_source_up_to_its_offset(engine: Engine) -> None:
    engine.done(Create(A, JSON, [b"1", b"2", b"3"]))
    fork = engine.done(Create(B, fork=ForkPoint(A, 2), records=[b"own"]))
    assert (fork.tail, fork.content_type) == (3, "application/json")
    state = engine.catalog.find(B)
    assert state is not None
    assert (state.config.base, state.config.fork_ordinal, state.start) == (2, 2, 0)
    assert engine.done(Append(A, [b"4"])).base == 3
    assert engine.done(Append(B, [b"x"])).base == 3


def test_4_2_a_fork_without_offset_leaves_at_the_tail(engine: Engine) -> None:
    engine.done(Create(A, TEXT, [b"1", b"2"]))
    assert engine.done(Create(B, fork=ForkPoint(A))).tail == 2
    engine.done(Append(A, [b"3"]))
    assert engine.done(Create(B, fork=ForkPoint(A))).existed
    assert engine.done(Create(B, fork=ForkPoint(A, 2))).existed
    assert engine.reason(Create(B, fork=ForkPoint(A, 3))) is Reason.CONFIG_MISMATCH
    assert engine.reason(Create(B, fork=ForkPoint(C, 2))) is Reason.CONFIG_MISMATCH
    assert engine.reason(Create(B, TEXT)) is Reason.CONFIG_MISMATCH


def test_4_2_fork_errors(engine: Engine) -> None:
    engine.done(Create(A, TEXT, [b"1", b"2"]))
    assert engine.reason(Create(B, fork=ForkPoint(C))) is Reason.FORK_SOURCE_NOT_FOUND
    assert engine.reason(Create(B, fork=ForkPoint(A, 3))) is Reason.FORK_BEYOND_TAIL
    assert engine.reason(Create(B, JSON, fork=ForkPoint(A, 1))) is Reason.CONTENT_TYPE_MISMATCH
    assert engine.reason(Create(B, fork=ForkPoint(B))) is Reason.FORK_SOURCE_NOT_FOUND
    state = engine.catalog.find(A)
    assert state is not None
    assert state.forks == 0, "a rejected fork leaves no reference"
    engine.done(Trim(A, 1))
    assert engine.reason(Create(B, fork=ForkPoint(A, 0))) is Reason.TRIMMED
    engine.done(Create(B, StreamOptions("TEXT/plain"), fork=ForkPoint(A, 1)))
    engine.done(Delete(A))
    assert engine.reason(Create(C, fork=ForkPoint(A))) is Reason.FORK_SOURCE_GONE


def test_4_2_an_expired_source_is_not_found(engine: Engine) -> None:
    engine.done(Create(A, StreamOptions(ttl_ms=10)))
    engine.now_ms += 10
    assert engine.reason(Create(B, fork=ForkPoint(A))) is Reason.FORK_SOURCE_NOT_FOUND


@pytest.mark.parametrize("sub_offset", [0, 1, 2, 3])
def test_4_2_sub_offset_of_a_json_stream_counts_records(engine: Engine, sub_offset: int) -> None:
    engine.done(Create(A, JSON, [b"1", b"2", b"3"]))
    outcome = engine.do(Create(B, fork=ForkPoint(A, 1, sub_offset)))
    if sub_offset > 2:
        assert isinstance(outcome, Rejection)
        assert outcome.reason is Reason.FORK_SUB_OFFSET
    else:
        assert isinstance(outcome, Created)
        assert outcome.tail == 1 + sub_offset
        assert engine.done(Create(B, fork=ForkPoint(A, 1, sub_offset))).existed
        other = Create(B, fork=ForkPoint(A, 1, (sub_offset + 1) % 3))
        assert engine.reason(other) is Reason.CONFIG_MISMATCH


@pytest.mark.parametrize(
    ("sub_offset", "tail", "copied"), [(1, 2, b"h"), (4, 2, b"hell"), (5, 2, None), (6, None, None)]
)
def test_4_2_sub_offset_of_other_streams_counts_bytes_of_one_record(
    engine: Engine, sub_offset: int, tail: int | None, copied: bytes | None
) -> None:
    engine.done(Create(A, TEXT, [b"x", b"hello", b"z"]))
    outcome = engine.do(Create(B, fork=ForkPoint(A, 1, sub_offset)), b"hello")
    if tail is None:
        assert isinstance(outcome, Rejection)
        assert outcome.reason is Reason.FORK_SUB_OFFSET
        return
    assert isinstance(outcome, Created)
    assert outcome.tail == tail
    assert engine.records.get((outcome.stream_id, 1)) == copied
    state = engine.catalog.find(B)
    assert state is not None
    assert state.config.base == (1 if copied is not None else 2)


def test_4_2_sub_offset_at_the_tail_has_nothing_to_go_into(engine: Engine) -> None:
    engine.done(Create(A, TEXT, [b"x"]))
    for ordinal in (None, 1):
        assert engine.reason(Create(B, fork=ForkPoint(A, ordinal, 1))) is Reason.FORK_SUB_OFFSET
    engine.done(Create(C, JSON, [b"1"]))
    assert engine.reason(Create(B, fork=ForkPoint(C, None, 1))) is Reason.FORK_SUB_OFFSET


_TTL, _OTHER_TTL, _AT, _OTHER_AT = 5000, 7000, NOW_MS + 50_000, NOW_MS + 90_000


@pytest.mark.parametrize(
    ("source", "asked", "gets"),
    [
        ((None, None), (None, None), (None, None)),
        ((None, None), (_TTL, None), (_TTL, None)),
        ((None, None), (None, _AT), (None, _AT)),
        ((_TTL, None), (None, None), (_TTL, None)),
        ((_TTL, None), (_OTHER_TTL, None), (_OTHER_TTL, None)),
        ((_TTL, None), (None, _AT), (None, _AT)),
        ((None, _AT), (None, None), (None, _AT)),
        ((None, _AT), (_TTL, None), (_TTL, None)),
        ((None, _AT), (None, _OTHER_AT), (None, _OTHER_AT)),
    ],
)
def test_4_2_fork_expiry_table(
    engine: Engine,
    source: tuple[int | None, int | None],
    asked: tuple[int | None, int | None],
    gets: tuple[int | None, int | None],
) -> None:
    engine.done(Create(A, StreamOptions(None, *source)))
    engine.now_ms += 100
    fork = Create(B, StreamOptions(None, *asked), fork=ForkPoint(A))
    engine.done(fork)
    state = engine.catalog.find(B)
    assert state is not None
    assert (state.config.ttl_ms, state.config.expires_at_ms) == gets
    expected = engine.now_ms + gets[0] if gets[0] is not None else gets[1]
    assert expires_at_ms(state) == expected, "a TTL starts anew with the fork"
    assert engine.done(fork).existed, "asking the same again is confirmed"
    assert engine.done(Create(B, StreamOptions(None, *gets), fork=ForkPoint(A))).existed
    if asked != (None, None):
        assert engine.reason(Create(B, fork=ForkPoint(A))) is Reason.CONFIG_MISMATCH


def test_4_2_a_closed_stream_forks_open(engine: Engine) -> None:
    engine.done(Create(A, TEXT, [b"1"], closed=True))
    assert not engine.done(Create(B, fork=ForkPoint(A))).closed
    engine.done(Append(B, [b"2"]))
    assert engine.done(Create(C, fork=ForkPoint(A), closed=True)).closed


def test_4_2_a_fork_inherits_no_writer_state(engine: Engine) -> None:
    engine.done(Create(A, TEXT))
    engine.done(Append(A, [b"x"], producer=Producer("p", 3, 0), stream_seq="z"))
    engine.done(Create(B, fork=ForkPoint(A)))
    append = Append(B, [b"y"], producer=Producer("p", 0, 0), stream_seq="a")
    assert not engine.done(append).duplicate


def test_4_2_soft_delete_hides_the_source_and_the_last_fork_takes_it_along(
    engine: Engine,
) -> None:
    engine.done(Create(A, TEXT, [b"1"]))
    engine.done(Create(B, fork=ForkPoint(A)))
    engine.done(Create(C, fork=ForkPoint(A)))
    assert engine.done(Delete(A)).soft
    for operation in (Append(A, [b"x"]), Append(A, close=True), Delete(A), Touch(A),
                      SetMetadata(A, b""), Trim(A, 0), Append(A, [b"x"], create=TEXT),
                      Create(A, TEXT), Create(A, fork=ForkPoint(B))):  # fmt: skip
        assert engine.reason(operation) is Reason.STREAM_GONE, operation
    assert not engine.done(Delete(B)).soft
    assert engine.reason(Append(A, [b"x"])) is Reason.STREAM_GONE
    engine.done(Delete(C))
    assert engine.reason(Append(A, [b"x"])) is Reason.STREAM_NOT_FOUND
    assert engine.catalog.streams == {}
    assert engine.catalog.buckets["bucket"].streams == 0
    assert not engine.done(Create(A, JSON)).existed


def test_4_2_cleanup_cascades_up_a_chain_of_forks(engine: Engine) -> None:
    keys = [StreamKey("bucket", f"chain{n}") for n in range(5)]
    engine.done(Create(keys[0], TEXT, [b"x"]))
    for source, fork in pairwise(keys):
        engine.done(Create(fork, fork=ForkPoint(source)))
    for key in keys[:-1]:
        assert engine.done(Delete(key)).soft
    assert not engine.done(Delete(keys[-1])).soft
    assert engine.catalog.streams == {}
    assert engine.catalog.names == {}


def test_4_2_cascade_stops_at_a_source_that_was_not_deleted(engine: Engine) -> None:
    engine.done(Create(A, TEXT))
    engine.done(Create(B, fork=ForkPoint(A)))
    engine.done(Create(C, fork=ForkPoint(B)))
    engine.done(Delete(B))
    engine.done(Delete(C))
    assert list(engine.catalog.names) == [A]
    assert not engine.done(Delete(A)).soft


@pytest.mark.parametrize("swept", [False, True])
def test_4_2_an_expired_source_frees_its_name_and_keeps_its_data(
    engine: Engine, swept: bool
) -> None:
    source = engine.done(Create(A, StreamOptions("text/plain", ttl_ms=10), [b"1"]))
    engine.done(Create(B, StreamOptions(ttl_ms=10_000), fork=ForkPoint(A)))
    engine.now_ms += 10
    if swept:
        engine.done(Expire(A))
    assert engine.reason(Append(A, [b"x"])) is Reason.STREAM_NOT_FOUND
    again = engine.done(Create(A, JSON))
    assert not again.existed
    assert source.stream_id in engine.catalog.streams
    engine.done(Delete(B))
    assert set(engine.catalog.streams) == {again.stream_id}
    assert engine.catalog.buckets["bucket"].streams == 1


@pytest.mark.parametrize("swept", [False, True])
def test_4_2_replacing_an_expired_fork_frees_its_soft_deleted_source(
    engine: Engine, swept: bool
) -> None:
    engine.done(Create(A, TEXT))
    engine.done(Create(B, StreamOptions(ttl_ms=10), fork=ForkPoint(A)))
    engine.done(Delete(A))
    engine.now_ms += 10
    if swept:
        engine.done(Expire(B))
    engine.done(Create(B, JSON))
    assert not engine.done(Create(A, JSON)).existed
    assert engine.catalog.buckets["bucket"].streams == 2
    assert len(engine.catalog.streams) == 2


def test_4_2_forks_nest_to_a_bound(engine: Engine) -> None:
    engine.done(Create(StreamKey("bucket", "0"), TEXT))
    depth = 0
    while True:
        source, fork = StreamKey("bucket", str(depth)), StreamKey("bucket", str(depth + 1))
        outcome = engine.do(Create(fork, fork=ForkPoint(source)))
        if isinstance(outcome, Rejection):
            assert outcome.reason is Reason.FORK_TOO_DEEP
            break
        depth += 1
    assert limits.FORK_DEPTH_MAX - 1 <= depth <= limits.FORK_DEPTH_MAX
