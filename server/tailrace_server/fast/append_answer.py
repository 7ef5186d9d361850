"""The answers to plain appends, by filling in forms (see ``forms``).

Python fills them in for one append, and C for many (``csrc/front/answer_form``).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any, Final, NamedTuple

from tailrace.limits import PRODUCER_NUMBER_MAX
from tailrace.outcome import Appended
from tailrace_server._reactor import ffi, lib
from tailrace_server.fast import writer
from tailrace_server.fast.forms import (
    STREAM_ID,
    STREAM_IDS,
    BadForm,
    Form,
    Forms,
    Hole,
    Values,
    check,
    class_number,
    cut,
    ordinal_class,
)
from tailrace_server.protocol import render

_BYTES_MAX: Final[int] = lib.TR_FORM_BYTES_MAX
_EPOCH: Final = 898_989_898
_SEQ: Final = 656_565_656

# The values of these forms are an outcome's.
_OF_STREAM: Final = Appended._fields.index("stream_id")
_OF_TAIL: Final = Appended._fields.index("tail")
_OF_EPOCH: Final = Appended._fields.index("producer_epoch")
_OF_SEQ: Final = Appended._fields.index("producer_seq")
_IN_C: Final = {
    (_OF_TAIL, "d"): lib.TR_HOLE_TAIL,
    (_OF_STREAM, "x"): lib.TR_HOLE_STREAM,
    (_OF_EPOCH, "d"): lib.TR_HOLE_EPOCH,
    (_OF_SEQ, "d"): lib.TR_HOLE_SEQ,
}


class Appending(NamedTuple):
    """Forms for the answers to appends after which the tail is from ``first`` to ``last``.

    ``plain_in_c`` and ``of_producer_in_c`` are the same for C, as ``struct tr_form``.
    """

    plain: Form
    of_producer: Form
    plain_in_c: Any
    of_producer_in_c: Any
    first: int
    last: int


def appended(stream_id: int, base: int, tail: int) -> Appended:
    """The outcome of a plain append of the records from ``base`` to before ``tail``."""
    return Appended(stream_id, base, tail, False, False, False, 0)


def _by_producer(outcome: Appended, epoch: int, seq: int) -> Appended:
    return outcome._replace(producer_epoch=epoch, producer_seq=seq)


def general(stream_id: int, tail: int) -> bytes:
    """The answer to a plain append, on a connection that stays."""
    return _general(appended(stream_id, tail - 1, tail))


STATUS: Final = tuple(
    render.appended(outcome).status
    for outcome in (appended(1, 0, 1), _by_producer(appended(1, 0, 1), 0, 0))
)
"""Of an answer that a form can make: to a plain append, and to a producer's."""


def plain_status(outcome: Appended) -> int:
    """That of :data:`STATUS` which the answer has; 0 if it says more than a form can."""
    if outcome.closed:
        return 0
    by_producer = outcome.producer_epoch is not None
    if by_producer and (outcome.duplicate or outcome.tail == outcome.base):
        return 0
    return STATUS[by_producer]


def fill(form: Any, stream_id: int, tail: int, epoch: int = 0, seq: int = 0) -> bytes:
    """What C makes of a ``struct tr_form``."""
    numbers = ffi.new("struct tr_form_numbers *", (stream_id, tail, epoch, seq))
    out = ffi.new("uint8_t[]", _BYTES_MAX)
    return bytes(ffi.buffer(out, lib.tr_form_fill(form, numbers, out)))


def make_forms(number: int) -> Appending:
    """The forms of this moment for one class of tails. Raises :class:`BadForm`."""
    tails = ordinal_class(number)
    holes = {b"%x" % STREAM_ID: Hole(_OF_STREAM, "x"), **tails.holes(_OF_TAIL)}
    outcome = appended(STREAM_ID, tails.sample - 1, tails.sample)
    ends = [
        appended(stream_id, tail - 1, tail)
        for stream_id, tail in product(STREAM_IDS, (tails.first, tails.last))
    ]
    plain = cut(_general(outcome), holes)
    check(plain.fill, _general, ends)
    holes[b"%d" % _EPOCH] = Hole(_OF_EPOCH)
    holes[b"%d" % _SEQ] = Hole(_OF_SEQ)
    of_producer = cut(_general(_by_producer(outcome, _EPOCH, _SEQ)), holes)
    numbers = (0, PRODUCER_NUMBER_MAX)
    samples = [_by_producer(end, *both) for end in ends for both in product(numbers, numbers)]
    check(of_producer.fill, _general, samples)
    return Appending(
        plain,
        of_producer,
        _checked_in_c(plain, ends),
        _checked_in_c(of_producer, samples),
        tails.first,
        tails.last,
    )


class AppendForms:
    """The forms of now. For any thread."""

    def __init__(self) -> None:
        self._forms: Forms[int, Appending] = Forms(make_forms)

    def of_tail(self, tail: int) -> Appending | None:
        """Those for ``tail``; None if there are none."""
        return self._forms.of(class_number(tail))

    def answer(self, outcome: Appended) -> bytes | None:
        """The whole answer, on a connection that stays, if :func:`plain_status` is not 0.

        None if there is no form for it.
        """
        forms = self._forms.of(class_number(outcome.tail))
        if forms is None:
            return None
        form = forms.plain if outcome.producer_epoch is None else forms.of_producer
        return form.fill(outcome)


def _general(values: Values) -> bytes:
    return writer.joined(render.appended(Appended._make(values)), "POST", close=False)


def _checked_in_c(form: Form, samples: Iterable[Appended]) -> Any:
    made = _in_c(form)

    def filled(values: Values) -> bytes:
        outcome = Appended._make(values)
        numbers = outcome.producer_epoch or 0, outcome.producer_seq or 0
        return fill(made, outcome.stream_id, outcome.tail, *numbers)

    check(filled, _general, samples)
    return made


def _in_c(form: Form) -> Any:
    """``struct tr_form``. Raises :class:`BadForm` if it would be too large."""
    literals, holes = form.literals, form.holes
    size = sum(map(len, literals))
    if len(literals) > lib.TR_FORM_PIECES_MAX or size > _BYTES_MAX:
        raise BadForm("an append's answer is too long to be a form")
    into = [(_IN_C[hole.value, hole.kind], hole.width) for hole in holes]
    into.append((lib.TR_HOLE_NONE, 0))
    pieces = [(len(literal), *hole) for literal, hole in zip(literals, into, strict=True)]
    return ffi.new(
        "struct tr_form *",
        {
            "piece_count": len(pieces),
            "byte_count": size,
            "pieces": pieces,
            "bytes": b"".join(literals),
        },
    )
