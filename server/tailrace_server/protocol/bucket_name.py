"""The names in a path of the bucketed surface: ``/ds/{bucket}/{stream}``.

Both come percent-decoded. A ``/`` cannot be part of a stream id, so unlike on the flat
surface ``%2F`` needs no spelling of its own here.
"""

from __future__ import annotations

import re
from typing import Final

from tailrace import limits
from tailrace_server.protocol.errors import bad_request
from tailrace_server.protocol.target import has_control

ID_BYTES_MAX: Final = 122
"""A stream id and its bucket's id, together."""

RESERVED: Final = "streams"
"""Below a bucket this is its listing, so no stream has that id."""

_INTERNAL: Final = "__"
_BUCKET: Final = re.compile(limits.BUCKET_PATTERN)


def bucket_id(text: str, field: str = "bucket id") -> str:
    """400 for what is no bucket id."""
    if not _BUCKET.fullmatch(text):
        raise bad_request(field, f"{text[:80]!r} does not match {limits.BUCKET_PATTERN}")
    return text


def is_internal(bucket: str) -> bool:
    """Whether the bucket is the server's own: nobody sees, reads or writes it."""
    return bucket.startswith(_INTERNAL)


def stream_id(bucket: str, text: str, field: str = "stream id") -> str:
    """400 says which rule the id of a stream in ``bucket`` breaks."""
    if not text:
        raise bad_request(field, "is empty; a stream needs an id")
    if text == RESERVED:
        raise bad_request(field, f"{RESERVED!r} is reserved for the bucket's listing")
    if has_control(text):
        raise bad_request(field, "must not hold control characters")
    if "/" in text or ".." in text or text == ".":
        raise bad_request(field, "must not hold '/' or '..', nor be '.'")
    size = len(bucket) + len(text.encode("utf-8"))
    if size > ID_BYTES_MAX:
        raise bad_request(
            field, f"is {size} bytes of UTF-8 with its bucket's id; at most {ID_BYTES_MAX}"
        )
    return text
