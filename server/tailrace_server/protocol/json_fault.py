"""What is wrong with a JSON body, in the words of whoever sent it: what to change, and where.

The decoder speaks of Python's types, and of truncation where half a surrogate pair swallowed
what follows.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

import msgspec

from tailrace.limits import KIB

LOOKED_AT_BYTES_MAX: Final = 256 * KIB
"""Half a pair is looked for so far: a body of nothing but escapes takes a second for 16 MiB."""

_ESCAPE: Final = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_SURROGATE_TROUBLE: Final = re.compile("truncated|hex escape|surrogate")
_PLACE: Final = re.compile(r"(.*) - at `\$\.?(.+)`", re.DOTALL)
_EXPECTED: Final = re.compile(r"Expected `(.+)`, got `(.+)`")
_PAIR_BYTES: Final = len(r"\ud83d\ude00")
_TYPE: Final = re.compile(r"\b(?:str|int|float|bool)\b")
_JSON_TYPES: Final = {"str": "string", "int": "whole number", "float": "number", "bool": "boolean"}


def syntax_fault(body: bytes, error: Exception) -> str:
    """Why ``body`` is no JSON, where ``error`` is what the decoder raised on it."""
    if body.startswith(codecs.BOM_UTF8):
        return "begins with a byte order mark; JSON is sent without one"
    message = str(error)
    lone = _lone_surrogate(body) if _SURROGATE_TROUBLE.search(message) else None
    if lone is None:
        return f"is not valid JSON: {message}"
    escape = body[lone : lone + 6].decode("ascii")
    return (
        f"is not valid JSON: {escape} (byte {lone}) is half of a surrogate pair; send both "
        "halves, or \\ufffd for text that was cut"
    )


def _lone_surrogate(body: bytes) -> int | None:
    """Where the first escape stands that is half of a pair without the other half.

    None if there is none in the first LOOKED_AT_BYTES_MAX bytes.
    """
    high: re.Match[bytes] | None = None
    for escape in _ESCAPE.finditer(body, 0, LOOKED_AT_BYTES_MAX):
        unit = 0 if escape[1] is None else int(escape[1], 16)
        second = 0xDC00 <= unit < 0xE000
        if high is not None:
            if not second or escape.start() != high.end():
                break
            high = None
        elif second:
            return escape.start()
        elif 0xD800 <= unit < 0xDC00:
            high = escape
    if high is None or high.start() + _PAIR_BYTES > LOOKED_AT_BYTES_MAX:
        return None
    return high.start()


def shape_fault(error: msgspec.ValidationError) -> tuple[str, str]:
    """``(field, message)`` for JSON that is not of the shape its route takes."""
    message, field = str(error), "body"
    if (placed := _PLACE.fullmatch(message)) is not None:
        message, field = placed.groups()
    if (expected := _EXPECTED.fullmatch(message)) is not None:
        wanted, found = (_TYPE.sub(_json_type, text) for text in expected.groups())
        message = f"must be {wanted.replace(' | ', ' or ')}, not {found}"
    return field, message


def _json_type(name: re.Match[str]) -> str:
    return _JSON_TYPES[name[0]]
