"""One event, and the text and type that are searched in it.

Text is every string and number *value* of the event, at any depth, except

* the event's own (top-level) ``id``, ``offset``, ``created_at``, ``processed_at`` and
  ``type``: they are looked up, not searched;
* base64: the ``data`` of an object whose ``type`` is ``"base64"``, data URLs, and long
  strings of nothing but that alphabet.

Keys are not text. A value that is not JSON has no text and no type; it is still a
document, so that the index and the log agree on what there is.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec

_OWN_FIELDS: Final = frozenset({"id", "offset", "created_at", "processed_at", "type"})

BLOB_CHARS_MIN: Final = 256
_BLOB_LINE_CHARS_MIN: Final = 60  # MIME (RFC 2045) breaks at 76, PEM (RFC 7468) at 64
_BLOB: Final = re.compile(
    rf"(?:[A-Za-z0-9+/_-]{{{_BLOB_LINE_CHARS_MIN},}}[\r\n]+)*[A-Za-z0-9+/_-]*={{0,2}}\s*"
)
_DATA_URL: Final = re.compile(r"data:[^,\s]{0,256};base64,")

# Numbers as they stand in the source: no rounding, and none too large.
_decoder: Final = msgspec.json.Decoder(float_hook=str)
# Not JSON, or JSON that the decoder does not take: too deep, or an integer of a thousand digits.
_NOT_DECODED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


class Document(NamedTuple):
    """An event to index. ``body`` is one JSON value."""

    stream_id: int
    ordinal: int
    created_at_ms: int
    body: bytes | memoryview


def is_blob(text: str) -> bool:
    """Whether a string is base64, which nobody searches for."""
    if len(text) < BLOB_CHARS_MIN:
        return False
    return _BLOB.fullmatch(text) is not None or _DATA_URL.match(text) is not None


def _collect(value: object, out: list[str]) -> None:
    if type(value) is str:
        if len(value) < BLOB_CHARS_MIN or not is_blob(value):
            out.append(value)
    elif type(value) is dict:
        skipped = "data" if value.get("type") == "base64" else None
        for key, inner in value.items():
            if key != skipped:
                _collect(inner, out)
    elif type(value) is list:
        for inner in value:
            _collect(inner, out)
    elif type(value) is int:
        out.append(str(value))


def display_values(body: bytes | memoryview) -> list[str]:
    """The text of an event that is worth showing: without the types of its blocks too."""
    try:
        return _displayed(_decoder.decode(body))
    except _NOT_DECODED:
        return []


def _displayed(value: object) -> list[str]:
    out: list[str] = []
    stack = [value]
    top = True
    while stack:
        item = stack.pop()
        if type(item) is dict:
            hidden = _OWN_FIELDS if top else {"type"}
            inner = [v for k, v in item.items() if k not in hidden]
            if item.get("type") == "base64":
                inner = [v for k, v in item.items() if k not in hidden and k != "data"]
            stack.extend(reversed(inner))
        elif type(item) is list:
            stack.extend(reversed(item))
        else:
            _collect(item, out)
        top = False
    return out


def values_and_type(body: bytes | memoryview) -> tuple[list[str], str | None]:
    """The text of an event, value by value in its order, and its type."""
    out: list[str] = []
    try:
        value = _decoder.decode(body)
        if type(value) is not dict:
            _collect(value, out)
            return out, None
        kind = value.get("type")
        for key, inner in value.items():
            if key not in _OWN_FIELDS and not (key == "data" and kind == "base64"):
                _collect(inner, out)
        return out, kind if type(kind) is str else None
    except _NOT_DECODED:
        return [], None
