"""One stream of the model: see :mod:`tests.engine.model`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tailrace.operation import (
    ForkPoint,
    Producer,
    Snapshot,
    StreamKey,
    StreamOptions,
)
from tailrace.outcome import Reason, Rejection
from tests.engine.snapshot_lab import told

DEFAULT_TYPE = "application/octet-stream"


def plain_type(content_type: str) -> str:
    """A content type without its parameters, as it is compared."""
    return content_type.partition(";")[0].strip().lower()


@dataclass
class ModelStream:
    """One incarnation of a stream. ``records`` holds every record from ordinal 0."""

    key: StreamKey
    content_type: str
    ttl_ms: int | None
    expires_at_ms: int | None
    searchable: bool
    metadata: bytes
    created_at_ms: int
    renewed_ms: int
    last_write_ms: int
    stream_id: int = -1  # no id at all until it is made
    records: list[bytes] = field(default_factory=list)
    start: int = 0
    closed: bool = False
    closed_by: Producer | None = None
    producers: dict[str, tuple[int, int]] = field(default_factory=dict)
    stream_seq: bytes | None = None
    source: ModelStream | None = None
    fork_ordinal: int = 0  # as asked, the sub-offset not counted
    fork_asked: ForkPoint | None = None
    forks: int = 0
    soft_deleted: bool = False
    snapshot: Snapshot | None = None
    asked: StreamOptions = StreamOptions()

    @property
    def tail(self) -> int:
        return len(self.records)

    @property
    def is_json(self) -> bool:
        return plain_type(self.content_type) == "application/json"

    def expires_ms(self) -> int | None:
        if self.ttl_ms is not None:
            return self.renewed_ms + self.ttl_ms
        return self.expires_at_ms

    def is_expired(self, now_ms: int) -> bool:
        expires = self.expires_ms()
        return expires is not None and now_ms >= expires

    def depth(self) -> int:
        return 0 if self.source is None else 1 + self.source.depth()

    def refuses(self, snapshot: Snapshot, match: bytes | None) -> Reason | None:
        """Why another snapshot than the visible one may not become it."""
        visible, at = self.snapshot, snapshot.ordinal
        if at > self.tail:
            return Reason.SNAPSHOT_BEYOND_TAIL
        if at < self.start:
            return Reason.TRIMMED
        if match is not None and match != (visible.digest if visible else None):
            return Reason.SNAPSHOT_MISMATCH
        if visible is None or at > visible.ordinal:
            return None
        return Reason.SNAPSHOT_STALE if at < visible.ordinal else Reason.SNAPSHOT_CONFLICT

    def seen(self) -> dict[str, Any]:
        """What a reader can tell of it."""
        seen: dict[str, Any] = {
            "content_type": self.content_type,
            "tail": self.tail,
            "start": self.start,
            "closed": self.closed,
            "ttl_ms": self.ttl_ms,
            "expires_at_ms": self.expires_at_ms,
            "created_at_ms": self.created_at_ms,
            "last_write_ms": self.last_write_ms,
            "metadata": self.metadata,
            "searchable": self.searchable,
            "forked_from": self.source.key if self.source is not None else None,
            "fork_ordinal": self.fork_ordinal,
            "expires_effective_ms": self.expires_ms(),
            "records": self.records[self.start :],
        }
        if self.snapshot is not None:
            seen["snapshot"] = told(self.snapshot)
        return seen


def no(
    reason: Reason,
    stream: ModelStream | None = None,
    *,
    epoch: int | None = None,
    expected: int | None = None,
    received: int | None = None,
) -> Rejection:
    """A rejection, as far as the model knows: without its message."""
    tail = None if stream is None else stream.tail
    closed = stream is not None and stream.closed
    return Rejection(reason, "", tail, closed, epoch, expected, received)
