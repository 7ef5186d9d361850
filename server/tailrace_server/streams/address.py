"""Which stream a request is about, and whether its key may do that to it."""

from __future__ import annotations

from typing import Final

from tailrace.errors import Rejected
from tailrace.operation import StreamKey
from tailrace.outcome import Reason
from tailrace_server.config import FLAT_BUCKET
from tailrace_server.context import Call
from tailrace_server.keys import Right
from tailrace_server.protocol import render
from tailrace_server.protocol.errors import NOT_FOUND, RequestError, bad_request
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
    name = call.params["stream_name"]
    if is_reserved(name) or not (call.grant.has(right) and call.grant.unlimited):
        raise no_stream(name)
    return StreamKey(FLAT_BUCKET, name)


def source_key(path: str, field: str) -> StreamKey:
    """The stream at ``path``, a URL path of this server as it was sent (section 4.2)."""
    if path.startswith(FLAT_PREFIX):
        name = stream_name(path.removeprefix(FLAT_PREFIX), field)
        if not is_reserved(name):
            return StreamKey(FLAT_BUCKET, name)
    elif path.startswith(BUCKET_PREFIX):
        segments = path_segments(path)
        if len(segments) == _BUCKET_PATH_SEGMENTS:
            return StreamKey(*(percent_decode(segment, field) for segment in segments[1:]))
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
