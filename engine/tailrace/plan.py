"""What a decision is made of: the values and helpers that the ``decide`` modules share."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple

from tailrace import limits
from tailrace.batch import Batch, Kind, TooLong, join_records, padded_bytes
from tailrace.catalog import Catalog
from tailrace.errors import InvalidArgument
from tailrace.fields import Tag, encode_fields
from tailrace.operation import Records, StreamKey, StreamOptions
from tailrace.outcome import Outcome, Reason, Rejection
from tailrace.stream import StreamState, is_expired

_EMPTY_TABLE: Final = array("I")


class Partial(NamedTuple):
    """The source record that a fork's byte sub-offset cuts.

    Read before the decision, which does no I/O (protocol section 4.2).
    """

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


def live_stream(catalog: Catalog, key: StreamKey, now_ms: int) -> StreamState | Rejection:
    """The stream a client may see under ``key``, or why there is none."""
    state = catalog.find(key)
    if state is None or is_expired(state, now_ms):
        return Rejection(Reason.STREAM_NOT_FOUND, f"stream {key} does not exist")
    if state.deleted:
        return gone(key)
    return state


def gone(key: StreamKey) -> Rejection:
    """The answer for a stream that is soft-deleted (protocol section 4.2)."""
    return Rejection(Reason.STREAM_GONE, f"stream {key} was deleted; forks still hold its data")


def no_bucket(bucket: str) -> Rejection:
    return Rejection(Reason.BUCKET_NOT_FOUND, f"bucket {bucket} does not exist; create it first")


def create_fields(
    key: StreamKey,
    content_type: str,
    options: StreamOptions,
    fork: tuple[int, int, int] | None = None,
    expiry_inherited: bool = False,
    stream_seq: str | None = None,
    producer_id: str | None = None,
) -> bytes:
    """The fields of a CREATE batch. ``fork``: source id, fork ordinal and sub-offset."""
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


def join(
    records: Records,
    base: int,
    created_at_ms: int,
    is_json: bool,
    context: Context,
    prefix: Sequence[bytes] = (),
) -> tuple[array[int], bytes] | Rejection:
    """``(ends, payload)`` of ``prefix`` and records from ordinal ``base`` on; or: too large."""
    made: Sequence[bytes] = records(base, created_at_ms) if callable(records) else records
    try:
        made = (*prefix, *made)
        return join_records(made, is_json, context.batch_bytes_max)
    except TooLong as error:
        return _too_large(len(made), error.length, context)
    except TypeError as error:
        raise InvalidArgument("records", f"must be a sequence of bytes: {error}") from error


def too_large(
    record_count: int, fields_length: int, payload_length: int, context: Context
) -> Rejection | None:
    """The refusal of a batch with parts of these lengths (bytes); None if it fits."""
    length = padded_bytes(record_count, fields_length, payload_length)
    if length <= context.batch_bytes_max and record_count <= limits.BATCH_RECORDS_MAX:
        return None
    return _too_large(record_count, fields_length + payload_length, context)


def _too_large(record_count: int, length: int, context: Context) -> Rejection:
    return Rejection(
        Reason.TOO_LARGE,
        f"{record_count} records and {length} bytes are more than one batch may hold "
        f"({context.batch_bytes_max} bytes, {limits.BATCH_RECORDS_MAX} records)",
    )


def make_batch(
    kind: Kind,
    flags: int,
    created_at_ms: int,
    fields: bytes,
    stream_id: int = 0,
    base: int = 0,
    ends: array[int] = _EMPTY_TABLE,
    payload: bytes = b"",
) -> Batch:
    """A batch whose position, watermark and producer are not known yet, or there is none."""
    return Batch(
        kind=int(kind),
        flags=flags,
        position=0,
        watermark=0,
        stream_id=stream_id,
        base_ordinal=base,
        created_at_ms=created_at_ms,
        producer_epoch=0,
        producer_seq=0,
        ends=ends,
        fields=fields,
        payload=payload,
    )
