"""What a store answers to an operation, as plain values.

Every outcome, a rejection included, is handed out only after the state it reveals is
durable.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple

from tailrace.operation import Snapshot
from tailrace.rows import AppendedRows


class Reason(enum.Enum):
    """Why an operation was rejected."""

    BUCKET_NOT_FOUND = "bucket_not_found"
    BUCKET_EXISTS = "bucket_exists"
    BUCKET_NOT_EMPTY = "bucket_not_empty"
    STREAM_NOT_FOUND = "stream_not_found"
    STREAM_GONE = "stream_gone"  # soft-deleted: forks still need its data
    STREAM_CLOSED = "stream_closed"
    CONFIG_MISMATCH = "config_mismatch"
    CONTENT_TYPE_MISMATCH = "content_type_mismatch"
    EMPTY_APPEND = "empty_append"
    PRODUCER_FENCED = "producer_fenced"  # the epoch is older than the stream's
    PRODUCER_EPOCH_START = "producer_epoch_start"  # a new epoch must start at seq 0
    PRODUCER_GAP = "producer_gap"
    PRODUCERS_TOO_MANY = "producers_too_many"
    STREAM_SEQ_REGRESSED = "stream_seq_regressed"
    EXPECTED_ORDINAL_MISMATCH = "expected_ordinal_mismatch"
    PRECONDITION_FAILED = "precondition_failed"  # another incarnation than expected, or its tail
    FORK_SOURCE_NOT_FOUND = "fork_source_not_found"
    FORK_SOURCE_GONE = "fork_source_gone"
    FORK_BEYOND_TAIL = "fork_beyond_tail"
    FORK_SUB_OFFSET = "fork_sub_offset"
    FORK_TOO_DEEP = "fork_too_deep"
    TRIMMED = "trimmed"  # the ordinal is before the retained start
    TRIM_BACKWARDS = "trim_backwards"  # what is before that was dropped already
    TRIM_BEYOND_TAIL = "trim_beyond_tail"
    TRIM_BEYOND_SNAPSHOT = "trim_beyond_snapshot"
    SNAPSHOT_NOT_FOUND = "snapshot_not_found"
    SNAPSHOT_BEYOND_TAIL = "snapshot_beyond_tail"
    SNAPSHOT_STALE = "snapshot_stale"  # a newer one is visible
    SNAPSHOT_CONFLICT = "snapshot_conflict"  # another one is visible at the same ordinal
    SNAPSHOT_MISMATCH = "snapshot_mismatch"  # not the one that the caller expected to replace
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class Rejection:
    """The operation changed nothing.

    ``tail`` is the stream's tail ordinal where a stream was found; ``closed`` whether that
    stream is closed. ``producer_epoch`` is the current epoch of a fenced producer,
    ``producer_expected_seq`` what a producer with a gap should have sent. ``snapshot`` is the
    visible one where that is in the way.
    """

    reason: Reason
    message: str
    tail: int | None = None
    closed: bool = False
    producer_epoch: int | None = None
    producer_expected_seq: int | None = None
    producer_received_seq: int | None = None
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class BucketDone:
    """A bucket was created or deleted."""

    bucket: str


@dataclass(frozen=True, slots=True)
class Created:
    """The stream exists with the configuration asked for; ``existed`` if it did before."""

    stream_id: int
    tail: int
    closed: bool
    content_type: str
    existed: bool


class Appended(NamedTuple):
    """The records are in the stream as ordinals ``base`` to ``tail - 1``.

    ``duplicate``: an idempotent producer (or a repeated close) had done this before and
    nothing was added; then ``base == tail``. ``producer_seq`` is the highest sequence number
    accepted from this producer in this epoch. ``created_at_ms`` is the batch's time.
    """

    stream_id: int
    base: int
    tail: int
    closed: bool
    duplicate: bool
    created: bool
    created_at_ms: int
    producer_epoch: int | None = None
    producer_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """The stream is gone from its address; ``soft`` if forks still hold its data."""

    stream_id: int
    soft: bool


@dataclass(frozen=True, slots=True)
class Updated:
    """Metadata, retention or the TTL were changed; or, for a Touch, needed no change."""

    stream_id: int
    tail: int


@dataclass(frozen=True, slots=True)
class SnapshotStored:
    """``snapshot`` is the visible one; ``existed`` if the very same was before."""

    stream_id: int
    tail: int
    snapshot: Snapshot
    existed: bool


Outcome = (
    BucketDone | Created | Appended | AppendedRows | Deleted | Updated | SnapshotStored | Rejection
)
