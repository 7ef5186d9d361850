"""Server-Sent Events frames (protocol section 5.8).

A frame ends at an empty line, and lines end at CR, LF or CRLF. JSON records hold neither
raw. Some clients also split at U+0085, U+2028 and U+2029; a JSON value may escape those, and
outside strings they cannot stand, so they are escaped here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from tailrace.offset import encode_offset
from tailrace_server.protocol.message import Chunk

HEARTBEAT: Final = b": heartbeat\n\n"
OPENED: Final = b": open\n\n"

_LINE_ENDS: Final = re.compile(rb"\r\n|\r|\n")
_ESCAPES: Final = (
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
    (b"\xc2\x85", b"\\u0085"),
)
_NOT_A_NAME: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _one_line_json(text: bytes) -> bytes:
    for raw, escaped in _ESCAPES:
        if raw in text:
            text = text.replace(raw, escaped)
    return text


def json_array(records: Iterable[Chunk]) -> bytes:
    """One ``data`` event: a JSON array, an element a line."""
    inner = _one_line_json(b",\ndata: ".join(records))
    return b"event: data\ndata: [\ndata: " + inner + b"\ndata: ]\n\n"


def text(payload: Chunk) -> bytes:
    """One ``data`` event with UTF-8 text; each of its lines gets its own ``data:`` field.

    The space that may follow the colon stands only where the line itself begins with one,
    which a reader would take for it.
    """
    lines = _LINE_ENDS.split(bytes(payload))
    fields = [b"data: " + line if line.startswith(b" ") else b"data:" + line for line in lines]
    return b"event: data\n" + b"\n".join(fields) + b"\n\n"


def unfinished(payload: Chunk) -> bool:
    """Whether UTF-8 text ends inside a character, which a frame would tear in two."""
    for back, byte in enumerate(reversed(bytes(payload[-3:])), 1):
        if byte >= 0xC2:
            return back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4 if byte < 0xF5 else 0)
        if not 0x80 <= byte < 0xC0:
            return False
    return False


def binary(payload: Chunk) -> bytes:
    """One ``data`` event with base64 (RFC 4648), for content types that are no text."""
    return b"event: data\ndata: " + base64.b64encode(payload) + b"\n\n"


def control(
    next_ordinal: int,
    *,
    up_to_date: bool,
    closed: bool,
    cursor: int | None = None,
    tight: bool = False,
) -> bytes:
    """The ``control`` event that follows data, or stands alone when there is none.

    Its ``id`` is the offset of the last record before it (``-1`` at the start), so that a
    browser that reconnects with ``Last-Event-ID`` goes on right after it. ``tight`` leaves
    out the optional space after ``data:``; the protocol's official test suite looks for that.
    """
    fields: dict[str, object] = {"streamNextOffset": encode_offset(next_ordinal)}
    if up_to_date or closed:
        fields["upToDate"] = True
    if closed:
        fields["streamClosed"] = True
    elif cursor is not None:
        fields["streamCursor"] = str(cursor)
    last = encode_offset(next_ordinal - 1) if next_ordinal else "-1"
    data = msgspec.json.encode(fields)
    field = b"data:" if tight else b"data: "
    return b"event: control\n" + field + data + b"\nid: " + last.encode("ascii") + b"\n\n"


def message(name: str, ordinal: int, record: Chunk) -> bytes:
    """One record as its own event, named by its type, its offset as ``id``."""
    event = _NOT_A_NAME.sub(" ", name).encode("utf-8")
    offset = encode_offset(ordinal).encode("ascii")
    data = _one_line_json(bytes(record))
    return b"".join((b"event: ", event, b"\nid: ", offset, b"\ndata: ", data, b"\n\n"))


def retry(delay_ms: int) -> bytes:
    """How long a browser should wait before it connects again."""
    return b"retry: %d\n\n" % delay_ms
