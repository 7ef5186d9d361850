"""The rules that names, numbers and options must keep, whoever sends them.

Each raises :class:`tailrace.errors.InvalidArgument`, which names the field.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Collection, Iterable, Sequence
from typing import Final

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
    PutSnapshot,
    Records,
    SetMetadata,
    Snapshot,
    StreamKey,
    StreamOptions,
    Touch,
    Trim,
)
from tailrace.rows import Rows

_BUCKET: Final = re.compile(limits.BUCKET_PATTERN)
_CONTENT_TYPE: Final = re.compile(
    r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*(;[\x20-\x7e\t]*)?"
)


def read_bounds(
    first: int, max_bytes: int, stop: int | None = None, max_records: int | None = None
) -> None:
    if not isinstance(max_bytes, int) or not 0 < max_bytes <= limits.READ_BYTES_MAX:
        raise InvalidArgument("max_bytes", f"must be from 1 to {limits.READ_BYTES_MAX}")
    not_negative("ordinal", first)
    if stop is not None:
        not_negative("stop", stop)
    if max_records is not None:
        not_negative("max_records", max_records)


def not_negative(field: str, value: int) -> None:
    """An integer, however large."""
    if not isinstance(value, int) or value < 0:
        raise InvalidArgument(field, "must be an integer, and not negative")


def page(field: str, value: int, maximum: int) -> None:
    """How many are wanted at most."""
    if not isinstance(value, int) or not 0 < value <= maximum:
        raise InvalidArgument(field, f"must be from 1 to {maximum}")


def time_range(from_ms: int | None, until_ms: int | None) -> None:
    for field, value in (("created_from_ms", from_ms), ("created_until_ms", until_ms)):
        if value is not None and not isinstance(value, int):
            raise InvalidArgument(field, "must be an integer: milliseconds since the Unix epoch")


def words(field: str, values: Collection[str]) -> None:
    if not isinstance(values, Iterable) or not all(isinstance(value, str) for value in values):
        raise InvalidArgument(field, "must be strings")


def sequence(field: str, values: object) -> None:
    if not isinstance(values, list | tuple) and not isinstance(values, Sequence):
        raise InvalidArgument(field, "must be a sequence")


def seconds(field: str, value: float) -> float:
    """A time to wait, cut to what there can be. What is below zero is none."""
    if not isinstance(value, int | float) or value != value:  # NaN is not itself
        raise InvalidArgument(field, "must be a number of seconds")
    return min(max(0.0, value), limits.SECONDS_MAX)


def named(value: StreamKey | tuple[str, str]) -> StreamKey:
    """``value`` as a key, be there such a name or not."""
    if isinstance(value, tuple | list) and len(value) == 2:
        bucket, stream = value
        if isinstance(bucket, str) and isinstance(stream, str):
            return StreamKey(bucket, stream)
    raise InvalidArgument("key", "must be two strings: a bucket, and a stream's name")


def bucket(value: str) -> None:
    if not isinstance(value, str) or not _BUCKET.fullmatch(value):
        raise InvalidArgument("bucket", f"must match {limits.BUCKET_PATTERN}")


def key(value: StreamKey) -> None:
    value = named(value)
    bucket(value.bucket)
    text("stream", value.stream, limits.STREAM_NAME_BYTES_MAX)
    if "\0" in value.stream:
        raise InvalidArgument("stream", "must not hold a NUL")


def text(field: str, value: str, bytes_max: int) -> None:
    """Not empty, encodable as UTF-8, at most ``bytes_max`` bytes of it."""
    if not isinstance(value, str) or not value:
        raise InvalidArgument(field, "must be a string that is not empty")
    try:
        length = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidArgument(field, "is not valid Unicode") from None
    if length > bytes_max:
        raise InvalidArgument(field, f"must be at most {bytes_max} bytes of UTF-8, not {length}")


def ordinal(field: str, value: int) -> None:
    number(field, value, limits.ORDINAL_MAX)


def number(field: str, value: int, maximum: int) -> None:
    if not isinstance(value, int) or not 0 <= value <= maximum:
        raise InvalidArgument(field, f"must be an integer from 0 to {maximum}")


def content_type(value: str) -> None:
    text("content_type", value, limits.CONTENT_TYPE_BYTES_MAX)
    if not _CONTENT_TYPE.fullmatch(value):
        raise InvalidArgument("content_type", f"{value!r} is not a media type")


def metadata(value: bytes) -> None:
    if not isinstance(value, bytes):
        raise InvalidArgument("metadata", "must be bytes")
    if len(value) > limits.METADATA_BYTES_MAX:
        raise InvalidArgument(
            "metadata", f"must be at most {limits.METADATA_BYTES_MAX} bytes, not {len(value)}"
        )


def stream_options(options: StreamOptions) -> None:
    if not isinstance(options, StreamOptions):
        raise InvalidArgument("options", "must be StreamOptions")
    if options.content_type is not None:
        content_type(options.content_type)
    if options.ttl_ms is not None and options.expires_at_ms is not None:
        raise InvalidArgument("ttl_ms", "give a TTL or an expiry time, not both")
    if options.ttl_ms is not None:
        number("ttl_ms", options.ttl_ms, limits.TTL_MS_MAX)
    if options.expires_at_ms is not None:
        number("expires_at_ms", options.expires_at_ms, limits.ORDINAL_MAX)
    metadata(options.metadata)


def producer(value: Producer) -> None:
    if not isinstance(value, Producer):
        raise InvalidArgument("producer", "must be a Producer")
    text("producer_id", value.id, limits.PRODUCER_ID_BYTES_MAX)
    number("producer_epoch", value.epoch, limits.PRODUCER_NUMBER_MAX)
    number("producer_seq", value.seq, limits.PRODUCER_NUMBER_MAX)


def stream_seq(value: str) -> None:
    text("stream_seq", value, limits.STREAM_SEQ_BYTES_MAX)


def records(value: Records) -> None:
    """What holds them; they are looked at one by one when they are joined."""
    if not callable(value) and not isinstance(value, Sequence):
        raise InvalidArgument("records", "must be a sequence of bytes, or make one")


def fork(value: ForkPoint) -> None:
    if not isinstance(value, ForkPoint):
        raise InvalidArgument("fork", "must be a ForkPoint")
    key(value.source)
    if value.ordinal is not None:
        ordinal("fork_ordinal", value.ordinal)
    number("fork_sub_offset", value.sub_offset, limits.ORDINAL_MAX)


def digest(field: str, value: bytes) -> None:
    if not isinstance(value, bytes) or len(value) != limits.DIGEST_BYTES:
        raise InvalidArgument(field, f"must be a SHA-256 digest: {limits.DIGEST_BYTES} bytes")


def snapshot_place(at: int, type_of_content: str, match: bytes | None) -> None:
    """What is known of a snapshot before its bytes are."""
    ordinal("ordinal", at)
    content_type(type_of_content)
    if match is not None:
        digest("match", match)


def snapshot(value: Snapshot, match: bytes | None) -> None:
    snapshot_place(value.ordinal, value.content_type, match)
    digest("digest", value.digest)
    number("length", value.length, limits.ORDINAL_MAX)
    number("file", value.file, limits.FILE_MAX)


def rows(value: Rows) -> None:
    """What of the columns can be seen at a glance; the rest is found out as they are read."""
    if not isinstance(value, Rows):
        raise InvalidArgument("rows", "must be Rows")
    keys, content_types, counts, lengths, payload, producers = value
    sequence("keys", keys)
    sequence("content_types", content_types)
    sequence("producers", producers)
    if len(keys) > limits.OPERATIONS_PER_SUBMIT_MAX:
        raise InvalidArgument("keys", f"at most {limits.OPERATIONS_PER_SUBMIT_MAX} at once")
    for field, column in (("counts", counts), ("lengths", lengths)):
        if not isinstance(column, array) or column.typecode != "I":
            raise InvalidArgument(field, "must be an array of typecode I")
    if len(content_types) != len(keys):
        raise InvalidArgument("content_types", "must be as many as keys")
    if len(counts) != len(keys):
        raise InvalidArgument("counts", "must be as many as keys")
    if producers:
        if len(producers) != len(keys):
            raise InvalidArgument("producers", "must be as many as keys, or none")
        for whose in producers:
            if whose is not None and not (type(whose) is Producer and type(whose.id) is str):
                raise InvalidArgument("producers", "must be producers, or None")
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise InvalidArgument("payload", "must be bytes")
    if not memoryview(payload).c_contiguous:
        raise InvalidArgument("payload", "must be in one piece")


def operation(value: Operation) -> None:
    """Whatever can be checked of an operation without looking at the store."""
    if isinstance(value, Append):
        if type(value.records) not in (list, tuple):
            records(value.records)
        if value.content_type is not None and not isinstance(value.content_type, str):
            raise InvalidArgument("content_type", "must be a string")
        if value.producer is not None:
            producer(value.producer)
        if value.stream_seq is not None:
            stream_seq(value.stream_seq)
        if value.create is not None:
            key(value.key)
            stream_options(value.create)
    elif isinstance(value, Create):
        key(value.key)
        records(value.records)
        stream_options(value.options)
        if value.fork is not None:
            fork(value.fork)
    elif isinstance(value, CreateBucket | DeleteBucket):
        bucket(value.bucket)
    elif isinstance(value, SetMetadata):
        metadata(value.metadata)
    elif isinstance(value, Trim):
        ordinal("ordinal", value.ordinal)
    elif isinstance(value, PutSnapshot):
        snapshot(value.snapshot, value.match)
    elif not isinstance(value, Delete | Expire | Touch):
        raise InvalidArgument("operation", "is none")


def fault(value: Operation, error: Exception) -> Exception:
    """What to tell of an operation that could not be decided because of ``error``.

    Its key is looked at only now: looking costs, and hardly any is wrong.
    """
    try:
        if not isinstance(value, CreateBucket | DeleteBucket):
            named(value.key)
    except InvalidArgument as better:
        better.__cause__ = error
        return better
    return error
