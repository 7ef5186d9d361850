"""The answers to the appends that nearly all appends are, by filling in what changes.

The forms are cut out of answers made the general way, so nothing is spelled a second time;
they hold for a second, like the Date in them.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from tailrace.offset import encode_offset
from tailrace.outcome import Appended
from tailrace_server.fast import writer
from tailrace_server.protocol import caching, render

_SAMPLE: Final = Appended(0x5A4D504C45, 7_654_320, 7_654_321, False, False, False, 0)
_OF_PRODUCER: Final = _SAMPLE._replace(producer_epoch=987_654_321, producer_seq=898_989_898)


class Form(NamedTuple):
    """Templates of whole answers, with places for what :func:`_values` gives."""

    second: int
    plain: str
    of_producer: str

    def fill(self, outcome: Appended) -> bytes:
        """The whole answer to an outcome of :func:`plain_status`, on a connection that stays."""
        template = self.plain if outcome.producer_epoch is None else self.of_producer
        return (template % _values(outcome)).encode("latin-1")


def plain_status(outcome: Appended) -> int:
    """The status of an answer that :meth:`Form.fill` can make; 0 if it says more than that."""
    if outcome.closed:
        return 0
    if outcome.producer_epoch is None:
        return 204
    return 0 if outcome.duplicate or outcome.tail == outcome.base else 200


def _values(outcome: Appended) -> tuple[str | int, ...]:
    """What an answer tells of its append, in its order."""
    token = encode_offset(outcome.tail)
    tag = caching.tail_tag(outcome.stream_id, outcome.tail, closed=False)
    if outcome.producer_epoch is None:
        return token, tag
    assert outcome.producer_seq is not None
    return token, tag, outcome.producer_epoch, outcome.producer_seq


def _template(outcome: Appended) -> str:
    """The answer to this outcome with places in it for its values."""
    rest = writer.joined(render.appended(outcome), "POST", close=False).decode("latin-1")
    pieces = []
    for value in _values(outcome):
        before, found, rest = rest.partition(str(value))
        assert found
        pieces.append(before.replace("%", "%%"))
    return "%s".join([*pieces, rest.replace("%", "%%")])


def make_form(second: int) -> Form:
    """The form of this moment; ``second`` is its time."""
    return Form(second, _template(_SAMPLE), _template(_OF_PRODUCER))


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
