"""All buckets and streams at one moment, and the one ``apply`` that moves them on.

The store keeps two catalogs: *staged* (what ``decide`` sees) and *durable* (what readers
and checkpoints see). ``apply`` turns a batch into a :class:`Change` against a catalog
without touching it; ``install`` puts a change in. Live writes apply to the staged
catalog and install the same change in the durable one after the sync; recovery applies
and installs in one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tailrace.batch import APPEND, Batch, Flag, Kind
from tailrace.fields import BadFields, Fields, Tag, Value, to_int, to_text
from tailrace.operation import Producer, Snapshot, StreamKey
from tailrace.producer import ProducerState
from tailrace.stream import (
    NO_PRODUCERS,
    StreamConfig,
    StreamState,
    after_append,
    is_json_type,
    plain_for,
)


class BucketState(NamedTuple):
    """A bucket; ``streams`` counts the names in use in it, soft-deleted streams included."""

    bucket: str
    created_at_ms: int
    streams: int


class Change(NamedTuple):
    """What a batch does to a catalog.

    ``streams`` are new states, ``removed`` the ids that are gone for good, ``names`` the names
    that point elsewhere now (None: nowhere), ``buckets`` likewise.
    """

    streams: tuple[StreamState, ...] = ()
    removed: tuple[int, ...] = ()
    names: tuple[tuple[StreamKey, int | None], ...] = ()
    buckets: tuple[tuple[str, BucketState | None], ...] = ()


NO_CHANGE = Change()
# In the order of the fields of Snapshot.
_SNAPSHOT_TAGS: Final = (
    Tag.SNAPSHOT_ORDINAL,
    Tag.SNAPSHOT_DIGEST,
    Tag.SNAPSHOT_BYTES,
    Tag.SNAPSHOT_TYPE,
    Tag.SNAPSHOT_FILE,
)


class BadBatch(ValueError):
    """A batch whose checksum is right but that does not fit the state it is applied to."""


class Catalog:
    """Buckets and streams by name and by id.

    ``skips``: a LOST batch, or the SEAL batch that stands for one, was replayed. The batches
    behind it may take up a stream beyond its tail, as the records before that may have been
    among what was lost.
    """

    def __init__(self) -> None:
        self.skips = False
        self.streams: dict[int, StreamState] = {}
        self.names: dict[StreamKey, int] = {}
        self.buckets: dict[str, BucketState] = {}
        self.next_stream_id = 1

    def find(self, key: StreamKey) -> StreamState | None:
        """The stream that has this name, soft-deleted or expired ones included."""
        stream_id = self.names.get(key)
        # get: a reader without a lock may come between the removal of the two entries.
        return None if stream_id is None else self.streams.get(stream_id)

    def install(self, change: Change) -> None:
        """Make ``change`` part of this catalog."""
        for state in change.streams:
            stream_id = state.config.stream_id
            self.streams[stream_id] = state
            if stream_id >= self.next_stream_id:
                self.next_stream_id = stream_id + 1
        if change.names:
            for key, named_id in change.names:
                if named_id is None:
                    self.names.pop(key, None)
                else:
                    self.names[key] = named_id
        for stream_id in change.removed:
            del self.streams[stream_id]
        for bucket, bucket_state in change.buckets:
            if bucket_state is None:
                del self.buckets[bucket]
            else:
                self.buckets[bucket] = bucket_state

    def copy(self) -> Catalog:
        """An independent catalog with the same contents; the states are shared."""
        twin = Catalog()
        twin.streams = self.streams.copy()
        twin.names = self.names.copy()
        twin.buckets = self.buckets.copy()
        twin.next_stream_id = self.next_stream_id
        return twin


def apply(catalog: Catalog, batch: Batch) -> Change:
    """What ``batch`` changes in ``catalog``; :class:`BadBatch` if it cannot belong there."""
    try:
        if batch.kind == APPEND:
            return Change((_append(catalog, _stream(catalog, batch), batch),))
        return _APPLY[Kind(batch.kind)](catalog, batch)
    except BadBatch:
        raise
    except (BadFields, KeyError, ValueError) as error:
        raise BadBatch(f"batch of kind {batch.kind}: {error}") from error


def replay(catalog: Catalog, batch: Batch) -> None:
    """Make the next batch of the log part of ``catalog``. BadBatch as :func:`apply`."""
    catalog.install(apply(catalog, batch))
    if batch.kind == Kind.LOST or (batch.kind == Kind.SEAL and batch.payload):
        catalog.skips = True
        catalog.next_stream_id = max(catalog.next_stream_id, batch.stream_id + 1)


def _stream(catalog: Catalog, batch: Batch) -> StreamState:
    state = catalog.streams.get(batch.stream_id)
    if state is None:
        raise BadBatch(f"batch for stream id {batch.stream_id}, which does not exist")
    return state


def _reaching(catalog: Catalog, state: StreamState, ordinal: int) -> StreamState:
    """``state``, which a batch proves to have had all records before ``ordinal``."""
    if not catalog.skips or ordinal <= state.tail:
        return state
    return state._replace(tail=ordinal)


def _append(catalog: Catalog, state: StreamState, batch: Batch) -> StreamState:
    tail = state.tail
    if batch.base_ordinal != tail or state.closed:
        if state.closed or batch.base_ordinal < tail or not catalog.skips:
            raise BadBatch(
                f"append at ordinal {batch.base_ordinal} of a stream whose tail is {tail}"
            )
        tail = batch.base_ordinal
    flags = batch.flags
    closed = bool(flags & Flag.CLOSES)
    producers = state.producers
    stream_seq = state.stream_seq
    closed_by: Producer | None = None
    if batch.fields:
        fields = batch.field_items()
        if Tag.STREAM_SEQ in fields:
            stream_seq = to_text(fields[Tag.STREAM_SEQ])
        if flags & Flag.PRODUCER:
            producer = to_text(fields[Tag.PRODUCER_ID])
            epoch, seq = batch.producer_epoch, batch.producer_seq
            producers = producers.set(producer, ProducerState(epoch, seq))
            if closed:
                closed_by = Producer(producer, epoch, seq)
    tail += len(batch.ends)
    return after_append(state, tail, batch.created_at_ms, stream_seq, producers, closed, closed_by)


def _create(catalog: Catalog, batch: Batch) -> Change:
    fields = batch.field_items()
    key = StreamKey(to_text(fields[Tag.BUCKET]), to_text(fields[Tag.STREAM]))
    if batch.stream_id in catalog.streams:
        raise BadBatch(f"stream id {batch.stream_id} is created twice")
    replaced = catalog.find(key)
    gone = NO_CHANGE if replaced is None else _leave(catalog, replaced, keep_name=False)
    # The bucket is missing only where a repair had to give up its creation.
    bucket = catalog.buckets.get(key.bucket, BucketState(key.bucket, batch.created_at_ms, 0))
    bucket = dict(gone.buckets).get(key.bucket) or bucket
    states = {state.config.stream_id: state for state in gone.streams}
    source: StreamState | None = None
    if Tag.SOURCE_ID in fields:
        source_id = to_int(fields[Tag.SOURCE_ID])
        source = states.get(source_id) or catalog.streams[source_id]
        source = _reaching(catalog, source, batch.base_ordinal)
        if batch.base_ordinal > source.tail:
            raise BadBatch(f"a fork at ordinal {batch.base_ordinal} of a tail of {source.tail}")
        states[source_id] = source._replace(forks=source.forks + 1)
    elif batch.base_ordinal:
        raise BadBatch(f"a stream that is no fork begins at {batch.base_ordinal}")
    config = config_from_fields(fields, batch, key, source)
    empty = StreamState(
        config=config,
        tail=batch.base_ordinal,
        start=config.base if source is None else source.start,
        closed=False,
        last_write_ms=batch.created_at_ms,
        last_touch_ms=batch.created_at_ms,
        stream_seq=None,
        producers=NO_PRODUCERS,
        closed_by=None,
        metadata=fields.get(Tag.METADATA, b""),
        forks=0,
        deleted=False,
        detached=False,
        snapshot=None,
        plain=plain_for(config, closed=False, deleted=False),
    )
    states[batch.stream_id] = _append(catalog, empty, batch)
    names = (*gone.names, (key, batch.stream_id))
    buckets = (*gone.buckets, (key.bucket, bucket._replace(streams=bucket.streams + 1)))
    return Change(tuple(states.values()), gone.removed, names, buckets)


def config_from_fields(
    fields: Fields, batch: Batch, key: StreamKey, source: StreamState | None
) -> StreamConfig:
    """The configuration that a CREATE batch carries."""
    content_type = to_text(fields[Tag.CONTENT_TYPE])
    ttl, expires = fields.get(Tag.TTL_MS), fields.get(Tag.EXPIRES_AT_MS)
    return StreamConfig(
        stream_id=batch.stream_id,
        key=key,
        content_type=content_type,
        is_json=is_json_type(content_type),
        ttl_ms=None if ttl is None else to_int(ttl),
        expires_at_ms=None if expires is None else to_int(expires),
        expiry_inherited=Tag.EXPIRY_INHERITED in fields,
        searchable=Tag.SEARCHABLE in fields,
        created_at_ms=batch.created_at_ms,
        source_id=None if source is None else source.config.stream_id,
        source_key=None if source is None else source.config.key,
        fork_ordinal=0 if source is None else to_int(fields[Tag.FORK_ORDINAL]),
        fork_sub_offset=0 if source is None else to_int(fields[Tag.FORK_SUB_OFFSET]),
        base=batch.base_ordinal,
    )


def _delete(catalog: Catalog, batch: Batch) -> Change:
    state = _stream(catalog, batch)
    return _leave(catalog, state, keep_name=state.forks > 0)


def _expire(catalog: Catalog, batch: Batch) -> Change:
    return _leave(catalog, _stream(catalog, batch), keep_name=False)


def _leave(catalog: Catalog, state: StreamState, keep_name: bool) -> Change:
    gone = _release(catalog, state, keep_name)
    names: list[tuple[StreamKey, int | None]] = []
    buckets: dict[str, BucketState] = {}
    freed = [catalog.streams[stream_id] for stream_id in gone.removed]
    if not keep_name and state.config.stream_id not in gone.removed:
        freed.append(state)
    for other in freed:
        key = other.config.key
        if not other.detached and catalog.names.get(key) == other.config.stream_id:
            names.append((key, None))
            bucket = buckets.get(key.bucket) or catalog.buckets[key.bucket]
            buckets[key.bucket] = bucket._replace(streams=bucket.streams - 1)
    return Change(gone.streams, gone.removed, tuple(names), tuple(buckets.items()))


def _release(catalog: Catalog, state: StreamState, keep_name: bool) -> Change:
    """Take a stream away, or hide it while forks need it; then its sources, up the chain."""
    if state.forks > 0:
        # Forks need its records; nobody can ask for its snapshot any more.
        hidden = state._replace(deleted=True, detached=not keep_name, snapshot=None, plain=None)
        return Change((hidden,))
    removed = [state.config.stream_id]
    source_id = state.config.source_id
    while source_id is not None:
        source = catalog.streams[source_id]
        source = source._replace(forks=source.forks - 1)
        if source.forks > 0 or not source.deleted:
            return Change((source,), tuple(removed))
        removed.append(source_id)
        source_id = source.config.source_id
    return Change((), tuple(removed))


def _touch(catalog: Catalog, batch: Batch) -> Change:
    state = _stream(catalog, batch)
    return Change((state._replace(last_touch_ms=max(state.last_touch_ms, batch.created_at_ms)),))


def _metadata(catalog: Catalog, batch: Batch) -> Change:
    metadata = batch.field_items()[Tag.METADATA]
    return Change((_stream(catalog, batch)._replace(metadata=metadata),))


def _trim(catalog: Catalog, batch: Batch) -> Change:
    start = to_int(batch.field_items()[Tag.START])
    state = _reaching(catalog, _stream(catalog, batch), start)
    if not state.start <= start <= state.tail:
        raise BadBatch(f"retained start {start} is not from {state.start} to {state.tail}")
    return Change((state._replace(start=start),))


def _snapshot(catalog: Catalog, batch: Batch) -> Change:
    snapshot = snapshot_from_fields(batch.field_items())
    state = _reaching(catalog, _stream(catalog, batch), snapshot.ordinal)
    oldest = state.start if state.snapshot is None else state.snapshot.ordinal + 1
    if not oldest <= snapshot.ordinal <= state.tail:
        raise BadBatch(f"snapshot at {snapshot.ordinal} is not from {oldest} to {state.tail}")
    last_touch_ms = max(state.last_touch_ms, batch.created_at_ms)
    return Change((state._replace(snapshot=snapshot, last_touch_ms=last_touch_ms),))


def snapshot_fields(snapshot: Snapshot | None) -> list[tuple[Tag, Value | None]]:
    """The fields that :func:`snapshot_from_fields` reads; of None: no field at all."""
    values = (None,) * len(_SNAPSHOT_TAGS) if snapshot is None else snapshot
    return list(zip(_SNAPSHOT_TAGS, values, strict=True))


def snapshot_from_fields(fields: Fields) -> Snapshot:
    """The snapshot that a SNAPSHOT batch, or a stream's entry of a checkpoint, carries."""
    ordinal, digest, length, content_type, file = (fields[tag] for tag in _SNAPSHOT_TAGS)
    return Snapshot(to_int(ordinal), digest, to_int(length), to_text(content_type), to_int(file))


def snapshots_released(catalog: Catalog, change: Change) -> set[int]:
    """The files of snapshots that ``change``, not yet installed, takes from ``catalog``."""
    after = {state.config.stream_id: state.snapshot for state in change.streams}
    released = set()
    for stream_id in (*after, *change.removed):
        before = catalog.streams.get(stream_id)
        if before is not None and before.snapshot not in (None, after.get(stream_id)):
            assert before.snapshot is not None
            released.add(before.snapshot.file)
    return released


def _create_bucket(catalog: Catalog, batch: Batch) -> Change:
    bucket = to_text(batch.field_items()[Tag.BUCKET])
    if bucket in catalog.buckets:
        raise BadBatch(f"bucket {bucket} is created twice")
    return Change(buckets=((bucket, BucketState(bucket, batch.created_at_ms, 0)),))


def _delete_bucket(catalog: Catalog, batch: Batch) -> Change:
    bucket = to_text(batch.field_items()[Tag.BUCKET])
    if catalog.buckets[bucket].streams:
        raise BadBatch(f"bucket {bucket} is deleted but not empty")
    return Change(buckets=((bucket, None),))


def _nothing(_catalog: Catalog, _batch: Batch) -> Change:
    return NO_CHANGE


_APPLY = {
    Kind.CREATE: _create,
    Kind.DELETE: _delete,
    Kind.EXPIRE: _expire,
    Kind.TOUCH: _touch,
    Kind.METADATA: _metadata,
    Kind.TRIM: _trim,
    Kind.CREATE_BUCKET: _create_bucket,
    Kind.DELETE_BUCKET: _delete_bucket,
    Kind.MARK: _nothing,
    Kind.SEAL: _nothing,
    Kind.LOST: _nothing,
    Kind.SNAPSHOT: _snapshot,
}
