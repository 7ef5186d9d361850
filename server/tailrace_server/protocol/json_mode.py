"""JSON bodies ↔ records, without ever writing a value anew (protocol section 9.1).

A body is checked once and cut into the raw bytes of its values: numbers of any size,
spacing inside values and repeated keys reach the reader as they were sent.

msgspec checks the grammar even of what it skips (literals, numbers, escapes, surrogate
pairs), but not that raw bytes are UTF-8 and not how deep they nest; both are done here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from tailrace_server.protocol.errors import RequestError, bad_request, too_large
from tailrace_server.protocol.json_fault import syntax_fault

NESTING_MAX: Final = 120
"""Depth of one record: the page around it stays under the 128 levels strict parsers allow."""

_SPACE: Final = b" \t\r\n"
_VALUES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_VALUE: Final = msgspec.json.Decoder(msgspec.Raw)
_LINE_BREAKS_TO_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*+"', re.DOTALL)
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*+"|[\[{]|[\]}]', re.DOTALL)
_SCALAR: Final = re.compile(rb"[^,}\] \t\r\n]+")
_BLANK: Final = re.compile(rb"[ \t\r\n]*")


class Member(NamedTuple):
    """One member of a JSON object: its key, and where it stands in the object's bytes.

    ``start`` is the key's opening quote, ``value`` where the value starts, ``end`` the byte
    after the value.
    """

    key: str
    start: int
    value: int
    end: int


def check_utf8(body: bytes) -> None:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_request("body", f"is not UTF-8 (byte {error.start})") from None


def syntax_error(body: bytes, error: Exception) -> RequestError:
    """400 for what a msgspec decoder raised on bytes from outside."""
    if isinstance(error, RecursionError):
        return bad_request("body", f"nests more than {NESTING_MAX} levels deep")
    return bad_request("body", syntax_fault(body, error))


def split(body: bytes, *, values_max: int) -> list[bytes]:
    """The values of a JSON body: the elements of an array, or the one value it is.

    Exactly one level is flattened; each value is free of surrounding whitespace and raw
    line breaks. 400 if the body is not JSON, 413 beyond ``values_max`` values. An empty
    array gives an empty list: PUT takes it, POST refuses it (section 9.1.3).
    """
    check_utf8(body)
    try:
        if body.lstrip(_SPACE)[:1] == b"[":
            raws = _VALUES.decode(body)
        else:
            raws = [_VALUE.decode(body)]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise syntax_error(body, error) from None
    return tidy(raws, values_max=values_max)


def tidy(
    raws: Sequence[bytes | msgspec.Raw], *, values_max: int, field: str = "body"
) -> list[bytes]:
    """Raw values as records: bounded in number and depth, on one line each."""
    if len(raws) > values_max:
        raise too_large(
            f"{field}: holds {len(raws)} values; at most {values_max} fit in one request, "
            "send the rest in the next"
        )
    values = []
    for index, raw in enumerate(raws):
        value = one_line(bytes(raw).strip(_SPACE))
        if too_deep(value):
            raise bad_request(f"{field}[{index}]", f"nests more than {NESTING_MAX} levels deep")
        values.append(value)
    return values


def one_line(value: bytes) -> bytes:
    """The same JSON without CR and LF.

    A JSON string cannot hold them raw, so each one stands between tokens and may be a space.
    """
    if b"\n" in value or b"\r" in value:
        return value.translate(_LINE_BREAKS_TO_SPACES)
    return value


def too_deep(value: bytes) -> bool:
    """Whether valid JSON nests deeper than :data:`NESTING_MAX`."""
    if value.count(b"[") + value.count(b"{") <= NESTING_MAX:
        return False
    depth = 0
    for token in _TOKEN.finditer(value):
        first = value[token.start()]
        if first in b"[{":
            depth += 1
            if depth > NESTING_MAX:
                return True
        elif first in b"]}":
            depth -= 1
    return False


def members(value: bytes) -> Iterator[Member]:
    """The members of a valid JSON object, in order, repeated keys included."""
    position = _blank(value, 1)
    while value[position] != 0x7D:  # }
        start = position
        position = _string(value, position)
        text = value[start + 1 : position - 1]
        key = (
            msgspec.json.decode(value[start:position], type=str)
            if b"\\" in text
            else text.decode("utf-8")
        )
        at = _blank(value, _blank(value, position) + 1)  # over the colon
        end = _value(value, at)
        yield Member(key, start, at, end)
        position = _blank(value, end)
        if value[position] == 0x2C:  # ,
            position = _blank(value, position + 1)


def without(value: bytes, keys: frozenset[str]) -> bytes:
    """A valid JSON object without the members named; the others as they were sent."""
    kept = [value[m.start : m.end] for m in members(value) if m.key not in keys]
    return b"{" + b",".join(kept) + b"}"


def _blank(value: bytes, position: int) -> int:
    match = _BLANK.match(value, position)
    assert match is not None
    return match.end()


def _string(value: bytes, position: int) -> int:
    match = _STRING.match(value, position)
    assert match is not None, "the caller has checked that this is JSON"
    return match.end()


def _value(value: bytes, position: int) -> int:
    first = value[position]
    if first == 0x22:  # "
        return _string(value, position)
    if first in b"[{":
        depth = 0
        for token in _TOKEN.finditer(value, position):
            kind = value[token.start()]
            if kind in b"[{":
                depth += 1
            elif kind in b"]}":
                depth -= 1
                if depth == 0:
                    return token.end()
    match = _SCALAR.match(value, position)
    assert match is not None, "the caller has checked that this is JSON"
    return match.end()
