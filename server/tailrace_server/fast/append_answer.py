"""The answer to the append that nearly every append is, by filling in what changes.

The form is cut out of an answer made the general way, so nothing is spelled a second time;
it holds for a second, like the Date in it.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from tailrace.offset import encode_offset
from tailrace.outcome import Appended
from tailrace_server.fast import writer
from tailrace_server.protocol import caching, render

_SAMPLE: Final = Appended(0x5A4D504C45, 7_654_320, 7_654_321, False, False, False, 0)


class Form(NamedTuple):
    """The answer's bytes before the offset, between it and the entity tag, and behind that."""

    second: int
    before: bytes
    between: bytes
    behind: bytes

    def fill(self, outcome: Appended) -> bytes:
        """The whole answer to an outcome that is :func:`is_plain`, on a connection that stays."""
        tag = caching.tail_tag(outcome.stream_id, outcome.tail, closed=False)
        token = encode_offset(outcome.tail)
        return b"".join(
            (self.before, token.encode("ascii"), self.between, tag.encode("ascii"), self.behind)
        )


def is_plain(outcome: Appended) -> bool:
    """Whether nothing but the offset and the tag is told of ``outcome``."""
    return outcome.producer_epoch is None and not outcome.closed


def make_form(second: int) -> Form:
    """The form of this moment; ``second`` is its time."""
    whole = writer.joined(render.appended(_SAMPLE), "POST", close=False)
    tag = caching.tail_tag(_SAMPLE.stream_id, _SAMPLE.tail, closed=False).encode("ascii")
    before, between = whole.split(encode_offset(_SAMPLE.tail).encode("ascii") + b"\r\n")
    between, behind = between.split(tag)
    return Form(second, before, b"\r\n" + between, behind)


class Forms:
    """The form of now. For any thread."""

    def __init__(self) -> None:
        self._form = make_form(int(time.time()))

    def now(self) -> Form:
        second = int(time.time())
        form = self._form
        if form.second != second:
            form = self._form = make_form(second)
        return form
