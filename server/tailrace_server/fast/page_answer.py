"""The answer to the catch-up read that most are, by filling in what changes.

The forms are cut out of answers made the general way, so nothing is spelled a second time; they
hold for a second, like the Date in them.
"""

from __future__ import annotations

import time
from array import array
from typing import Final, NamedTuple

from tailrace.offset import encode_offset
from tailrace.operation import StreamKey
from tailrace.read_result import ReadResult
from tailrace_server.context import PlainPage
from tailrace_server.fast import writer
from tailrace_server.protocol import caching, stream_response

_NEXT: Final = 7_654_321
_BODY: Final = b"s" * 97_531
_TYPE: Final = "sample/of-a-type"


class Form(NamedTuple):
    """The head, around the content type, the entity tag, the offset and the length."""

    before: str
    behind_type: str
    behind_tag: str
    behind_offset: str
    behind_length: str

    def fill(self, result: ReadResult) -> bytes:
        """The whole answer, on a connection that stays."""
        tag = caching.etag(result.stream_id, result.first, result.next, closed=False)
        body = stream_response.body(result)
        head = (
            f"{self.before}{result.content_type}{self.behind_type}{tag}{self.behind_tag}"
            f"{encode_offset(result.next)}{self.behind_offset}{sum(map(len, body))}"
            f"{self.behind_length}"
        )
        return b"".join((head.encode("ascii"), *body))


def make_form(*, private: bool, up_to_date: bool) -> Form:
    """The form of this moment."""
    sample = ReadResult(
        key=StreamKey("sample", "sample"),
        stream_id=0x5A4D504C45,
        content_type=_TYPE,
        is_json=False,
        first=_NEXT - 1,
        next=_NEXT,
        tail=_NEXT if up_to_date else _NEXT + 1,
        closed=False,
        expires_at_ms=None,
        payload=memoryview(_BODY),
        ends=array("I", (len(_BODY),)),
    )
    whole = writer.joined(PlainPage(sample, private).response(), "GET", close=False)
    rest = whole.removesuffix(_BODY).decode("ascii")
    tag = caching.etag(sample.stream_id, sample.first, sample.next, closed=False)
    pieces = []
    for filled in (_TYPE, tag, encode_offset(_NEXT), str(len(_BODY))):
        piece, rest = rest.split(filled)
        pieces.append(piece)
    return Form._make((*pieces, rest))


class Forms:
    """The forms of now. For the Trio thread."""

    def __init__(self) -> None:
        self._second = 0
        self._forms: dict[tuple[bool, bool], Form] = {}

    def answer(self, page: PlainPage) -> bytes:
        """The whole answer, on a connection that stays."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._forms.clear()
        result, private = page
        which = private, result.next == result.tail
        form = self._forms.get(which)
        if form is None:
            form = self._forms[which] = make_form(private=private, up_to_date=which[1])
        return form.fill(result)
