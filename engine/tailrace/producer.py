"""Idempotent producers (protocol section 5.2.1), as a pure function of their state."""

from __future__ import annotations

from typing import NamedTuple

from tailrace.operation import Producer
from tailrace.outcome import Reason


class ProducerState(NamedTuple):
    """The newest epoch of a producer on one stream, and the last sequence number in it."""

    epoch: int
    seq: int


class Accepted(NamedTuple):
    """New data."""


class Duplicate(NamedTuple):
    """Seen before; ``state`` is what the stream knows of the producer."""

    state: ProducerState


class Refused(NamedTuple):
    """Neither new nor seen. ``expected_seq`` is set for a gap, ``epoch`` for a stale epoch."""

    reason: Reason
    message: str
    epoch: int | None = None
    expected_seq: int | None = None


Verdict = Accepted | Duplicate | Refused

ACCEPTED = Accepted()


def judge(state: ProducerState | None, producer: Producer) -> Verdict:
    """What a stream with ``state`` of this producer says to its next request."""
    if state is None:
        if producer.seq == 0:
            return ACCEPTED
        return _gap(0, producer)
    if producer.epoch < state.epoch:
        return Refused(
            Reason.PRODUCER_FENCED,
            f"producer epoch {producer.epoch} is older than the current epoch {state.epoch}",
            epoch=state.epoch,
        )
    if producer.epoch > state.epoch:
        if producer.seq == 0:
            return ACCEPTED
        return Refused(
            Reason.PRODUCER_EPOCH_START,
            f"a new producer epoch must start at sequence 0, not {producer.seq}",
        )
    if producer.seq <= state.seq:
        return Duplicate(state)
    if producer.seq == state.seq + 1:
        return ACCEPTED
    return _gap(state.seq + 1, producer)


def _gap(expected_seq: int, producer: Producer) -> Refused:
    return Refused(
        Reason.PRODUCER_GAP,
        f"producer sequence {producer.seq} leaves a gap: {expected_seq} was expected",
        expected_seq=expected_seq,
    )
