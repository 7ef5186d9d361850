"""The short way of answering catch-up reads gives the bytes of the general one (section 5.6)."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from tailrace.limits import ORDINAL_MAX
from tailrace.operation import StreamKey
from tailrace.read_result import ReadPieces
from tailrace_server.context import PlainPage
from tailrace_server.fast import writer
from tailrace_server.fast.page_answer import PageForms

TYPES = (
    "application/json",
    "text/plain; charset=utf-8",
    "application/octet-stream",
    # What the form is cut at, or alike.
    "sample/of-a-type",
    'text/x; a="5a4d504c45:7654320:7654321"',
    "text/07654321; 97531",
)


@st.composite
def pages(draw: st.DrawFn) -> PlainPage:
    lengths = draw(st.lists(st.integers(2, 300), min_size=1, max_size=4))
    next_ordinal = draw(st.integers(4, ORDINAL_MAX) | st.integers(10**8 - 2, 10**8 + 2))
    content_type = draw(st.sampled_from(TYPES))
    up_to_date = draw(st.booleans())
    return PlainPage(
        ReadPieces(
            key=StreamKey("b", "s"),
            stream_id=draw(st.integers(1, 2**64 - 1)),
            content_type=content_type,
            is_json=content_type == "application/json",
            first=next_ordinal - len(lengths),
            next=next_ordinal,
            tail=next_ordinal + (0 if up_to_date else draw(st.integers(1, 9))),
            closed=not up_to_date and draw(st.booleans()),
            expires_at_ms=None,
            pieces=tuple(memoryview(b"1" * (length - 1) + b",") for length in lengths),
        ),
        private=draw(st.booleans()),
    )


@given(several=st.lists(pages(), min_size=1, max_size=4))
def test_both_ways_give_the_same_bytes(several: list[PlainPage]) -> None:
    forms = PageForms()
    while True:
        second = int(time.time())
        short = []
        for page in several:
            found = forms.answer(page)
            assert found is not None
            head, body, length = found
            assert length == sum(map(len, body))
            short.append(b"".join((head, *body)))
        general = [writer.joined(page.response(), "GET", close=False) for page in several]
        if second == int(time.time()):  # the Date is the same
            break
    assert short == general
