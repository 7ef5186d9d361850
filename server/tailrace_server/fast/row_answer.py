"""The answer to plain appends for C to fill in: cut out of one that was made the general way.

How an offset and an entity tag are written is found in that answer, not told to C, and each
form has shown for the ends of its range that what C makes of it is the general answer.
"""

from __future__ import annotations

import re
import time
from typing import Any, Final, NamedTuple

import structlog

from tailrace.limits import ORDINAL_MAX
from tailrace.offset import encode_offset
from tailrace.outcome import Appended
from tailrace_server._reactor import ffi, lib
from tailrace_server.fast import writer
from tailrace_server.protocol import render

_BYTES_MAX: Final[int] = lib.TR_FORM_BYTES_MAX
_STREAM_ID: Final = 0x5A4D504C45
_STREAM_ID_MAX: Final = 2**64 - 1
_DIGITS: Final = "7654321987654321987"
_SHORT_DIGITS: Final = len(encode_offset(0))
"""Ordinals of fewer digits have tokens as long as this one."""
_TRIES: Final = 3

_log = structlog.get_logger("tailrace.front")


class Appending(NamedTuple):
    """``form`` (``struct tr_form``) is right for tails from ``first`` to ``last``."""

    second: int
    form: Any
    first: int
    last: int


class BadForm(Exception):
    """What C makes of a form is not the general answer: an error of ours."""


def appended(stream_id: int, ordinal: int) -> Appended:
    """The outcome for one plain record."""
    return Appended(stream_id, ordinal, ordinal + 1, False, False, False, 0)


def general(stream_id: int, tail: int) -> bytes:
    """The answer to a plain append, on a connection that stays."""
    return writer.joined(render.appended(appended(stream_id, tail - 1)), "POST", close=False)


def fill(form: Any, stream_id: int, tail: int) -> bytes:
    """What C makes of a form."""
    out = ffi.new("uint8_t[]", _BYTES_MAX)
    return bytes(ffi.buffer(out, lib.tr_form_fill(form, stream_id, tail, out)))


def digit_class(tail: int) -> int:
    """Tails of one class have a form in common."""
    return max(len(str(tail)), _SHORT_DIGITS)


def make_form(digits: int) -> Appending:
    """The form of this moment for one class of tails. Raises :class:`BadForm`."""
    for _ in range(_TRIES):
        second = int(time.time())
        found = _cut(second, digits)
        samples = [(i, t) for i in (1, _STREAM_ID_MAX) for t in (found.first, found.last)]
        same = all(fill(found.form, i, t) == general(i, t) for i, t in samples)
        if second == int(time.time()):  # else the Date has changed meanwhile
            if not same:
                break
            return found
    raise BadForm("an append's answer is not its form filled in")


def _cut(second: int, digits: int) -> Appending:
    short = digits == _SHORT_DIGITS
    tail = int(_DIGITS[: digits - 1 if short else digits])
    holes = {b"%x" % _STREAM_ID: (lib.TR_HOLE_STREAM, 0), b"%d" % tail: (lib.TR_HOLE_TAIL, 0)}
    if short:
        holes[encode_offset(tail).encode("ascii")] = (lib.TR_HOLE_TAIL, digits)
    # The longest first: a token may hold the number as it is.
    found = sorted(((len(hole), hole) for hole in holes), reverse=True)
    pattern = b"|".join(hole for _, hole in found)
    parts = re.split(b"(%b)" % pattern, general(_STREAM_ID, tail))
    pieces = [
        (len(literal), *holes.get(hole, (lib.TR_HOLE_NONE, 0)))
        for literal, hole in zip(parts[::2], [*parts[1::2], b""], strict=True)
    ]
    literals = b"".join(parts[::2])
    if len(pieces) > lib.TR_FORM_PIECES_MAX or len(literals) > _BYTES_MAX:
        raise BadForm("an append's answer is too long to be a form")
    form = ffi.new(
        "struct tr_form *",
        {
            "piece_count": len(pieces),
            "byte_count": len(literals),
            "pieces": pieces,
            "bytes": literals,
        },
    )
    first = 1 if short else 10 ** (digits - 1)
    return Appending(second, form, first, min(10**digits - 1, ORDINAL_MAX))


class RowForms:
    """The forms of now. For one thread at a time."""

    def __init__(self) -> None:
        self._forms: dict[int, Appending] = {}
        self._broken = False

    def of_tail(self, tail: int) -> Appending | None:
        """A form for ``tail``; None if there is none, and then never again."""
        digits = digit_class(tail)
        found = self._forms.get(digits)
        if found is not None and found.second == int(time.time()):
            return found
        if self._broken:
            return None
        try:
            found = self._forms[digits] = make_form(digits)
        except BadForm:
            self._broken = True
            _log.exception("appends are answered one by one")
            return None
        return found
