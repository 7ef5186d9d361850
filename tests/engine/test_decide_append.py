"""The protocol's rules one by one: each test's name says the section it holds the engine to."""

from __future__ import annotations

import pytest

from tailrace import limits
from tailrace.errors import InvalidArgument
from tailrace.operation import (
    Append,
    Create,
    Delete,
    Producer,
    StreamOptions,
)
from tailrace.outcome import (
    Appended,
    Reason,
    Rejection,
)
from tests.engine.decide_lab import JSON, NOW_MS, TEXT, A, B, Engine


@pytest.fixture
def engine() -> Engine:
    return Engine()


# ---- 5.2 append


def test_5_2_append_gives_consecutive_ordinals(engine: Engine) -> None:
    stream_id = engine.done(Create(A, TEXT)).stream_id
    assert engine.do(Append(A, [b"x", b"y"])) == Appended(
        stream_id, 0, 2, False, False, False, NOW_MS
    )
    assert engine.done(Append(A, [b"z"])).base == 2


def test_5_2_append_to_nothing_is_not_found(engine: Engine) -> None:
    assert engine.reason(Append(A, [b"x"])) is Reason.STREAM_NOT_FOUND
    assert engine.reason(Append(A, close=True)) is Reason.STREAM_NOT_FOUND


def test_5_2_an_empty_append_is_refused_unless_it_closes(engine: Engine) -> None:
    engine.done(Create(A))
    assert engine.reason(Append(A)) is Reason.EMPTY_APPEND
    assert engine.reason(Append(A, lambda base, now_ms: [])) is Reason.EMPTY_APPEND
    assert engine.done(Append(A, close=True)).closed


def test_5_2_the_first_append_may_create(engine: Engine) -> None:
    producer = Producer("p", 3, 0)
    append = Append(A, [b"x"], producer=producer, stream_seq="m", create=TEXT)
    made = engine.done(append)
    assert (made.created, made.base, made.tail) == (True, 0, 1)
    assert (made.producer_epoch, made.producer_seq) == (3, 0)
    again = engine.done(append)
    assert (again.created, again.duplicate, again.tail) == (False, True, 1)
    assert engine.reason(Append(A, [b"y"], stream_seq="m")) is Reason.STREAM_SEQ_REGRESSED
    assert engine.done(Append(A, [b"y"], create=JSON)).base == 1


@pytest.mark.parametrize(
    ("append", "reason"),
    [
        (Append(A, create=TEXT), Reason.EMPTY_APPEND),
        (Append(A, [b"x"], content_type="text/html", create=TEXT), Reason.CONTENT_TYPE_MISMATCH),
        (Append(A, [b"x"], producer=Producer("p", 0, 1), create=TEXT), Reason.PRODUCER_GAP),
        (Append(A, [b"x"], expected_ordinal=1, create=TEXT), Reason.EXPECTED_ORDINAL_MISMATCH),
        (Append(A, [b"x"], expected_stream_id=1, create=TEXT), Reason.PRECONDITION_FAILED),
    ],
)
def test_5_2_a_rejected_first_append_creates_nothing(
    engine: Engine, append: Append, reason: Reason
) -> None:
    assert engine.reason(append) is reason
    assert engine.catalog.find(A) is None
    assert engine.catalog.buckets["bucket"].streams == 0


@pytest.mark.parametrize(
    ("stream", "offered", "fits"),
    [
        ("text/plain", None, True),
        ("text/plain", "text/plain", True),
        ("text/plain", "Text/PLAIN;charset=utf-8", True),
        ("text/plain; charset=utf-8", "text/plain", True),
        ("text/plain", "text/html", False),
        ("application/json", "application/vnd.x+json", False),
    ],
)
def test_5_2_content_type_must_match(
    engine: Engine, stream: str, offered: str | None, fits: bool
) -> None:
    engine.done(Create(A, StreamOptions(stream)))
    outcome = engine.do(Append(A, [b"1"], content_type=offered))
    if fits:
        assert isinstance(outcome, Appended)
    else:
        assert isinstance(outcome, Rejection)
        assert outcome.reason is Reason.CONTENT_TYPE_MISMATCH


@pytest.mark.parametrize("create", [None, TEXT], ids=["existing", "first"])
def test_5_2_content_type_of_a_close_without_body_is_ignored(
    engine: Engine, create: StreamOptions | None
) -> None:
    if create is None:
        engine.done(Create(A, TEXT))
    append = Append(A, content_type="application/x-www-form-urlencoded", close=True, create=create)
    assert engine.done(append).closed


@pytest.mark.parametrize(
    ("last", "next_", "fits"),
    [("a", "b", True), ("a", "a", False), ("b", "a", False), ("9", "10", False), ("é", "z", False),
     ("\uffff", "\U00010000", True), ("a", "aa", True)],
)  # fmt: skip
def test_5_2_stream_seq_is_compared_bytewise(
    engine: Engine, last: str, next_: str, fits: bool
) -> None:
    assert (last.encode() < next_.encode()) == fits
    engine.done(Create(A))
    engine.done(Append(A, [b"x"], stream_seq=last))
    engine.done(Append(A, [b"x"]))
    outcome = engine.do(Append(A, [b"y"], stream_seq=next_))
    assert isinstance(outcome, Appended) == fits
    if not fits:
        assert isinstance(outcome, Rejection)
        assert outcome.reason is Reason.STREAM_SEQ_REGRESSED


def test_5_2_a_refused_append_does_not_advance_stream_seq(engine: Engine) -> None:
    engine.done(Create(A, TEXT))
    engine.refused(Append(A, [b"x"], content_type="text/html", stream_seq="z"))
    engine.done(Append(A, [b"x"], stream_seq="a"))


def test_5_2_expected_ordinal_is_compare_and_append(engine: Engine) -> None:
    engine.done(Create(A))
    assert engine.done(Append(A, [b"x"], expected_ordinal=0)).tail == 1
    refused = engine.refused(Append(A, [b"x"], expected_ordinal=0))
    assert (refused.reason, refused.tail) == (Reason.EXPECTED_ORDINAL_MISMATCH, 1)
    assert engine.done(Append(A, [b"x"], expected_ordinal=1)).tail == 2


def test_5_2_expected_stream_id_is_compare_and_append_to_one_incarnation(engine: Engine) -> None:
    first = engine.done(Create(A)).stream_id
    assert engine.done(Append(A, [b"x"], expected_stream_id=first)).tail == 1
    append = Append(A, [b"x"], expected_stream_id=first, expected_ordinal=1)
    assert engine.done(append).tail == 2
    refused = engine.refused(append)
    assert (refused.reason, refused.tail) == (Reason.PRECONDITION_FAILED, 2)
    engine.done(Delete(A))
    assert engine.reason(Append(A, [b"x"], expected_stream_id=first)) is Reason.STREAM_NOT_FOUND
    engine.done(Create(A, records=[b"1"]))
    refused = engine.refused(append)
    assert (refused.reason, refused.tail) == (Reason.PRECONDITION_FAILED, 1)


def test_5_2_closed_comes_first_then_content_type_then_producer_then_seq(engine: Engine) -> None:
    wrong = {"content_type": "text/html", "producer": Producer("p", 0, 9), "stream_seq": "a"}
    engine.done(Create(A, TEXT))
    engine.done(Append(A, [b"x"], stream_seq="m"))
    everything = Append(A, [b"x"], expected_ordinal=7, **wrong)  # type: ignore[arg-type]
    assert engine.reason(everything) is Reason.CONTENT_TYPE_MISMATCH
    everything = Append(A, [b"x"], expected_ordinal=7, producer=Producer("p", 0, 9), stream_seq="a")
    assert engine.reason(everything) is Reason.PRODUCER_GAP
    everything = Append(A, [b"x"], expected_ordinal=7, stream_seq="a")
    assert engine.reason(everything) is Reason.STREAM_SEQ_REGRESSED
    everything = Append(A, [b"x"], expected_ordinal=7, stream_seq="z", expected_stream_id=9)
    assert engine.reason(everything) is Reason.PRECONDITION_FAILED
    engine.done(Append(A, close=True))
    everything = Append(A, [b"x"], expected_ordinal=7, **wrong)  # type: ignore[arg-type]
    refused = engine.refused(everything)
    assert (refused.reason, refused.closed, refused.tail) == (Reason.STREAM_CLOSED, True, 1)


def test_5_2_too_large_an_append_is_refused_whole(engine: Engine) -> None:
    engine.batch_bytes_max = 4096
    engine.done(Create(A))
    assert engine.reason(Append(A, [b"x" * 4096])) is Reason.TOO_LARGE
    assert engine.reason(Append(B, [b"x" * 4096], create=TEXT)) is Reason.TOO_LARGE
    assert engine.reason(Create(B, records=[b"x" * 4096])) is Reason.TOO_LARGE
    assert engine.done(Append(A, [b"x" * 3000])).tail == 1


def test_stamps_are_told_their_ordinal_and_time_and_only_when_accepted(engine: Engine) -> None:
    calls: list[tuple[int, int]] = []

    def stamp(base: int, now_ms: int) -> list[bytes]:
        calls.append((base, now_ms))
        return [b"r"]

    engine.done(Create(A))
    engine.done(Append(A, [b"x", b"y"]))
    engine.refused(Append(A, stamp, expected_ordinal=0))
    assert calls == []
    engine.now_ms += 5
    engine.done(Append(A, stamp))
    engine.now_ms -= 50  # a clock set back never shows in a stream
    outcome = engine.done(Append(A, stamp))
    assert calls == [(2, NOW_MS + 5), (3, NOW_MS + 5)]
    assert outcome.created_at_ms == NOW_MS + 5


# ---- 5.2 and 5.3 closing


def test_5_3_closing_is_idempotent_and_final(engine: Engine) -> None:
    engine.done(Create(A))
    first = engine.done(Append(A, [b"x"], close=True))
    assert (first.closed, first.duplicate, first.tail) == (True, False, 1)
    again = engine.done(Append(A, close=True))
    assert (again.closed, again.duplicate, again.base, again.tail) == (True, True, 1, 1)
    assert engine.reason(Append(A, [b"y"])) is Reason.STREAM_CLOSED
    assert engine.reason(Append(A, [b"y"], close=True)) is Reason.STREAM_CLOSED
    assert engine.reason(Append(A)) is Reason.STREAM_CLOSED


def test_5_2_1_only_the_tuple_that_closed_is_a_duplicate_of_the_close(engine: Engine) -> None:
    engine.done(Create(A))
    engine.done(Append(A, [b"w"], producer=Producer("p", 1, 0)))
    closing = Append(A, [b"x"], producer=Producer("p", 1, 1), close=True)
    engine.done(closing)
    again = engine.done(closing)
    assert (again.duplicate, again.closed, again.producer_seq) == (True, True, 1)
    for other in (Producer("p", 1, 0), Producer("p", 1, 2), Producer("p", 2, 0),
                  Producer("q", 1, 1), Producer("p", 0, 1)):  # fmt: skip
        refused = engine.refused(Append(A, [b"x"], producer=other, close=True))
        assert (refused.reason, refused.closed) == (Reason.STREAM_CLOSED, True)
    assert engine.done(Append(A, close=True)).duplicate


def test_5_2_1_close_without_append_is_sequenced_and_idempotent(engine: Engine) -> None:
    engine.done(Create(A))
    engine.done(Append(A, [b"w"], producer=Producer("p", 0, 0)))
    assert engine.reason(Append(A, producer=Producer("p", 0, 2), close=True)) is Reason.PRODUCER_GAP
    assert engine.done(Append(A, producer=Producer("p", 0, 1), close=True)).closed
    assert engine.done(Append(A, producer=Producer("p", 0, 1), close=True)).duplicate


# ---- 5.2.1 producers


@pytest.mark.parametrize(
    ("epoch", "seq", "verdict", "details"),
    [
        (5, 3, "new", (None, None, None)),
        (5, 2, "duplicate", (None, None, None)),
        (5, 0, "duplicate", (None, None, None)),
        (5, 4, Reason.PRODUCER_GAP, (None, 3, 4)),
        (4, 0, Reason.PRODUCER_FENCED, (5, None, None)),
        (4, 3, Reason.PRODUCER_FENCED, (5, None, None)),
        (6, 0, "new", (None, None, None)),
        (6, 1, Reason.PRODUCER_EPOCH_START, (None, None, None)),
        (2**53 - 1, 0, "new", (None, None, None)),
    ],
)
def test_5_2_1_validation_against_epoch_5_and_seq_2(
    engine: Engine, epoch: int, seq: int, verdict: object, details: tuple[int | None, ...]
) -> None:
    engine.done(Create(A))
    for number in range(3):
        engine.done(Append(A, [b"x"], producer=Producer("p", 5, number)))
    outcome = engine.do(Append(A, [b"x"], producer=Producer("p", epoch, seq)))
    if isinstance(outcome, Rejection):
        assert outcome.reason is verdict
        got = (outcome.producer_epoch, outcome.producer_expected_seq, outcome.producer_received_seq)
        assert got == details
        assert outcome.tail == 3
    else:
        assert isinstance(outcome, Appended)
        assert outcome.duplicate == (verdict == "duplicate")
        highest = (5, 2) if outcome.duplicate else (epoch, seq)
        assert (outcome.producer_epoch, outcome.producer_seq) == highest
        assert (outcome.base, outcome.tail) == ((3, 3) if outcome.duplicate else (3, 4))


def test_5_2_1_stale_epoch_is_fenced(engine: Engine) -> None:
    engine.done(Create(A))
    engine.done(Append(A, [b"x"], producer=Producer("p", 0, 0)))
    engine.done(Append(A, [b"x"], producer=Producer("p", 1, 0)))
    refused = engine.refused(Append(A, [b"x"], producer=Producer("p", 0, 1)))
    assert (refused.reason, refused.producer_epoch) == (Reason.PRODUCER_FENCED, 1)


@pytest.mark.parametrize(("epoch", "seq", "fits"), [(0, 0, True), (7, 0, True), (0, 1, False)])
def test_5_2_1_an_unknown_producer_starts_at_seq_0_in_any_epoch(
    engine: Engine, epoch: int, seq: int, fits: bool
) -> None:
    engine.done(Create(A))
    outcome = engine.do(Append(A, [b"x"], producer=Producer("new", epoch, seq)))
    assert isinstance(outcome, Appended) == fits
    if isinstance(outcome, Rejection):
        assert (outcome.reason, outcome.producer_expected_seq) == (Reason.PRODUCER_GAP, 0)


def test_5_2_1_a_refused_append_does_not_advance_the_producer(engine: Engine) -> None:
    engine.done(Create(A, TEXT))
    engine.done(Append(A, [b"x"], producer=Producer("p", 0, 0), stream_seq="b"))
    second = Producer("p", 0, 1)
    engine.refused(Append(A, [b"x"], producer=second, stream_seq="a"))
    engine.refused(Append(A, [b"x"], producer=second, expected_ordinal=9))
    engine.refused(Append(A, [b"x"], producer=second, content_type="text/html"))
    assert not engine.done(Append(A, [b"x"], producer=second)).duplicate


def test_5_2_1_a_retry_is_a_duplicate_before_stream_seq_is_looked_at(engine: Engine) -> None:
    made = engine.done(Create(A)).stream_id
    append = Append(
        A, [b"x"], producer=Producer("p", 0, 0), stream_seq="a", expected_ordinal=0,
        expected_stream_id=made,
    )  # fmt: skip
    engine.done(append)
    assert engine.done(append).duplicate


def test_5_2_1_producers_and_streams_do_not_mix(engine: Engine) -> None:
    for key in (A, B):
        engine.done(Create(key))
        for name in ("p", "q"):
            assert not engine.done(Append(key, [b"x"], producer=Producer(name, 0, 0))).duplicate


def test_5_2_1_producers_of_a_stream_are_bounded(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PRODUCERS_PER_STREAM_MAX", 2)
    engine.done(Create(A))
    for name in ("p", "q"):
        engine.done(Append(A, [b"x"], producer=Producer(name, 0, 0)))
    refused = Append(A, [b"x"], producer=Producer("r", 0, 0))
    assert engine.reason(refused) is Reason.PRODUCERS_TOO_MANY
    engine.done(Append(A, [b"x"], producer=Producer("p", 0, 1)))


@pytest.mark.parametrize(
    "producer",
    [Producer("", 0, 0), Producer("p", -1, 0), Producer("p", 0, -1), Producer("p", 2**53, 0),
     Producer("p", 0, 2**53), Producer("x" * 257, 0, 0), Producer("\ud800", 0, 0)],
)  # fmt: skip
def test_5_2_1_malformed_producers_are_invalid(engine: Engine, producer: Producer) -> None:
    engine.done(Create(A))
    with pytest.raises(InvalidArgument):
        engine.do(Append(A, [b"x"], producer=producer))
