"""``decide(catalog, operation) → plan | outcome``: every rule of the data model, without effects.

Operations come validated (:func:`tailrace.validate.operation`). Creating, appending and
snapshots have modules of their own; everything smaller is here.
"""

from __future__ import annotations

from tailrace.batch import Kind
from tailrace.catalog import Catalog
from tailrace.decide_append import decide_append
from tailrace.decide_create import decide_create
from tailrace.decide_snapshot import decide_snapshot
from tailrace.fields import Tag, encode_fields
from tailrace.offset import encode_offset
from tailrace.operation import (
    Append,
    Create,
    CreateBucket,
    Delete,
    DeleteBucket,
    Expire,
    Operation,
    PutSnapshot,
    SetMetadata,
    Touch,
    Trim,
)
from tailrace.outcome import BucketDone, Deleted, Reason, Rejection, Updated
from tailrace.plan import Context, Decision, Plan, live_stream, make_batch, no_bucket, too_large
from tailrace.stream import is_expired, needs_touch


def decide(catalog: Catalog, operation: Operation, context: Context) -> Decision:
    """What ``operation`` comes to in ``catalog``. Changes nothing."""
    if isinstance(operation, Append):
        return decide_append(catalog, operation, context)
    if isinstance(operation, Create):
        return decide_create(catalog, operation, context)
    if isinstance(operation, Delete):
        return _delete(catalog, operation, context)
    if isinstance(operation, Expire):
        return _expire(catalog, operation, context)
    if isinstance(operation, Touch):
        return _touch(catalog, operation, context)
    if isinstance(operation, SetMetadata):
        return _set_metadata(catalog, operation, context)
    if isinstance(operation, Trim):
        return _trim(catalog, operation, context)
    if isinstance(operation, PutSnapshot):
        return decide_snapshot(catalog, operation, context)
    if isinstance(operation, CreateBucket):
        return _create_bucket(catalog, operation, context)
    return _delete_bucket(catalog, operation, context)


def _create_bucket(catalog: Catalog, operation: CreateBucket, context: Context) -> Decision:
    bucket = operation.bucket
    if bucket in catalog.buckets:
        return Rejection(Reason.BUCKET_EXISTS, f"bucket {bucket} exists")
    fields = encode_fields([(Tag.BUCKET, bucket)])
    return Plan(make_batch(Kind.CREATE_BUCKET, 0, context.now_ms, fields), BucketDone(bucket))


def _delete_bucket(catalog: Catalog, operation: DeleteBucket, context: Context) -> Decision:
    bucket = operation.bucket
    state = catalog.buckets.get(bucket)
    if state is None:
        return no_bucket(bucket)
    if state.streams:
        return Rejection(
            Reason.BUCKET_NOT_EMPTY, f"bucket {bucket} still has {state.streams} streams"
        )
    fields = encode_fields([(Tag.BUCKET, bucket)])
    return Plan(make_batch(Kind.DELETE_BUCKET, 0, context.now_ms, fields), BucketDone(bucket))


def _delete(catalog: Catalog, operation: Delete, context: Context) -> Decision:
    state = live_stream(catalog, operation.key, context.now_ms)
    if isinstance(state, Rejection):
        return state
    stream_id = state.config.stream_id
    batch = make_batch(Kind.DELETE, 0, context.now_ms, b"", stream_id)
    return Plan(batch, Deleted(stream_id, soft=state.forks > 0))


def _expire(catalog: Catalog, operation: Expire, context: Context) -> Decision:
    state = catalog.find(operation.key)
    if state is None or not is_expired(state, context.now_ms):
        return Rejection(Reason.STREAM_NOT_FOUND, f"stream {operation.key} has not expired")
    stream_id = state.config.stream_id
    batch = make_batch(Kind.EXPIRE, 0, context.now_ms, b"", stream_id)
    return Plan(batch, Deleted(stream_id, soft=state.forks > 0))


def _touch(catalog: Catalog, operation: Touch, context: Context) -> Decision:
    state = live_stream(catalog, operation.key, context.now_ms)
    if isinstance(state, Rejection):
        return state
    outcome = Updated(state.config.stream_id, state.tail)
    if not needs_touch(state, context.now_ms):
        return outcome
    return Plan(make_batch(Kind.TOUCH, 0, context.now_ms, b"", state.config.stream_id), outcome)


def _set_metadata(catalog: Catalog, operation: SetMetadata, context: Context) -> Decision:
    state = live_stream(catalog, operation.key, context.now_ms)
    if isinstance(state, Rejection):
        return state
    fields = encode_fields([(Tag.METADATA, operation.metadata)])
    if (refusal := too_large(0, len(fields), 0, context)) is not None:
        return refusal
    batch = make_batch(Kind.METADATA, 0, context.now_ms, fields, state.config.stream_id)
    return Plan(batch, Updated(state.config.stream_id, state.tail))


def _trim(catalog: Catalog, operation: Trim, context: Context) -> Decision:
    state = live_stream(catalog, operation.key, context.now_ms)
    if isinstance(state, Rejection):
        return state
    if operation.ordinal > state.tail:
        return Rejection(
            Reason.TRIM_BEYOND_TAIL,
            f"retention to {encode_offset(operation.ordinal)} is beyond the tail "
            f"{encode_offset(state.tail)}",
            tail=state.tail,
            closed=state.closed,
        )
    if operation.ordinal < state.start:
        return Rejection(
            Reason.TRIM_BACKWARDS,
            f"what was before offset {encode_offset(state.start)} is already gone; "
            "retention never goes backwards",
            tail=state.tail,
            closed=state.closed,
        )
    snapshot = state.snapshot
    if snapshot is not None and operation.ordinal > snapshot.ordinal:
        return Rejection(
            Reason.TRIM_BEYOND_SNAPSHOT,
            f"retention to {encode_offset(operation.ordinal)} is newer than the visible snapshot, "
            f"at {encode_offset(snapshot.ordinal)}: what is between the two would be in neither",
            tail=state.tail,
            closed=state.closed,
            snapshot=snapshot,
        )
    outcome = Updated(state.config.stream_id, state.tail)
    if operation.ordinal == state.start:
        return outcome
    fields = encode_fields([(Tag.START, operation.ordinal)])
    batch = make_batch(Kind.TRIM, 0, context.now_ms, fields, state.config.stream_id)
    return Plan(batch, outcome)
