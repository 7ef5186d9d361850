"""Buckets themselves: make, look at, delete, list.

Keys are limited by sessions, so a bucket takes a key for every session.
"""

from __future__ import annotations

import tailrace
from tailrace.errors import Rejected
from tailrace.limits import LIST_LIMIT_MAX
from tailrace.offset import encode_offset
from tailrace.operation import CreateBucket, DeleteBucket
from tailrace.outcome import BucketDone, Reason, Rejection
from tailrace_server.config import BUCKETS
from tailrace_server.context import Answer, Call, Context
from tailrace_server.keys import Right
from tailrace_server.protocol import bucket_name, headers, parse, render
from tailrace_server.protocol.errors import NOT_FOUND, RequestError


async def put_bucket(context: Context, call: Call) -> Answer:
    """201; 409 if it is there: whoever makes a bucket knows that it is empty."""
    bucket = _bucket(call, Right.MANAGE)
    outcome = await context.bridge.perform(CreateBucket(bucket))
    if isinstance(outcome, Rejection):
        return _refused(outcome, bucket)
    assert isinstance(outcome, BucketDone)
    return render.empty(201, ((headers.LOCATION, call.request.path),))


async def get_bucket(context: Context, call: Call) -> Answer:
    info = _info(context, _bucket(call, Right.READ))
    return render.json_value(
        200,
        {
            "bucket_id": info.bucket,
            "streams": info.streams,
            "created_at_ms": info.created_at_ms,
        },
    )


async def delete_bucket(context: Context, call: Call) -> Answer:
    """204; 409 unless it is empty. The buckets that other surfaces live in stay."""
    bucket = _bucket(call, Right.MANAGE)
    if bucket in BUCKETS:
        raise RequestError(
            409,
            "bucket_reserved",
            f"bucket {bucket} belongs to the server and cannot be deleted",
        )
    outcome = await context.bridge.perform(DeleteBucket(bucket))
    if isinstance(outcome, Rejection):
        return _refused(outcome, bucket)
    assert isinstance(outcome, BucketDone)
    return render.empty(204)


async def list_streams(context: Context, call: Call) -> Answer:
    """One page of the bucket's streams, sorted by id (by its UTF-8)."""
    bucket = _bucket(call, Right.READ)
    prefix = call.query.single("prefix") or ""
    after = call.query.single("after")
    limit = parse.limit(call.query, maximum=LIST_LIMIT_MAX) or LIST_LIMIT_MAX

    def page() -> tailrace.StreamPage:
        return context.store.list_streams(bucket, prefix=prefix, after=after, limit=limit)

    try:
        found = await context.bridge.search(page)
    except Rejected as error:
        return _refused(error.rejection, bucket)
    streams = [_listed(head) for head in found.streams]
    return render.json_value(
        200,
        {
            "bucket_id": bucket,
            "prefix": prefix,
            "stream_count": len(streams),
            "streams": streams,
            "next_cursor": found.streams[-1].key.stream if found.has_more else None,
            "has_more": found.has_more,
        },
    )


def _listed(head: tailrace.Head) -> dict[str, object]:
    return {
        "stream_id": head.key.stream,
        "status": "Closed" if head.closed else "Open",
        "content_type": head.content_type,
        "tail_offset": encode_offset(head.tail),
        "created_at_ms": head.created_at_ms,
        "last_write_at_ms": head.last_write_ms,
    }


def _bucket(call: Call, right: Right) -> str:
    """The bucket of a routed request, if the request's key has ``right`` to all of it."""
    bucket = bucket_name.bucket_id(call.params["bucket"])
    if bucket_name.is_internal(bucket) or not (call.grant.has(right) and call.grant.unlimited):
        raise _no_bucket(bucket)
    return bucket


def _info(context: Context, bucket: str) -> tailrace.BucketInfo:
    try:
        return context.store.bucket(bucket)
    except Rejected:
        raise _no_bucket(bucket) from None


def _no_bucket(bucket: str) -> RequestError:
    """The one 404 for a bucket that is not there and for one that is not the caller's."""
    return RequestError(404, NOT_FOUND, f"there is no bucket {bucket!r} for this key")


def _refused(rejection: Rejection, bucket: str) -> Answer:
    if rejection.reason is Reason.BUCKET_NOT_FOUND:
        raise _no_bucket(bucket)
    return render.rejection(rejection)
