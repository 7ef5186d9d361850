"""What an append to a stream of the model must be answered (sections 5.2, 5.2.1, 5.3)."""

from __future__ import annotations

from tailrace.operation import Append, Producer
from tailrace.outcome import Reason, Rejection
from tests.engine.model_stream import ModelStream, no, plain_type


def may_append(
    stream: ModelStream, operation: Append, *, has_records: bool, created: bool
) -> Rejection | str:
    """``"accept"``, ``"duplicate"`` or why not, in the order of 5.2's error precedence."""
    producer = operation.producer
    if stream.closed:
        if producer is not None and producer == stream.closed_by:
            return "duplicate"
        if producer is None and operation.close and not has_records:
            return "duplicate"  # closing what is closed
        return no(Reason.STREAM_CLOSED, stream)
    empty = not has_records and not operation.close
    if empty and not created:
        return no(Reason.EMPTY_APPEND, stream)
    wanted = operation.content_type
    if has_records and wanted is not None and plain_type(wanted) != plain_type(stream.content_type):
        return no(Reason.CONTENT_TYPE_MISMATCH, stream)
    if producer is not None:
        verdict = _producer(stream, producer)
        if verdict != "accept":
            return verdict
    seq, last = operation.stream_seq, stream.stream_seq
    if seq is not None and last is not None and seq.encode("utf-8") <= last:
        return no(Reason.STREAM_SEQ_REGRESSED, stream)
    expected, incarnation = operation.expected_ordinal, operation.expected_stream_id
    if incarnation is not None and incarnation != stream.stream_id:
        return no(Reason.PRECONDITION_FAILED, stream)
    if expected is not None and expected != stream.tail:
        reason = Reason.EXPECTED_ORDINAL_MISMATCH
        return no(reason if incarnation is None else Reason.PRECONDITION_FAILED, stream)
    if empty:
        return no(Reason.EMPTY_APPEND)
    return "accept"


def _producer(stream: ModelStream, producer: Producer) -> Rejection | str:
    """Section 5.2.1, validation logic."""
    state = stream.producers.get(producer.id)
    if state is None:
        if producer.seq != 0:
            return no(Reason.PRODUCER_GAP, stream, expected=0, received=producer.seq)
        return "accept"
    epoch, last = state
    if producer.epoch < epoch:
        return no(Reason.PRODUCER_FENCED, stream, epoch=epoch)
    if producer.epoch > epoch:
        if producer.seq != 0:
            return no(Reason.PRODUCER_EPOCH_START, stream)
        return "accept"
    if producer.seq <= last:
        return "duplicate"
    if producer.seq > last + 1:
        return no(Reason.PRODUCER_GAP, stream, expected=last + 1, received=producer.seq)
    return "accept"
