"""What a stream is at one moment: immutable values, and what follows from them alone."""

from __future__ import annotations

from functools import lru_cache
from sys import intern
from typing import Final, NamedTuple

from immutables import Map

from tailrace.batch import Flag
from tailrace.limits import TOUCH_FRACTION
from tailrace.operation import Producer, Snapshot, StreamKey
from tailrace.producer import ProducerState

DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"
JSON_MEDIA_TYPE: Final = "application/json"
_TYPES_KEPT: Final = 256
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

    @property
    def ends_with_time(self) -> bool:
        """Whether it ceases to exist by itself (protocol section 5.1)."""
        return self.ttl_ms is not None or self.expires_at_ms is not None


class Plain(NamedTuple):
    """What a plain append is: the type it is sent with, if it names one, and its batch's flags."""

    content_type: str
    flags: int


@lru_cache(_TYPES_KEPT)
def plain_of(content_type: str) -> Plain:
    """That of a stream which neither ends with time nor is closed or deleted.

    Streams of one type share it, and the type's one string, by which most are told at a glance.
    """
    return Plain(intern(content_type), Flag.JSON if is_json_type(content_type) else 0)


class StreamState(NamedTuple):
    """A stream after some batch. ``forks`` counts the streams that read through this one.

    ``deleted``: no longer reachable, kept because ``forks`` > 0. ``detached``: its name, too,
    belongs to nobody or to a newer stream (an expired stream does not block its name).
    ``snapshot`` is the visible one. ``plain`` follows from the others, see :func:`plain_for`: it
    is what the short ways to append look at.
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
    plain: Plain | None


def plain_for(config: StreamConfig, *, closed: bool, deleted: bool) -> Plain | None:
    """What a stream takes without a look at anything else; None if there is no such append."""
    return None if closed or deleted or config.ends_with_time else plain_of(config.content_type)


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
    (
        config, _, start, _, _, touch_ms, _, _, _, metadata, forks, deleted, detached, snapshot,
        plain,
    ) = state  # fmt: skip
    # Not StreamState(...): another function between takes as long as this one, for every append.
    return _new(
        StreamState,
        (
            config, tail, start, closed, created_at_ms, touch_ms, stream_seq, producers, closed_by,
            metadata, forks, deleted, detached, snapshot, None if closed else plain,
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
    if state.plain is not None:
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
