"""The parts of paths: what their names in the table of routes mean."""

from __future__ import annotations

from typing import Final

from tailrace import limits
from tailrace.offset import TOKEN_PATTERN
from tailrace_server.openapi.shape import Json, Parameter
from tailrace_server.protocol import bucket_name, session_query, subscription_request

_NAME: Final = r"^[^\u0000-\u001f\u007f-\u009f]+$"
_NO_SLASH: Final = r"^[^\u0000-\u001f\u007f-\u009f/]+$"


def _text(bytes_max: int, pattern: str = _NAME) -> Json:
    # A character is at least one byte, so this refuses no name that the server takes.
    return {"type": "string", "pattern": pattern, "maxLength": bytes_max}


def _part(name: str, description: str, schema: Json) -> tuple[str, Parameter]:
    return name, Parameter("path", name, description, schema, required=True)


_SLASHES: Final = "Slashes may stand in it as they are; `%2F` is another name."

PARTS: Final = dict(
    (
        _part(
            "session",
            f"A session's id: at most {session_query.SESSION_ID_BYTES_MAX} bytes of UTF-8 without "
            "control characters; a slash is `%2F`.",
            _text(session_query.SESSION_ID_BYTES_MAX),
        ),
        _part(
            "bucket",
            "A bucket's id.",
            {"type": "string", "pattern": f"^{limits.BUCKET_PATTERN}$"},
        ),
        _part(
            "stream",
            f"A stream's id: at most {bucket_name.ID_BYTES_MAX} bytes of UTF-8 with its bucket's, "
            "without control characters, slashes and `..`.",
            _text(bucket_name.ID_BYTES_MAX, _NO_SLASH),
        ),
        _part("stream_name", f"A stream's path. {_SLASHES}", _text(limits.STREAM_NAME_BYTES_MAX)),
        _part("linked_stream", f"A stream's path. {_SLASHES}", _text(limits.STREAM_NAME_BYTES_MAX)),
        _part(
            "subscription",
            "A subscription's id, without control characters.",
            _text(subscription_request.ID_BYTES_MAX),
        ),
        _part("offset", "An offset.", {"type": "string", "pattern": TOKEN_PATTERN}),
    )
)
