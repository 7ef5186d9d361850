"""Whole answers made by filling in a form: answers that differ in some values only.

A form is cut from an answer that was made the general way, so nothing is spelled a second time:
where each value stands, and how it is written, is found there. A form is used only if, filled
with other values, it gives what the general way gives; and for a second at most, because of the
Date in it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from operator import itemgetter
from typing import Any, Final, Generic, NamedTuple, TypeVar

import structlog

from tailrace.limits import ORDINAL_MAX
from tailrace.offset import encode_offset

_TRIES: Final = 3
_SHORT_DIGITS: Final = len(encode_offset(0))
_SHORT_END: Final = 10**_SHORT_DIGITS
"""Ordinals before this one have tokens that are as long as that of 0."""
_DIGITS: Final = "7654321987654321987"

STREAM_ID: Final = 0x5A4D504C45
"""A stream's id that a form can be cut at."""
STREAM_IDS: Final = (1, 2**64 - 1)
"""The ends of the range of ids, which a form is checked at."""

_log = structlog.get_logger("tailrace.front")

Values = tuple[Any, ...]
K = TypeVar("K", bound=Hashable)
F = TypeVar("F")


class BadForm(Exception):
    """A form filled in is not the general answer: an error of ours."""


class Hole(NamedTuple):
    """A place for a value: its index among them, and how it is written.

    ``kind`` is that of a printf conversion: ``d``, ``x``, or ``b`` for bytes. ``width``: a number
    begins with as many zeros as it takes to be so wide.
    """

    value: int
    kind: str = "d"
    width: int = 0


class Form(NamedTuple):
    """``literals`` are what stands before each of the ``holes``, and behind the last."""

    literals: tuple[bytes, ...]
    holes: tuple[Hole, ...]
    template: bytes
    pick: Callable[[Values], object]

    def fill(self, values: Values) -> bytes:
        """The whole answer."""
        return self.template % self.pick(values)


def cut(answer: bytes, holes: Mapping[bytes, Hole]) -> Form:
    """The form of an answer in which wherever one of these texts stands is a hole.

    Raises :class:`BadForm` if none does.
    """
    # The longest first: a token may hold the number as it is.
    texts = sorted(holes, key=len, reverse=True)
    parts = re.split(b"(" + b"|".join(map(re.escape, texts)) + b")", answer)
    literals, found = tuple(parts[::2]), tuple(holes[text] for text in parts[1::2])
    if not found:
        raise BadForm("an answer tells nothing of what it is to tell")
    written = [b"%%0%d%b" % (hole.width, hole.kind.encode("ascii")) for hole in found]
    pieces = [literal.replace(b"%", b"%%") for literal in literals]
    template = b"".join(piece + hole for piece, hole in zip(pieces, [*written, b""], strict=True))
    return Form(literals, found, template, itemgetter(*(hole.value for hole in found)))


def check(
    fill: Callable[[Values], bytes],
    general: Callable[[Values], bytes],
    samples: Iterable[Values],
) -> None:
    """Raise :class:`BadForm` unless ``fill`` gives what ``general`` does, for all ``samples``."""
    for values in samples:
        if fill(values) != general(values):
            raise BadForm("an answer is not its form filled in")


class OrdinalClass(NamedTuple):
    """Ordinals from ``first`` to ``last``, whose tokens are written in one way.

    ``sample`` is one that a form of theirs can be cut at.
    """

    first: int
    last: int
    sample: int

    def holes(self, value: int) -> dict[bytes, Hole]:
        """The ways in which the sample may be written in an answer, as holes for ``value``."""
        holes = {b"%d" % self.sample: Hole(value)}
        if self.last < _SHORT_END:
            holes[encode_offset(self.sample).encode("ascii")] = Hole(value, width=_SHORT_DIGITS)
        return holes


def class_number(ordinal: int) -> int:
    """Ordinals with one number are of one :class:`OrdinalClass`."""
    return _SHORT_DIGITS if ordinal < _SHORT_END else len(str(ordinal))


def ordinal_class(number: int) -> OrdinalClass:
    if number == _SHORT_DIGITS:
        return OrdinalClass(1, _SHORT_END - 1, int(_DIGITS[: number - 1]))
    last = min(10**number - 1, ORDINAL_MAX)
    return OrdinalClass(10 ** (number - 1), last, int(_DIGITS[:number]))


class Forms(Generic[K, F]):
    """The forms of now, each made when it is asked for. For any thread.

    ``make`` gives that of this moment for a key, of which there are not many; it raises
    :class:`BadForm`, after which there is never a form again.
    """

    def __init__(self, make: Callable[[K], F]) -> None:
        self._make = make
        self._broken = False
        # A second with its forms; replaced as a whole, so that no thread meets another's.
        self._kept: tuple[int, dict[K, F]] = (0, {})

    def of(self, key: K) -> F | None:
        """The form for ``key``; None if the answer has to be made the general way."""
        second, forms = self._kept
        form = forms.get(key)
        if form is not None and second == int(time.time()):
            return form
        return self._fresh(key)

    def _fresh(self, key: K) -> F | None:
        for _ in range(_TRIES):
            if self._broken:
                break
            second = int(time.time())
            error: BadForm | None = None
            try:
                form = self._make(key)
            except BadForm as bad:
                error = bad
            if second != int(time.time()):
                continue  # the Date may have changed meanwhile
            if error is not None:
                self._broken = True
                _log.error("answers are made one by one", exc_info=error)
                break
            kept = self._kept
            if kept[0] != second:
                kept = self._kept = second, {}
            kept[1][key] = form
            return form
        return None
