"""One stream of the model: see :mod:`tests.engine.model`."""

from __future__ import annotations

from dataclasses import dataclass, field

from tailrace.operation import (
    ForkPoint,
    Producer,
    Snapshot,
    StreamKey,
    StreamOptions,
)
from tailrace.outcome import Reason

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
