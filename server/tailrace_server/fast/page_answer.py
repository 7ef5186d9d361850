"""The answer to a plain catch-up read, by filling in a form (see ``forms``)."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Final

from tailrace.operation import StreamKey
from tailrace.read_result import ReadPieces
from tailrace_server.context import PlainPage
from tailrace_server.fast import writer
from tailrace_server.fast.forms import (
    STREAM_ID,
    STREAM_IDS,
    Form,
    Forms,
    Hole,
    Values,
    check,
    class_number,
    cut,
    ordinal_class,
)
from tailrace_server.protocol import stream_response
from tailrace_server.protocol.message import Chunk

_FIRST: Final = 1_234_567
_LENGTH: Final = 97_531
_TYPE: Final = b"sample/of-a-type"

_Key = tuple[bool, bool, int]


def make_form(key: _Key) -> Form:
    """The form of the head, at this moment, of pages that are private and up to date as ``key``
    says, and whose ``next`` is of the class that it names. Raises :class:`forms.BadForm`.

    Its values are the stream's id, ``first``, ``next``, the body's length, the content type.
    """
    private, up_to_date, number = key
    nexts = ordinal_class(number)
    sample = STREAM_ID, _FIRST, nexts.sample, _LENGTH, _TYPE
    general = partial(_general, private, up_to_date)
    holes = {
        b"%x" % STREAM_ID: Hole(0, "x"),
        b"%d" % _FIRST: Hole(1),
        **nexts.holes(2),
        b"%d" % _LENGTH: Hole(3),
        _TYPE: Hole(4, "b"),
    }
    form = cut(general(sample), holes)
    ends = product(STREAM_IDS, (0, nexts.first - 1), (nexts.first, nexts.last))
    check(form.fill, general, [(*end, length, b"a/b; c") for end in ends for length in (1, 4096)])
    return form


def _general(private: bool, up_to_date: bool, values: Values) -> bytes:
    """The head of the general answer, on a connection that stays."""
    stream_id, first, next_ordinal, length, content_type = values
    body = b"s" * length
    result = ReadPieces(
        key=StreamKey("sample", "sample"),
        stream_id=stream_id,
        content_type=content_type.decode("latin-1"),
        is_json=False,
        first=first,
        next=next_ordinal,
        tail=next_ordinal if up_to_date else next_ordinal + 1,
        closed=False,
        expires_at_ms=None,
        pieces=(memoryview(body),),
    )
    whole = writer.joined(PlainPage(result, private).response(), "GET", close=False)
    return whole.removesuffix(body)


class PageForms:
    """The forms of now. For the Trio thread."""

    def __init__(self) -> None:
        self._forms: Forms[_Key, Form] = Forms(make_form)

    def answer(self, page: PlainPage) -> tuple[bytes, tuple[Chunk, ...], int] | None:
        """The answer on a connection that stays: its head, its body, and how long that is.

        None if there is no form for it.
        """
        result, private = page
        form = self._forms.of((private, result.next == result.tail, class_number(result.next)))
        if form is None:
            return None
        body = stream_response.body(result)
        length = sum(map(len, body))
        content_type = result.content_type.encode("latin-1")
        values = result.stream_id, result.first, result.next, length, content_type
        return form.fill(values), body, length
