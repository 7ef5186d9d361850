"""The path of a flat stream ↔ its name.

``/v1/stream/{path}``: the path may hold slashes. A name is the path percent-decoded, except
that ``%2F`` and ``%25`` stay as they are: so ``a%2Fb`` and ``a/b`` are two streams, as
RFC 3986 section 2.2 has it, and no two names share one path.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from tailrace import limits
from tailrace_server.protocol.errors import bad_request
from tailrace_server.protocol.target import has_control, percent_decode

RESERVED: Final = "__ds"
"""The first segment that belongs to subscriptions (protocol section 6.1)."""

_KEPT: Final = re.compile(r"%(2[Ff]|25)")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
_DOTS: Final = frozenset({".", ".."})


def stream_name(raw: str, field: str = "stream path") -> str:
    """The name of the stream at ``raw``, a path as it was sent.

    400 for what is no percent-encoded UTF-8, for control characters, for ``.`` and ``..``
    segments (protocol section 12.2: no path traversal) and for names that are too long.
    """
    if len(raw) <= limits.STREAM_NAME_BYTES_MAX and _PLAIN.fullmatch(raw) is not None:
        return raw
    if "%" in raw:
        # Encoding their percent sign once more makes decoding give them back.
        name = percent_decode(_KEPT.sub(_protect, raw), field)
    else:
        name = percent_decode(raw, field)
    if not name:
        raise bad_request(field, "is empty; a stream needs a name")
    if len(name.encode("utf-8")) > limits.STREAM_NAME_BYTES_MAX:
        raise bad_request(field, f"must be at most {limits.STREAM_NAME_BYTES_MAX} bytes")
    if has_control(name):
        raise bad_request(field, "must not hold control characters")
    if not _DOTS.isdisjoint(name.split("/")):
        raise bad_request(field, "must not hold '.' or '..' as a segment")
    return name


def is_reserved(name: str) -> bool:
    return name.partition("/")[0] == RESERVED


def stream_path(name: str) -> str:
    """The path that :func:`stream_name` reads as ``name``, in its one canonical form."""
    return quote(name, safe="/%!$&'()*+,;=:@")


def _protect(match: re.Match[str]) -> str:
    return "%25" + match[1].upper()
