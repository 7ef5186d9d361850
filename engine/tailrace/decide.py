"""``decide(catalog, operation) → plan | outcome``: every rule of the data model, without effects.

Operations come validated (:func:`tailrace.validate.operation`).

The order of the checks is the protocol's (sections 4.2, 5.1, 5.2, 5.2.1): existence,
closed, content type, producer, ``Stream-Seq``, expected offset.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from tailrace import limits
from tailrace.batch import Batch, Flag, Kind, join_records, padded_bytes
from tailrace.catalog import Catalog
from tailrace.fields import Tag, encode_fields
from tailrace.operation import (
    Append,
    Create,
    CreateBucket,
    Delete,
    DeleteBucket,
    Expire,
    ForkPoint,
    Operation,
    Records,
    SetMetadata,
    StreamKey,
    StreamOptions,
    Touch,
    Trim,
)
from tailrace.outcome import (
    Appended,
    BucketDone,
    Created,
    Deleted,
    Outcome,
    Reason,
    Rejection,
    Updated,
)
from tailrace.producer import Duplicate, ProducerState, Refused, judge
from tailrace.stream import (
    DEFAULT_CONTENT_TYPE,
    StreamState,
    is_expired,
    is_json_type,
    media_type,
    needs_touch,
)

_EMPTY_TABLE = array("I")


class Partial(NamedTuple):
    """The source record that a byte sub-offset cuts, read before the decision."""

    source_id: int
    ordinal: int
    record: bytes


class Plan(NamedTuple):
    """A batch to stage (its position and watermark still zero) and what to answer for it."""

    batch: Batch
    outcome: Outcome


Decision = Plan | Outcome


class Context(NamedTuple):
    """What a decision depends on besides the catalog."""

    now_ms: int
    batch_bytes_max: int
    partial: Partial | None = None


def decide(catalog: Catalog, operation: Operation, context: Context) -> Decision:
    """What ``operation`` comes to in ``catalog``. Changes nothing."""
    if isinstance(operation, Append):
        return _append(catalog, operation, context)
    if isinstance(operation, Create):
        return _create(catalog, operation, context)
    if isinstance(operation, Delete):
        return _delete(catalog, operation, context)
    if isinstance(operation, Expire):
        return _expire(catalog, operation, context)
    if isinstance(operation, Touch):
        return _touch(catalog, operation, context)
    if isinstance(operation, SetMetadata):
        return _set_metadata(catalog, operation, context)
    if isinstance(operation, Trim):
        return _trim(catalog, operation, context)
    if isinstance(operation, CreateBucket):
        return _create_bucket(catalog, operation, context)
    return _delete_bucket(catalog, operation, context)


def live_stream(catalog: Catalog, key: StreamKey, now_ms: int) -> StreamState | Rejection:
    """The stream a client may see under ``key``, or why there is none."""
    state = catalog.find(key)
    if state is None or is_expired(state, now_ms):
        return Rejection(Reason.STREAM_NOT_FOUND, f"stream {key} does not exist")
    if state.deleted:
        return Rejection(Reason.STREAM_GONE, f"stream {key} was deleted; forks still hold its data")
    return state


# --- buckets


def _create_bucket(catalog: Catalog, operation: CreateBucket, context: Context) -> Decision:
    bucket = operation.bucket
    if bucket in catalog.buckets:
        return Rejection(Reason.BUCKET_EXISTS, f"bucket {bucket} exists")
    fields = encode_fields([(Tag.BUCKET, bucket)])
    return Plan(_batch(Kind.CREATE_BUCKET, 0, context.now_ms, fields), BucketDone(bucket))


def _delete_bucket(catalog: Catalog, operation: DeleteBucket, context: Context) -> Decision:
    bucket = operation.bucket
    state = catalog.buckets.get(bucket)
    if state is None:
        return _no_bucket(bucket)
    if state.streams:
        return Rejection(
            Reason.BUCKET_NOT_EMPTY, f"bucket {bucket} still has {state.streams} streams"
        )
    fields = encode_fields([(Tag.BUCKET, bucket)])
    return Plan(_batch(Kind.DELETE_BUCKET, 0, context.now_ms, fields), BucketDone(bucket))


def _no_bucket(bucket: str) -> Rejection:
    return Rejection(Reason.BUCKET_NOT_FOUND, f"bucket {bucket} does not exist; create it first")


# --- create and fork


def _create(catalog: Catalog, operation: Create, context: Context) -> Decision:
    if operation.key.bucket not in catalog.buckets:
        return _no_bucket(operation.key.bucket)
    state = catalog.find(operation.key)
    if state is not None and not is_expired(state, context.now_ms):
        return _confirm(state, operation)
    if operation.fork is not None:
        return _fork(catalog, operation, operation.fork, context)
    return _new_stream(catalog, operation, context)


def _new_stream(catalog: Catalog, operation: Create, context: Context) -> Decision:
    options = operation.options
    content_type = options.content_type or DEFAULT_CONTENT_TYPE
    now_ms = context.now_ms
    ends, payload = _join(operation.records, 0, now_ms, is_json_type(content_type))
    flags = Flag.CLOSES if operation.closed else 0
    fields = _create_fields(operation.key, content_type, options)
    return _created(catalog, flags, 0, context, ends, payload, fields, content_type)


def _created(
    catalog: Catalog,
    flags: int,
    base: int,
    context: Context,
    ends: array[int],
    payload: bytes,
    fields: bytes,
    content_type: str,
) -> Decision:
    if (refusal := _too_large(len(ends), len(fields), len(payload), context)) is not None:
        return refusal
    if is_json_type(content_type):
        flags |= Flag.JSON
    stream_id = catalog.next_stream_id
    batch = _batch(Kind.CREATE, flags, context.now_ms, fields, stream_id, base, ends, payload)
    closed = bool(flags & Flag.CLOSES)
    return Plan(batch, Created(stream_id, base + len(ends), closed, content_type, existed=False))


def _create_fields(
    key: StreamKey,
    content_type: str,
    options: StreamOptions,
    fork: tuple[int, int, int] | None = None,
    expiry_inherited: bool = False,
    stream_seq: str | None = None,
    producer_id: str | None = None,
) -> bytes:
    source_id, fork_ordinal, fork_sub_offset = fork if fork is not None else (None, None, None)
    return encode_fields(
        [
            (Tag.BUCKET, key.bucket),
            (Tag.STREAM, key.stream),
            (Tag.CONTENT_TYPE, content_type),
            (Tag.TTL_MS, options.ttl_ms),
            (Tag.EXPIRES_AT_MS, options.expires_at_ms),
            (Tag.SEARCHABLE, b"" if options.searchable else None),
            (Tag.METADATA, options.metadata or None),
            (Tag.SOURCE_ID, source_id),
            (Tag.FORK_ORDINAL, fork_ordinal),
            (Tag.FORK_SUB_OFFSET, fork_sub_offset),
            (Tag.PRODUCER_ID, producer_id),
            (Tag.STREAM_SEQ, stream_seq),
            (Tag.EXPIRY_INHERITED, b"" if expiry_inherited else None),
        ]
    )


def _confirm(state: StreamState, operation: Create) -> Outcome:
    """PUT on a name in use: the same configuration is confirmed, any other refused."""
    config, options, fork = state.config, operation.options, operation.fork
    if state.deleted:
        return Rejection(
            Reason.STREAM_GONE,
            f"stream {config.key} was deleted; its name is free once its forks are deleted",
        )
    wanted_type = options.content_type or (
        config.content_type if fork is not None else DEFAULT_CONTENT_TYPE
    )
    inherits = config.expiry_inherited and options.ttl_ms is None and options.expires_at_ms is None
    differences = {
        "content type": media_type(wanted_type) != media_type(config.content_type),
        "TTL": not inherits and options.ttl_ms != config.ttl_ms,
        "expiry": not inherits and options.expires_at_ms != config.expires_at_ms,
        "closure": operation.closed != state.closed,
        "fork": not _same_fork(state, fork),
    }
    different = [name for name, differs in differences.items() if differs]
    if different:
        return Rejection(
            Reason.CONFIG_MISMATCH,
            f"stream {config.key} exists with another {' and '.join(different)}",
            tail=state.tail,
            closed=state.closed,
        )
    return Created(config.stream_id, state.tail, state.closed, config.content_type, existed=True)


def _same_fork(state: StreamState, fork: ForkPoint | None) -> bool:
    config = state.config
    if fork is None:
        return config.source_id is None
    return (
        config.source_key == fork.source
        and (fork.ordinal is None or fork.ordinal == config.fork_ordinal)
        and fork.sub_offset == config.fork_sub_offset
    )


def _fork(catalog: Catalog, operation: Create, fork: ForkPoint, context: Context) -> Decision:
    source = catalog.find(fork.source)
    if source is None or is_expired(source, context.now_ms):
        return Rejection(
            Reason.FORK_SOURCE_NOT_FOUND, f"source stream {fork.source} does not exist"
        )
    if source.deleted:
        return Rejection(Reason.FORK_SOURCE_GONE, f"source stream {fork.source} was deleted")
    content_type = operation.options.content_type or source.config.content_type
    if media_type(content_type) != media_type(source.config.content_type):
        return Rejection(
            Reason.CONTENT_TYPE_MISMATCH,
            f"content type {content_type} is not the source's {source.config.content_type}",
        )
    if _depth(catalog, source) >= limits.FORK_DEPTH_MAX:
        return Rejection(Reason.FORK_TOO_DEEP, f"forks nest at most {limits.FORK_DEPTH_MAX} deep")
    point = _fork_point(source, fork, context)
    if isinstance(point, Rejection):
        return point
    ordinal, base, prefix = point
    is_json = source.config.is_json
    own = operation.records
    own = own(base + len(prefix), context.now_ms) if callable(own) else own
    ends, payload = join_records([*prefix, *own], is_json)
    options, inherited = _fork_expiry(operation.options, source)
    origin = (source.config.stream_id, ordinal, fork.sub_offset)
    fields = _create_fields(operation.key, source.config.content_type, options, origin, inherited)
    flags = Flag.CLOSES if operation.closed else 0
    return _created(
        catalog, flags, base, context, ends, payload, fields, source.config.content_type
    )


def _depth(catalog: Catalog, state: StreamState) -> int:
    depth = 1
    while state.config.source_id is not None:
        state = catalog.streams[state.config.source_id]
        depth += 1
    return depth


def _fork_point(
    source: StreamState, fork: ForkPoint, context: Context
) -> tuple[int, int, list[bytes]] | Rejection:
    """``(fork ordinal, first own ordinal, records to copy)`` (protocol section 4.2)."""
    ordinal = source.tail if fork.ordinal is None else fork.ordinal
    if ordinal > source.tail:
        return Rejection(
            Reason.FORK_BEYOND_TAIL,
            f"fork offset {ordinal} is beyond the source's tail {source.tail}",
        )
    if ordinal < source.start:
        return Rejection(Reason.TRIMMED, f"fork offset {ordinal} is before the retained start")
    if fork.sub_offset == 0:
        return ordinal, ordinal, []
    beyond = Rejection(
        Reason.FORK_SUB_OFFSET, f"sub-offset {fork.sub_offset} goes past the next data boundary"
    )
    if source.config.is_json:
        base = ordinal + fork.sub_offset
        return beyond if base > source.tail else (ordinal, base, [])
    partial = context.partial
    if partial is None or (partial.source_id, partial.ordinal) != (
        source.config.stream_id,
        ordinal,
    ):
        return beyond
    if fork.sub_offset > len(partial.record):
        return beyond
    if fork.sub_offset == len(partial.record):
        return ordinal, ordinal + 1, []
    return ordinal, ordinal, [partial.record[: fork.sub_offset]]


def _fork_expiry(options: StreamOptions, source: StreamState) -> tuple[StreamOptions, bool]:
    """The fork's expiry by the table of protocol section 4.2, and whether it was inherited."""
    if options.ttl_ms is not None or options.expires_at_ms is not None:
        return options, False
    inherited = StreamOptions(
        content_type=options.content_type,
        ttl_ms=source.config.ttl_ms,
        expires_at_ms=source.config.expires_at_ms,
        searchable=options.searchable,
        metadata=options.metadata,
    )
    return inherited, True


# --- append and close


def _append(catalog: Catalog, operation: Append, context: Context) -> Decision:
    state = catalog.find(operation.key)
    if state is None or is_expired(state, context.now_ms):
        if operation.create is None:
            return Rejection(Reason.STREAM_NOT_FOUND, f"stream {operation.key} does not exist")
        return _append_new(catalog, operation, operation.create, context)
    if state.deleted:
        return Rejection(
            Reason.STREAM_GONE, f"stream {operation.key} was deleted; forks still hold its data"
        )
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
    ends, payload = _join(operation.records, state.tail, created_at_ms, config.is_json)
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
    if (refusal := _too_large(len(ends), len(fields), len(payload), context)) is not None:
        return refusal
    base = state.tail
    batch = Batch(
        1,  # Kind.APPEND, whose enum lookup the hot path spares
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
        return _no_bucket(key.bucket)
    content_type = options.content_type or DEFAULT_CONTENT_TYPE
    offered = operation.content_type
    if offered is not None and media_type(offered) != media_type(content_type):
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
    if operation.expected_ordinal not in (None, 0):
        return Rejection(
            Reason.EXPECTED_ORDINAL_MISMATCH, f"stream {key} does not exist yet", tail=0
        )
    is_json = is_json_type(content_type)
    ends, payload = _join(operation.records, 0, context.now_ms, is_json)
    if not ends and not operation.close:
        return _empty(key)
    fields = _create_fields(
        key,
        content_type,
        options,
        stream_seq=operation.stream_seq,
        producer_id=None if producer is None else producer.id,
    )
    if (refusal := _too_large(len(ends), len(fields), len(payload), context)) is not None:
        return refusal
    flags = (Flag.JSON if is_json else 0) | (Flag.CLOSES if operation.close else 0)
    epoch, seq = 0, 0
    if producer is not None:
        flags |= Flag.PRODUCER
        epoch, seq = producer.epoch, producer.seq
    stream_id = catalog.next_stream_id
    batch = _batch(Kind.CREATE, flags, context.now_ms, fields, stream_id, 0, ends, payload)
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
    """Only what closed the stream may be said again (protocol sections 5.2, 5.2.1)."""
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
    expected = operation.expected_ordinal
    if expected is not None and expected != state.tail:
        return Rejection(
            Reason.EXPECTED_ORDINAL_MISMATCH,
            f"the tail of stream {operation.key} is not at the expected offset",
            tail=state.tail,
        )
    return None


def _empty(key: StreamKey) -> Rejection:
    return Rejection(Reason.EMPTY_APPEND, f"nothing to append to stream {key}")


# --- delete, touch, metadata, trim


def _delete(catalog: Catalog, operation: Delete, context: Context) -> Decision:
    state = live_stream(catalog, operation.key, context.now_ms)
    if isinstance(state, Rejection):
        return state
    stream_id = state.config.stream_id
    batch = _batch(Kind.DELETE, 0, context.now_ms, b"", stream_id)
    return Plan(batch, Deleted(stream_id, soft=state.forks > 0))


def _expire(catalog: Catalog, operation: Expire, context: Context) -> Decision:
    state = catalog.find(operation.key)
    if state is None or not is_expired(state, context.now_ms):
        return Rejection(Reason.STREAM_NOT_FOUND, f"stream {operation.key} has not expired")
    stream_id = state.config.stream_id
    batch = _batch(Kind.EXPIRE, 0, context.now_ms, b"", stream_id)
    return Plan(batch, Deleted(stream_id, soft=state.forks > 0))


def _touch(catalog: Catalog, operation: Touch, context: Context) -> Decision:
    state = live_stream(catalog, operation.key, context.now_ms)
    if isinstance(state, Rejection):
        return state
    outcome = Updated(state.config.stream_id, state.tail)
    if not needs_touch(state, context.now_ms):
        return outcome
    return Plan(_batch(Kind.TOUCH, 0, context.now_ms, b"", state.config.stream_id), outcome)


def _set_metadata(catalog: Catalog, operation: SetMetadata, context: Context) -> Decision:
    state = live_stream(catalog, operation.key, context.now_ms)
    if isinstance(state, Rejection):
        return state
    fields = encode_fields([(Tag.METADATA, operation.metadata)])
    batch = _batch(Kind.METADATA, 0, context.now_ms, fields, state.config.stream_id)
    return Plan(batch, Updated(state.config.stream_id, state.tail))


def _trim(catalog: Catalog, operation: Trim, context: Context) -> Decision:
    state = live_stream(catalog, operation.key, context.now_ms)
    if isinstance(state, Rejection):
        return state
    if operation.ordinal > state.tail:
        return Rejection(
            Reason.TRIM_BEYOND_TAIL,
            f"retention to {operation.ordinal} is beyond the tail {state.tail}",
            tail=state.tail,
        )
    outcome = Updated(state.config.stream_id, state.tail)
    if operation.ordinal <= state.start:
        return outcome
    fields = encode_fields([(Tag.START, operation.ordinal)])
    batch = _batch(Kind.TRIM, 0, context.now_ms, fields, state.config.stream_id)
    return Plan(batch, outcome)


# --- shared


def _join(
    records: Records, base: int, created_at_ms: int, is_json: bool
) -> tuple[array[int], bytes]:
    made: Sequence[bytes] = records(base, created_at_ms) if callable(records) else records
    return join_records(made, is_json)


def _too_large(
    record_count: int, fields_length: int, payload_length: int, context: Context
) -> Rejection | None:
    length = padded_bytes(record_count, fields_length, payload_length)
    if length <= context.batch_bytes_max and record_count <= limits.BATCH_RECORDS_MAX:
        return None
    return Rejection(
        Reason.TOO_LARGE,
        f"{record_count} records of {payload_length} bytes are more than one append may hold "
        f"({context.batch_bytes_max} bytes, {limits.BATCH_RECORDS_MAX} records)",
    )


def _batch(
    kind: Kind,
    flags: int,
    created_at_ms: int,
    fields: bytes,
    stream_id: int = 0,
    base: int = 0,
    ends: array[int] = _EMPTY_TABLE,
    payload: bytes = b"",
) -> Batch:
    return Batch(
        int(kind),
        flags,
        0,
        0,
        stream_id,
        base,
        created_at_ms,
        0,
        0,
        ends,
        fields,
        payload,
    )
