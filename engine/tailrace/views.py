"""What a store tells of itself: immutable answers to head, list and search."""

from __future__ import annotations

from typing import NamedTuple

from tailrace.operation import Snapshot, StreamKey
from tailrace.stream import StreamState, expires_at_ms


class Head(NamedTuple):
    """A stream's durable metadata.

    ``stream_id`` is never used again, so it tells a stream from a later one of the same name.
    ``start`` is the first retained ordinal, ``tail`` the one the next record gets. ``ttl_ms`` and
    ``expires_at_ms`` are as configured; ``expires_effective_ms`` is when the stream ceases to exist
    if nobody touches it, None: never. ``snapshot`` is the visible one.
    """

    key: StreamKey
    stream_id: int
    content_type: str
    is_json: bool
    tail: int
    start: int
    closed: bool
    ttl_ms: int | None
    expires_at_ms: int | None
    expires_effective_ms: int | None
    created_at_ms: int
    last_write_ms: int
    forked_from: StreamKey | None
    fork_ordinal: int
    metadata: bytes
    searchable: bool
    snapshot: Snapshot | None


class BucketInfo(NamedTuple):
    """A bucket; ``streams`` counts the names in use in it, soft-deleted streams included."""

    bucket: str
    created_at_ms: int
    streams: int


class StreamPage(NamedTuple):
    """One page of a listing; ``has_more`` if streams follow the last one."""

    streams: list[Head]
    has_more: bool


class Hit(NamedTuple):
    """A record that matched, with its BM25 score in the scope searched."""

    key: StreamKey
    ordinal: int
    score: float


class DamagedRange(NamedTuple):
    """Records ``first`` to ``stop`` (exclusive) of a stream, which stood in damaged bytes.

    ``file`` and log ``position`` say where the damage begins.
    """

    key: StreamKey
    first: int
    stop: int
    file: str
    position: int


class SearchResult(NamedTuple):
    """The best hits, best first; ``total`` counts all, ``per_stream`` if it was asked for.

    ``damaged`` are records within the scope that could not be looked at. While it is empty
    the answer is complete.
    """

    hits: list[Hit]
    total: int
    per_stream: dict[StreamKey, int]
    damaged: list[DamagedRange]


def head_of(state: StreamState) -> Head:
    """What a client may know of a stream in this state."""
    config = state.config
    return Head(
        config.key,
        config.stream_id,
        config.content_type,
        config.is_json,
        state.tail,
        state.start,
        state.closed,
        config.ttl_ms,
        config.expires_at_ms,
        expires_at_ms(state),
        config.created_at_ms,
        state.last_write_ms,
        config.source_key,
        config.fork_ordinal,
        state.metadata,
        config.searchable,
        state.snapshot,
    )
