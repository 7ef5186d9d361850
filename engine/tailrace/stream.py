"""What a stream is at one moment: immutable values, and what follows from them alone."""

from __future__ import annotations

from typing import Final, NamedTuple

from immutables import Map

from tailrace.limits import TOUCH_FRACTION
from tailrace.operation import Producer, Snapshot, StreamKey
from tailrace.producer import ProducerState

DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"
JSON_MEDIA_TYPE: Final = "application/json"
_new: Final = tuple.__new__
NO_PRODUCERS: Final[Map[str, ProducerState]] = Map()


class StreamConfig(NamedTuple):
    """What is fixed when a stream is created.

    ``fork_ordinal`` and ``fork_sub_offset`` are as the request resolved them; ``base`` is the
    first ordinal of the stream's own records: below it a fork reads its source.
    """

    stream_id: int
    key: StreamKey
    content_type: str
    is_json: bool
    ttl_ms: int | None
    expires_at_ms: int | None
    expiry_inherited: bool
    searchable: bool
    created_at_ms: int
    source_id: int | None
    source_key: StreamKey | None
    fork_ordinal: int
    fork_sub_offset: int
    base: int


class StreamState(NamedTuple):
    """A stream after some batch. ``forks`` counts the streams that read through this one.

    ``deleted``: no longer reachable, kept because ``forks`` > 0. ``detached``: its name, too,
    belongs to nobody or to a newer stream (an expired stream does not block its name).
    ``snapshot`` is the visible one.
    """

    config: StreamConfig
    tail: int
    start: int
    closed: bool
    last_write_ms: int
    last_touch_ms: int
    stream_seq: str | None
    producers: Map[str, ProducerState]
    closed_by: Producer | None
    metadata: bytes
    forks: int
    deleted: bool
    detached: bool
    snapshot: Snapshot | None


def after_append(
    state: StreamState,
    tail: int,
    created_at_ms: int,
    stream_seq: str | None,
    producers: Map[str, ProducerState],
    closed: bool = False,
    closed_by: Producer | None = None,
) -> StreamState:
    """The stream after records up to before ``tail``, the close, or both."""
    config, _, start, _, _, touch_ms, _, _, _, metadata, forks, deleted, detached, snapshot = state
    # Not StreamState(...): another function between takes as long as this one, for every append.
    return _new(
        StreamState,
        (
            config, tail, start, closed, created_at_ms, touch_ms, stream_seq, producers, closed_by,
            metadata, forks, deleted, detached, snapshot,
        ),
    )  # fmt: skip


def media_type(content_type: str) -> str:
    """A content type without parameters, lower case: what two types are compared by."""
    return content_type.partition(";")[0].strip().lower()


def is_json_type(content_type: str) -> bool:
    """Whether streams of this type have JSON mode (protocol section 9.1): exactly this type."""
    return media_type(content_type) == JSON_MEDIA_TYPE


def expires_at_ms(state: StreamState) -> int | None:
    """When the stream ceases to exist if nobody touches it (protocol section 5.1)."""
    config = state.config
    if config.ttl_ms is not None:
        return max(state.last_touch_ms, state.last_write_ms) + config.ttl_ms
    return config.expires_at_ms


def is_expired(state: StreamState, now_ms: int) -> bool:
    if state.config.ttl_ms is None and state.config.expires_at_ms is None:
        return False
    deadline = expires_at_ms(state)
    return deadline is not None and now_ms >= deadline


def needs_touch(state: StreamState, now_ms: int) -> bool:
    """Whether a read now should renew the TTL.

    Only after a quarter of it: else each read would cost a write.
    """
    ttl_ms = state.config.ttl_ms
    if ttl_ms is None:
        return False
    idle_ms = now_ms - max(state.last_touch_ms, state.last_write_ms)
    return idle_ms * TOUCH_FRACTION >= ttl_ms
