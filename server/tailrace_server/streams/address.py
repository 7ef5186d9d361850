"""Which stream a request is about, and whether its key may do that to it."""

from __future__ import annotations

from typing import Final

from tailrace.errors import Rejected
from tailrace.operation import StreamKey
from tailrace.outcome import Reason, Rejection
from tailrace_server.config import FLAT_BUCKET, SESSIONS_BUCKET
from tailrace_server.context import Call
from tailrace_server.keys import Grant, Right
from tailrace_server.protocol import bucket_name, errors, headers, render, session_query
from tailrace_server.protocol.errors import NOT_FOUND, RequestError, bad_request
from tailrace_server.protocol.message import Response
from tailrace_server.protocol.stream_name import is_reserved, stream_name
from tailrace_server.protocol.target import path_segments, percent_decode

FLAT_PREFIX: Final = "/v1/stream/"
BUCKET_PREFIX: Final = "/ds/"
_BUCKET_PATH_SEGMENTS: Final = 3


def stream_key(call: Call, right: Right) -> StreamKey:
    """The stream of a routed request, if the request's key has ``right`` to it.

    Keys are limited by sessions; all other streams take a key for every session. What a
    key may not do is told like what is not there.
    """
    name = call.params.get("stream_name")
    if name is None:
        key = bucket_key(call.params["bucket"], call.params["stream"])
    else:
        key = flat_key(name)
    if not may(call.grant, right, key):
        raise no_stream(key.stream)
    return key


def written_key(call: Call) -> StreamKey:
    """The stream that a request makes or appends to; 405 for a session.

    A stored event of a session is complete (``id``, ``offset``, ``created_at``), which only
    the Sessions API sees to.
    """
    key = stream_key(call, Right.APPEND)
    if key.bucket == SESSIONS_BUCKET:
        raise RequestError(
            405,
            errors.METHOD_NOT_ALLOWED,
            "a session is written through /v1/sessions/{id}/events and forked through "
            "/v1/sessions/{id}/fork; here it can be read, trimmed and deleted",
            ((headers.ALLOW, "DELETE, GET, HEAD, OPTIONS"),),
        )
    return key


def may(grant: Grant, right: Right, key: StreamKey) -> bool:
    if key.bucket == SESSIONS_BUCKET:
        return grant.allows(right, key.stream)
    return grant.has(right) and grant.unlimited


def flat_key(name: str) -> StreamKey:
    """The stream ``name`` of the flat surface; 404 for what belongs to subscriptions."""
    if is_reserved(name):
        raise no_stream(name)
    return StreamKey(FLAT_BUCKET, name)


def bucket_key(bucket: str, stream: str, field: str | None = None) -> StreamKey:
    """The stream at ``/ds/{bucket}/{stream}``; 400 for a bad id.

    404 in buckets that are the server's own, and in the flat one, whose names have rules
    that this surface does not know.
    """
    bucket_name.bucket_id(bucket, field or "bucket id")
    if bucket == SESSIONS_BUCKET:
        return StreamKey(bucket, session_query.session_id(stream, field or "session id"))
    if bucket_name.is_internal(bucket):
        raise no_stream(stream)
    if bucket == FLAT_BUCKET:
        raise RequestError(
            404, NOT_FOUND, f"the streams of bucket {bucket} are at {FLAT_PREFIX}{{path}}"
        )
    return StreamKey(bucket, bucket_name.stream_id(bucket, stream, field or "stream id"))


def source_key(path: str, field: str) -> StreamKey:
    """The stream at ``path``, a URL path of this server as it was sent (section 4.2)."""
    if path.startswith(FLAT_PREFIX):
        return flat_key(stream_name(path.removeprefix(FLAT_PREFIX), field))
    if path.startswith(BUCKET_PREFIX):
        segments = path_segments(path)
        if len(segments) == _BUCKET_PATH_SEGMENTS:
            bucket, stream = (percent_decode(segment, field) for segment in segments[1:])
            return bucket_key(bucket, stream, field)
    elif not path.startswith("/"):
        raise bad_request(field, "is the path of a stream on this server, such as /v1/stream/a")
    raise RequestError(404, NOT_FOUND, f"{field}: there is no stream at {path[:200]!r}")


def no_stream(name: str) -> RequestError:
    """The one 404 for a stream that is not there and for one that is not the caller's."""
    return RequestError(404, NOT_FOUND, f"there is no stream {name!r} for this key")


def refusal(error: Rejected, key: StreamKey) -> RequestError:
    rejection = error.rejection
    if rejection.reason in (Reason.STREAM_NOT_FOUND, Reason.BUCKET_NOT_FOUND):
        return no_stream(key.stream)
    return RequestError(render.STATUS[rejection.reason], rejection.reason.value, rejection.message)


def refused(rejection: Rejection, key: StreamKey) -> Response:
    """The answer to a rejection, with all it tells of the stream."""
    if rejection.reason in (Reason.STREAM_NOT_FOUND, Reason.BUCKET_NOT_FOUND):
        return no_stream(key.stream).response()
    return render.rejection(rejection)
