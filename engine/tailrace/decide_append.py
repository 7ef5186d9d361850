"""The rules of appending and closing (protocol sections 5.2, 5.2.1 and 5.3).

The order of the checks is the protocol's: existence, closed, content type, producer,
``Stream-Seq``. The expected incarnation and offset come last, so that a producer's repetition is
recognized as one and never fails on its own success.
"""

from __future__ import annotations

from array import array

from tailrace import limits
from tailrace.batch import APPEND, Batch, Flag, Kind
from tailrace.catalog import Catalog
from tailrace.fields import Tag, encode_fields
from tailrace.offset import encode_offset
from tailrace.operation import Append, StreamKey, StreamOptions
from tailrace.outcome import Appended, Outcome, Reason, Rejection
from tailrace.plan import (
    Context,
    Decision,
    Plan,
    create_fields,
    gone,
    join,
    make_batch,
    no_bucket,
    too_large,
)
from tailrace.producer import Duplicate, ProducerState, Refused, judge
from tailrace.stream import (
    DEFAULT_CONTENT_TYPE,
    StreamState,
    is_expired,
    is_json_type,
    media_type,
)


def decide_append(catalog: Catalog, operation: Append, context: Context) -> Decision:
    """Append to the stream; make it first if it is missing and the operation says how."""
    state = catalog.find(operation.key)
    if state is None or is_expired(state, context.now_ms):
        if operation.create is None:
            return Rejection(Reason.STREAM_NOT_FOUND, f"stream {operation.key} does not exist")
        return _append_new(catalog, operation, operation.create, context)
    if state.deleted:
        return gone(operation.key)
    return _append_to(state, operation, context)


def _append_to(state: StreamState, operation: Append, context: Context) -> Decision:
    config = state.config
    producer = operation.producer
    if state.closed:
        return _append_to_closed(state, operation)
    has_records = callable(operation.records) or len(operation.records) > 0
    if not has_records and not operation.close:
        return _empty(operation.key)
    if (
        operation.content_type is not None
        and has_records
        and media_type(operation.content_type) != media_type(config.content_type)
    ):
        return Rejection(
            Reason.CONTENT_TYPE_MISMATCH,
            f"content type {operation.content_type} is not the stream's {config.content_type}",
            tail=state.tail,
        )
    if producer is not None:
        verdict = judge(state.producers.get(producer.id), producer)
        if isinstance(verdict, Duplicate):
            return _duplicate(state, verdict.state)
        if isinstance(verdict, Refused):
            return _refused(state, operation, verdict)
        if (
            producer.id not in state.producers
            and len(state.producers) >= limits.PRODUCERS_PER_STREAM_MAX
        ):
            return Rejection(
                Reason.PRODUCERS_TOO_MANY,
                f"stream {operation.key} has {len(state.producers)} producers, the most it can",
                tail=state.tail,
            )
    if (refusal := _check_order(state, operation)) is not None:
        return refusal
    created_at_ms = max(context.now_ms, state.last_write_ms)
    joined = join(operation.records, state.tail, created_at_ms, config.is_json, context)
    if isinstance(joined, Rejection):
        return joined
    ends, payload = joined
    if not ends and not operation.close:
        return _empty(operation.key)
    return _appended(state, operation, context, created_at_ms, ends, payload)


def _appended(
    state: StreamState,
    operation: Append,
    context: Context,
    created_at_ms: int,
    ends: array[int],
    payload: bytes,
) -> Decision:
    config = state.config
    producer, stream_seq = operation.producer, operation.stream_seq
    flags = Flag.JSON if config.is_json else 0
    if operation.close:
        flags |= Flag.CLOSES
    fields, epoch, seq = b"", 0, 0
    if producer is not None:
        flags |= Flag.PRODUCER
        epoch, seq = producer.epoch, producer.seq
    if producer is not None or stream_seq is not None:
        producer_id = None if producer is None else producer.id
        fields = encode_fields([(Tag.PRODUCER_ID, producer_id), (Tag.STREAM_SEQ, stream_seq)])
    if (refusal := too_large(len(ends), len(fields), len(payload), context)) is not None:
        return refusal
    base = state.tail
    batch = Batch(
        APPEND,
        flags,
        0,
        0,
        config.stream_id,
        base,
        created_at_ms,
        epoch,
        seq,
        ends,
        fields,
        payload,
    )
    return Plan(
        batch,
        Appended(
            config.stream_id,
            base,
            base + len(ends),
            operation.close,
            False,
            False,
            created_at_ms,
            None if producer is None else epoch,
            None if producer is None else seq,
        ),
    )


def _append_new(
    catalog: Catalog, operation: Append, options: StreamOptions, context: Context
) -> Decision:
    """The first append creates the stream, in one batch with its records."""
    key, producer = operation.key, operation.producer
    if key.bucket not in catalog.buckets:
        return no_bucket(key.bucket)
    content_type = options.content_type or DEFAULT_CONTENT_TYPE
    offered = operation.content_type
    has_records = callable(operation.records) or len(operation.records) > 0
    if has_records and offered is not None and media_type(offered) != media_type(content_type):
        return Rejection(
            Reason.CONTENT_TYPE_MISMATCH, f"content type {offered} is not {content_type}", tail=0
        )
    if producer is not None and producer.seq != 0:
        verdict = judge(None, producer)
        assert isinstance(verdict, Refused)
        return Rejection(
            verdict.reason,
            verdict.message,
            producer_expected_seq=verdict.expected_seq,
            producer_received_seq=producer.seq,
        )
    if operation.expected_stream_id is not None:
        return _precondition_failed(key, 0)
    if operation.expected_ordinal not in (None, 0):
        return Rejection(
            Reason.EXPECTED_ORDINAL_MISMATCH, f"stream {key} does not exist yet", tail=0
        )
    is_json = is_json_type(content_type)
    joined = join(operation.records, 0, context.now_ms, is_json, context)
    if isinstance(joined, Rejection):
        return joined
    ends, payload = joined
    if not ends and not operation.close:
        return _empty(key)
    fields = create_fields(
        key,
        content_type,
        options,
        stream_seq=operation.stream_seq,
        producer_id=None if producer is None else producer.id,
    )
    if (refusal := too_large(len(ends), len(fields), len(payload), context)) is not None:
        return refusal
    flags = (Flag.JSON if is_json else 0) | (Flag.CLOSES if operation.close else 0)
    epoch, seq = 0, 0
    if producer is not None:
        flags |= Flag.PRODUCER
        epoch, seq = producer.epoch, producer.seq
    stream_id = catalog.next_stream_id
    batch = make_batch(Kind.CREATE, flags, context.now_ms, fields, stream_id, 0, ends, payload)
    batch = batch._replace(producer_epoch=epoch, producer_seq=seq)
    outcome = Appended(
        stream_id,
        0,
        len(ends),
        operation.close,
        False,
        True,
        context.now_ms,
        None if producer is None else epoch,
        None if producer is None else seq,
    )
    return Plan(batch, outcome)


def _append_to_closed(state: StreamState, operation: Append) -> Outcome:
    """Only a repetition of what closed the stream is accepted (protocol sections 5.2, 5.2.1)."""
    producer = operation.producer
    if producer is not None:
        if producer == state.closed_by:
            return _duplicate(state, ProducerState(producer.epoch, producer.seq))
    elif operation.close and not callable(operation.records) and not operation.records:
        return _duplicate(state, None)
    return Rejection(
        Reason.STREAM_CLOSED,
        f"stream {operation.key} is closed; nothing can be appended to it",
        tail=state.tail,
        closed=True,
    )


def _duplicate(state: StreamState, producer: ProducerState | None) -> Appended:
    return Appended(
        state.config.stream_id,
        state.tail,
        state.tail,
        state.closed,
        True,
        False,
        state.last_write_ms,
        None if producer is None else producer.epoch,
        None if producer is None else producer.seq,
    )


def _refused(state: StreamState, operation: Append, verdict: Refused) -> Rejection:
    producer = operation.producer
    assert producer is not None
    return Rejection(
        verdict.reason,
        verdict.message,
        tail=state.tail,
        producer_epoch=verdict.epoch,
        producer_expected_seq=verdict.expected_seq,
        producer_received_seq=producer.seq if verdict.expected_seq is not None else None,
    )


def _check_order(state: StreamState, operation: Append) -> Rejection | None:
    seq = operation.stream_seq
    # Code point order is the byte order of UTF-8, which section 5.2 asks for.
    if seq is not None and state.stream_seq is not None and seq <= state.stream_seq:
        return Rejection(
            Reason.STREAM_SEQ_REGRESSED,
            f"stream sequence {seq!r} is not greater than {state.stream_seq!r}",
            tail=state.tail,
        )
    expected, expected_id = operation.expected_ordinal, operation.expected_stream_id
    if expected_id is not None and (
        expected_id != state.config.stream_id or expected not in (None, state.tail)
    ):
        return _precondition_failed(operation.key, state.tail)
    if expected is not None and expected != state.tail:
        return Rejection(
            Reason.EXPECTED_ORDINAL_MISMATCH,
            f"the tail of stream {operation.key} is at {encode_offset(state.tail)}, not at the "
            f"expected {encode_offset(expected)}",
            tail=state.tail,
        )
    return None


def _precondition_failed(key: StreamKey, tail: int) -> Rejection:
    return Rejection(
        Reason.PRECONDITION_FAILED,
        f"stream {key} is not as expected: it was appended to, or made again, since then",
        tail=tail,
    )


def _empty(key: StreamKey) -> Rejection:
    return Rejection(Reason.EMPTY_APPEND, f"nothing to append to stream {key}")
