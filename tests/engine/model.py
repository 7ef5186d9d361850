"""What the engine must answer, written again as plain dicts and lists.

Independent of the engine on purpose: a fork copies its source's records, an expired stream is
invisible the moment the clock says so, nothing is staged and nothing is durable. Sections are
those of the Durable Streams Protocol.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from tailrace import limits
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
from tailrace.outcome import (
    Appended,
    BucketDone,
    Created,
    Deleted,
    Outcome,
    Reason,
    Rejection,
    SnapshotStored,
    Updated,
)
from tests.engine.model_append import may_append
from tests.engine.model_stream import DEFAULT_TYPE, ModelStream, no, plain_type

UNKNOWN_ID = 0


def _records(records: Records, base: int, now_ms: int) -> list[bytes]:
    return [bytes(record) for record in (records(base, now_ms) if callable(records) else records)]


class Model:
    """Every bucket and stream. ``now_ms`` is handed to each call and never goes back."""

    def __init__(self) -> None:
        self.buckets: dict[str, int] = {}
        self.streams: dict[StreamKey, ModelStream] = {}
        self.made = 0  # streams so far: the id of the newest

    def copy(self) -> Model:
        return copy.deepcopy(self)

    # ---- expiry and deletion (4.2, 5.1)

    def present(self, key: StreamKey, now_ms: int) -> ModelStream | None:
        """The stream of this name, soft-deleted perhaps; an expired one is not there."""
        stream = self.streams.get(key)
        return None if stream is None or stream.is_expired(now_ms) else stream

    def sweep(self, now_ms: int) -> None:
        """Remove what has expired. Until then it holds its source and its bucket."""
        for stream in list(self.streams.values()):
            if stream.is_expired(now_ms) and self.streams.get(stream.key) is stream:
                self._retire(stream)

    def _retire(self, stream: ModelStream) -> None:
        """An expired stream goes; its name is free at once, whether forks need it or not."""
        if stream.forks:
            stream.soft_deleted = True
            stream.snapshot = None
            del self.streams[stream.key]
        else:
            self._remove(stream)

    def _delete(self, stream: ModelStream) -> bool:
        """Delete; True if it is a soft delete because forks need the data."""
        if stream.forks:
            stream.soft_deleted = True
            stream.snapshot = None
            return True
        self._remove(stream)
        return False

    def _remove(self, stream: ModelStream) -> None:
        if self.streams.get(stream.key) is stream:
            del self.streams[stream.key]
        source = stream.source
        if source is not None:
            source.forks -= 1
            if source.soft_deleted and source.forks == 0:
                self._remove(source)

    # ---- operations

    def perform(self, operation: Operation, now_ms: int) -> Outcome:
        """What the engine must answer (stream ids and messages aside), and do."""
        match operation:
            case CreateBucket(bucket):
                if bucket in self.buckets:
                    return no(Reason.BUCKET_EXISTS)
                self.buckets[bucket] = now_ms
                return BucketDone(bucket)
            case DeleteBucket(bucket):
                if bucket not in self.buckets:
                    return no(Reason.BUCKET_NOT_FOUND)
                if any(key.bucket == bucket for key in self.streams):
                    return no(Reason.BUCKET_NOT_EMPTY)
                del self.buckets[bucket]
                return BucketDone(bucket)
            case Create():
                return self._create(operation, now_ms)
            case Append():
                return self._append(operation, now_ms)
            case Expire(key):
                expired = self.streams.get(key)
                if expired is None or not expired.is_expired(now_ms):
                    return no(Reason.STREAM_NOT_FOUND)
                soft = expired.forks > 0
                self._retire(expired)
                return Deleted(UNKNOWN_ID, soft)
        found = self._live(operation.key, now_ms)
        if isinstance(found, Rejection):
            return found
        match operation:
            case Delete():
                return Deleted(UNKNOWN_ID, self._delete(found))
            case Touch():
                self.touch(found, now_ms)
                return Updated(UNKNOWN_ID, found.tail)
            case SetMetadata(_, metadata):
                found.metadata = metadata
                return Updated(UNKNOWN_ID, found.tail)
            case Trim(_, ordinal):
                if ordinal > found.tail:
                    return no(Reason.TRIM_BEYOND_TAIL, found)
                if ordinal < found.start:
                    return no(Reason.TRIM_BACKWARDS, found)
                if found.snapshot is not None and ordinal > found.snapshot.ordinal:
                    return no(Reason.TRIM_BEYOND_SNAPSHOT, found)
                found.start = ordinal
                return Updated(UNKNOWN_ID, found.tail)
            case PutSnapshot(_, snapshot, match):
                return self._put_snapshot(found, snapshot, match, now_ms)
        raise AssertionError(operation)

    def _put_snapshot(
        self, stream: ModelStream, snapshot: Snapshot, match: bytes | None, now_ms: int
    ) -> Outcome:
        if stream.snapshot == snapshot:
            return SnapshotStored(UNKNOWN_ID, stream.tail, snapshot, existed=True)
        if (reason := stream.refuses(snapshot, match)) is not None:
            return no(reason, stream)
        stream.snapshot = snapshot
        stream.renewed_ms = now_ms
        return SnapshotStored(UNKNOWN_ID, stream.tail, snapshot, existed=False)

    def touch(self, stream: ModelStream, now_ms: int) -> None:
        """A read renews a TTL, but only once a quarter of it has gone by."""
        if stream.ttl_ms is None:
            return
        if now_ms - stream.renewed_ms >= stream.ttl_ms / limits.TOUCH_FRACTION:
            stream.renewed_ms = now_ms

    def _live(self, key: StreamKey, now_ms: int) -> ModelStream | Rejection:
        stream = self.present(key, now_ms)
        if stream is None:
            return no(Reason.STREAM_NOT_FOUND)
        if stream.soft_deleted:
            return no(Reason.STREAM_GONE)
        return stream

    # ---- create (5.1) and fork (4.2)

    def _create(self, operation: Create, now_ms: int) -> Outcome:
        key, options, point = operation.key, operation.options, operation.fork
        if key.bucket not in self.buckets:
            return no(Reason.BUCKET_NOT_FOUND)
        existing = self.present(key, now_ms)
        if existing is not None:
            if existing.soft_deleted:
                return no(Reason.STREAM_GONE)
            if not self._same_configuration(existing, operation):
                return no(Reason.CONFIG_MISMATCH, existing)
            return Created(
                UNKNOWN_ID, existing.tail, existing.closed, existing.content_type, existed=True
            )
        if point is None:
            stream = self._new(key, options, options.content_type or DEFAULT_TYPE, now_ms)
        else:
            made = self._fork(key, options, point, now_ms)
            if isinstance(made, Rejection):
                return made
            stream = made
        stream.records += _records(operation.records, stream.tail, now_ms)
        stream.closed = operation.closed
        self._put(stream)
        if stream.source is not None:
            stream.source.forks += 1
        return Created(UNKNOWN_ID, stream.tail, stream.closed, stream.content_type, existed=False)

    def _new(
        self, key: StreamKey, options: StreamOptions, content_type: str, now_ms: int
    ) -> ModelStream:
        return ModelStream(
            key,
            content_type,
            options.ttl_ms,
            options.expires_at_ms,
            options.searchable,
            options.metadata,
            created_at_ms=now_ms,
            renewed_ms=now_ms,
            last_write_ms=now_ms,
            asked=options,
        )

    def _same_configuration(self, existing: ModelStream, operation: Create) -> bool:
        options, point = operation.options, operation.fork
        if existing.closed != operation.closed:
            return False
        asked = existing.fork_asked
        if (point is None) != (asked is None):
            return False
        if point is None or asked is None:
            wanted = plain_type(options.content_type or DEFAULT_TYPE)
            if wanted != plain_type(existing.content_type):
                return False
            return (options.ttl_ms, options.expires_at_ms) == (
                existing.ttl_ms,
                existing.expires_at_ms,
            )
        if point.source != asked.source or point.sub_offset != asked.sub_offset:
            return False
        if point.ordinal is not None and point.ordinal != asked.ordinal:
            return False
        if options.content_type is not None and plain_type(options.content_type) != plain_type(
            existing.content_type
        ):
            return False
        expiry = (options.ttl_ms, options.expires_at_ms)
        return expiry in ((None, None), (existing.ttl_ms, existing.expires_at_ms)) and (
            expiry != (None, None)
            or (existing.asked.ttl_ms, existing.asked.expires_at_ms) == (None, None)
        )

    def _fork(
        self, key: StreamKey, options: StreamOptions, point: ForkPoint, now_ms: int
    ) -> ModelStream | Rejection:
        source = self.present(point.source, now_ms)
        if source is None:
            return no(Reason.FORK_SOURCE_NOT_FOUND)
        if source.soft_deleted:
            return no(Reason.FORK_SOURCE_GONE)
        if options.content_type is not None and plain_type(options.content_type) != plain_type(
            source.content_type
        ):
            return no(Reason.CONTENT_TYPE_MISMATCH)
        if source.depth() + 1 >= limits.FORK_DEPTH_MAX:
            return no(Reason.FORK_TOO_DEEP)
        ordinal = source.tail if point.ordinal is None else point.ordinal
        if ordinal > source.tail:
            return no(Reason.FORK_BEYOND_TAIL)
        if ordinal < source.start:
            return no(Reason.TRIMMED)
        inherited = source.records[:ordinal]
        if point.sub_offset:
            rest = source.records[ordinal:]
            if source.is_json:
                if point.sub_offset > len(rest):
                    return no(Reason.FORK_SUB_OFFSET)
                inherited = source.records[: ordinal + point.sub_offset]
            else:
                if not rest or point.sub_offset > len(rest[0]):
                    return no(Reason.FORK_SUB_OFFSET)
                inherited = [*inherited, rest[0][: point.sub_offset]]
        ttl_ms, expires_at_ms = options.ttl_ms, options.expires_at_ms
        if ttl_ms is None and expires_at_ms is None:
            ttl_ms, expires_at_ms = source.ttl_ms, source.expires_at_ms
        stream = self._new(
            key,
            replace(options, ttl_ms=ttl_ms, expires_at_ms=expires_at_ms),
            source.content_type,
            now_ms,
        )
        stream.asked = options
        stream.source = source
        stream.records = inherited
        stream.start = source.start
        stream.fork_ordinal = ordinal
        stream.fork_asked = ForkPoint(point.source, ordinal, point.sub_offset)
        return stream

    def _put(self, stream: ModelStream) -> None:
        expired = self.streams.get(stream.key)
        if expired is not None:
            self._retire(expired)
        self.made += 1
        stream.stream_id = self.made
        self.streams[stream.key] = stream

    # ---- append and close (5.2, 5.3)

    def _append(self, operation: Append, now_ms: int) -> Outcome:
        created = False
        found = self._live(operation.key, now_ms)
        if isinstance(found, Rejection):
            missing = found.reason is Reason.STREAM_NOT_FOUND
            if not missing or operation.create is None:
                return found
            if operation.key.bucket not in self.buckets:
                return no(Reason.BUCKET_NOT_FOUND)
            options = operation.create
            content_type = options.content_type or DEFAULT_TYPE
            found = self._new(operation.key, options, content_type, now_ms)
            created = True
        stream = found
        count_known = callable(operation.records) or len(operation.records) > 0
        verdict = may_append(stream, operation, has_records=count_known, created=created)
        if isinstance(verdict, Rejection):
            return verdict
        producer = operation.producer
        if verdict == "duplicate":
            last = producer and stream.producers[producer.id][1]
            return self._appended(stream, stream.tail, now_ms, producer, last, duplicate=True)
        base = stream.tail
        stream.records += _records(operation.records, base, now_ms)
        stream.last_write_ms = stream.renewed_ms = now_ms
        if operation.stream_seq is not None:
            stream.stream_seq = operation.stream_seq.encode("utf-8")
        if producer is not None:
            stream.producers[producer.id] = (producer.epoch, producer.seq)
        if operation.close:
            stream.closed = True
            stream.closed_by = producer
        if created:
            self._put(stream)
        last = producer and producer.seq
        return self._appended(stream, base, now_ms, producer, last, created=created)

    def _appended(
        self,
        stream: ModelStream,
        base: int,
        now_ms: int,
        producer: Producer | None,
        last_seq: int | None,
        *,
        duplicate: bool = False,
        created: bool = False,
    ) -> Appended:
        epoch = None if producer is None else producer.epoch
        return Appended(
            UNKNOWN_ID,
            base,
            stream.tail,
            stream.closed,
            duplicate,
            created,
            now_ms,
            epoch,
            last_seq if producer is not None else None,
        )

    # ---- everything a reader can see

    def observe(self, now_ms: int, keys: list[StreamKey]) -> dict[str, Any]:
        """The state as :func:`tests.engine.workload.observe` shows it, whose reads renew TTLs."""
        return {
            "buckets": {
                bucket: sum(
                    key.bucket == bucket
                    and not stream.soft_deleted
                    and not stream.is_expired(now_ms)
                    for key, stream in self.streams.items()
                )
                for bucket in self.buckets
            },
            "streams": {
                key: self._seen(self.streams[key], now_ms)
                for key in keys
                if self.present(key, now_ms) is not None
            },
        }

    def _seen(self, stream: ModelStream, now_ms: int) -> Any:
        if stream.soft_deleted:
            return "gone"
        seen = stream.seen()
        self.touch(stream, now_ms)
        return seen
