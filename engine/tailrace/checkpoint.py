"""The catalog as of a log position ↔ a file, so that recovery need not replay the whole log.

::

    0          8         12       16         24            28     32
    | TAILRCKP | version | crc32c | position | entry_count | zero |
    | entry: length u32, kind u8, fields | ...

An entry is a bucket (kind 1), a stream (2) or the counters (3); its fields are those of
:mod:`tailrace.fields`. Streams stand after the buckets, in the order of their ids.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from immutables import Map

from tailrace.catalog import BucketState, Catalog, snapshot_fields, snapshot_from_fields
from tailrace.fields import BadFields, Tag, decode_fields, encode_fields, to_int, to_text
from tailrace.native import crc32c
from tailrace.operation import Producer, StreamKey
from tailrace.producer import ProducerState
from tailrace.stream import StreamConfig, StreamState, is_json_type, plain_for

MAGIC: Final = b"TAILRCKP"
VERSION: Final = 1
HEADER: Final = struct.Struct("<8sIIQII")
_ENTRY: Final = struct.Struct("<IB")
_CRC_FROM: Final = 16
_BUCKET, _STREAM, _COUNTERS = 1, 2, 3
_PRODUCER: Final = struct.Struct("<QQ")
_DELETED, _DETACHED = 1, 2


class BadCheckpoint(ValueError):
    """The bytes are not a whole, undamaged checkpoint of this version."""


def encode_checkpoint(catalog: Catalog, position: int) -> bytes:
    """``catalog`` as of log ``position``."""
    parts = [_entry(_COUNTERS, encode_fields([(Tag.NEXT_STREAM_ID, catalog.next_stream_id)]))]
    parts.extend(_entry(_BUCKET, _encode_bucket(state)) for state in catalog.buckets.values())
    parts.extend(
        _entry(_STREAM, _encode_stream(catalog.streams[stream_id]))
        for stream_id in sorted(catalog.streams)
    )
    body = b"".join(parts)
    tail = struct.pack("<QII", position, len(parts), 0)
    return MAGIC + struct.pack("<II", VERSION, crc32c(body, crc32c(tail))) + tail + body


def decode_checkpoint(data: bytes, position: int) -> Catalog:
    """The catalog in a checkpoint of ``position``; :class:`BadCheckpoint` if it is not one."""
    if len(data) < HEADER.size:
        raise BadCheckpoint("shorter than its header")
    magic, version, crc, found, count, _ = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or found != position:
        raise BadCheckpoint("not a checkpoint of this position and version")
    if crc32c(memoryview(data)[_CRC_FROM:]) != crc:
        raise BadCheckpoint("damaged")
    catalog = Catalog()
    seen = 0
    try:
        for kind, fields in _entries(data):
            _load(catalog, kind, fields)
            seen += 1
    except (BadFields, KeyError, struct.error) as error:
        raise BadCheckpoint(str(error)) from error
    if seen != count:
        raise BadCheckpoint(f"{seen} entries instead of {count}")
    return catalog


def _entry(kind: int, fields: bytes) -> bytes:
    return _ENTRY.pack(len(fields), kind) + fields


def _entries(data: bytes) -> Iterator[tuple[int, list[tuple[Tag, bytes]]]]:
    offset = HEADER.size
    while offset < len(data):
        length, kind = _ENTRY.unpack_from(data, offset)
        offset += _ENTRY.size
        if length > len(data) - offset:
            raise BadCheckpoint("an entry is cut off")
        yield kind, decode_fields(data[offset : offset + length])
        offset += length


def _load(catalog: Catalog, kind: int, items: list[tuple[Tag, bytes]]) -> None:
    fields = dict(items)
    if kind == _BUCKET:
        bucket = to_text(fields[Tag.BUCKET])
        catalog.buckets[bucket] = BucketState(
            bucket, to_int(fields[Tag.CREATED_AT_MS]), to_int(fields[Tag.STREAMS])
        )
    elif kind == _STREAM:
        producers = [value for tag, value in items if tag == Tag.PRODUCER]
        state = _decode_stream(fields, producers)
        named = not state.detached and state.config.key in catalog.names
        if named or state.config.stream_id in catalog.streams:
            raise BadCheckpoint(f"stream id {state.config.stream_id} or its name stands twice")
        catalog.streams[state.config.stream_id] = state
        if not state.detached:
            catalog.names[state.config.key] = state.config.stream_id
    elif kind == _COUNTERS:
        catalog.next_stream_id = to_int(fields[Tag.NEXT_STREAM_ID])
    else:
        raise BadCheckpoint(f"entry kind {kind} is unknown to this version")


def _encode_bucket(state: BucketState) -> bytes:
    return encode_fields(
        [
            (Tag.BUCKET, state.bucket),
            (Tag.CREATED_AT_MS, state.created_at_ms),
            (Tag.STREAMS, state.streams),
        ]
    )


def _encode_stream(state: StreamState) -> bytes:
    config = state.config
    source = config.source_key
    deleted = (_DETACHED if state.detached else _DELETED) if state.deleted else None
    producers = (
        (Tag.PRODUCER, _PRODUCER.pack(*producer) + name.encode("utf-8"))
        for name, producer in sorted(state.producers.items())
    )
    return encode_fields(
        [
            (Tag.BUCKET, config.key.bucket),
            (Tag.STREAM, config.key.stream),
            (Tag.CONTENT_TYPE, config.content_type),
            (Tag.TTL_MS, config.ttl_ms),
            (Tag.EXPIRES_AT_MS, config.expires_at_ms),
            (Tag.SEARCHABLE, b"" if config.searchable else None),
            (Tag.METADATA, state.metadata or None),
            (Tag.SOURCE_ID, config.source_id),
            (Tag.FORK_ORDINAL, config.fork_ordinal or None),
            (Tag.FORK_SUB_OFFSET, config.fork_sub_offset or None),
            (Tag.STREAM_SEQ, state.stream_seq),
            (Tag.START, state.start),
            (Tag.EXPIRY_INHERITED, b"" if config.expiry_inherited else None),
            *snapshot_fields(state.snapshot),
            (Tag.STREAM_ID, config.stream_id),
            (Tag.CREATED_AT_MS, config.created_at_ms),
            (Tag.TAIL, state.tail),
            (Tag.CLOSED, b"" if state.closed else None),
            (Tag.LAST_WRITE_MS, state.last_write_ms),
            (Tag.LAST_TOUCH_MS, state.last_touch_ms),
            (Tag.DELETED, deleted),
            (Tag.FORKS, state.forks or None),
            *producers,
            (Tag.CLOSED_BY, _encode_closed_by(state.closed_by)),
            (Tag.SOURCE_BUCKET, None if source is None else source.bucket),
            (Tag.SOURCE_STREAM, None if source is None else source.stream),
            (Tag.BASE, config.base),
        ]
    )


def _encode_closed_by(producer: Producer | None) -> bytes | None:
    if producer is None:
        return None
    return _PRODUCER.pack(producer.epoch, producer.seq) + producer.id.encode("utf-8")


def _decode_producer(value: bytes) -> tuple[str, ProducerState]:
    epoch, seq = _PRODUCER.unpack_from(value)
    return to_text(value[_PRODUCER.size :]), ProducerState(epoch, seq)


def _decode_stream(fields: dict[Tag, bytes], producers: list[bytes]) -> StreamState:
    def integer(tag: Tag) -> int | None:
        return to_int(fields[tag]) if tag in fields else None

    content_type = to_text(fields[Tag.CONTENT_TYPE])
    source_key = None
    if Tag.SOURCE_BUCKET in fields:
        source_key = StreamKey(
            to_text(fields[Tag.SOURCE_BUCKET]), to_text(fields[Tag.SOURCE_STREAM])
        )
    closed_by = None
    if Tag.CLOSED_BY in fields:
        name, (epoch, seq) = _decode_producer(fields[Tag.CLOSED_BY])
        closed_by = Producer(name, epoch, seq)
    config = StreamConfig(
        stream_id=to_int(fields[Tag.STREAM_ID]),
        key=StreamKey(to_text(fields[Tag.BUCKET]), to_text(fields[Tag.STREAM])),
        content_type=content_type,
        is_json=is_json_type(content_type),
        ttl_ms=integer(Tag.TTL_MS),
        expires_at_ms=integer(Tag.EXPIRES_AT_MS),
        expiry_inherited=Tag.EXPIRY_INHERITED in fields,
        searchable=Tag.SEARCHABLE in fields,
        created_at_ms=to_int(fields[Tag.CREATED_AT_MS]),
        source_id=integer(Tag.SOURCE_ID),
        source_key=source_key,
        fork_ordinal=integer(Tag.FORK_ORDINAL) or 0,
        fork_sub_offset=integer(Tag.FORK_SUB_OFFSET) or 0,
        base=to_int(fields[Tag.BASE]),
    )
    deleted = integer(Tag.DELETED)
    closed = Tag.CLOSED in fields
    return StreamState(
        config=config,
        tail=to_int(fields[Tag.TAIL]),
        start=to_int(fields[Tag.START]),
        closed=closed,
        last_write_ms=to_int(fields[Tag.LAST_WRITE_MS]),
        last_touch_ms=to_int(fields[Tag.LAST_TOUCH_MS]),
        stream_seq=to_text(fields[Tag.STREAM_SEQ]) if Tag.STREAM_SEQ in fields else None,
        producers=Map(_decode_producer(value) for value in producers),
        closed_by=closed_by,
        metadata=fields.get(Tag.METADATA, b""),
        forks=integer(Tag.FORKS) or 0,
        deleted=deleted is not None,
        detached=deleted == _DETACHED,
        snapshot=snapshot_from_fields(fields) if Tag.SNAPSHOT_ORDINAL in fields else None,
        plain=plain_for(config, closed=closed, deleted=deleted is not None),
    )
