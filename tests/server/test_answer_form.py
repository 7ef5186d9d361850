"""What C makes of a form is the general answer to an append, for every stream and tail.

Python's side of that is in ``test_append_answer.py``.
"""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from tailrace.limits import ORDINAL_MAX, PRODUCER_NUMBER_MAX
from tailrace_server._reactor import ffi, lib
from tailrace_server.fast import writer
from tailrace_server.fast.append_answer import AppendForms, appended, fill, general
from tailrace_server.protocol import render

BORDERS = sorted({10**n + d for n in range(19) for d in (-1, 0, 1)} - {0, -1})
STREAM_IDS = st.integers(1, 2**64 - 1) | st.integers(0, 63).map(lambda n: 2**n)


@given(stream_id=STREAM_IDS, tail=st.integers(1, ORDINAL_MAX) | st.sampled_from(BORDERS))
def test_both_ways_give_the_same_bytes(stream_id: int, tail: int) -> None:
    while True:
        second = int(time.time())
        found = AppendForms().of_tail(tail)
        assert found is not None
        assert found.first <= tail <= found.last
        filled, wanted = fill(found.plain_in_c, stream_id, tail), general(stream_id, tail)
        if second == int(time.time()):  # the Date is the same
            break
    assert filled == wanted


@given(
    stream_id=STREAM_IDS,
    tail=st.integers(1, ORDINAL_MAX) | st.sampled_from(BORDERS),
    numbers=st.tuples(*[st.integers(0, PRODUCER_NUMBER_MAX)] * 2),
)
def test_both_ways_give_a_producer_the_same_bytes(
    stream_id: int, tail: int, numbers: tuple[int, int]
) -> None:
    forms = AppendForms()
    outcome = appended(stream_id, tail - 1, tail)
    outcome = outcome._replace(producer_epoch=numbers[0], producer_seq=numbers[1])
    while True:
        second = int(time.time())
        found = forms.of_tail(tail)
        assert found is not None
        filled = fill(found.of_producer_in_c, stream_id, tail, *numbers)
        wanted = writer.joined(render.appended(outcome), "POST", close=False)
        if second == int(time.time()):
            break
    assert filled == wanted


@given(
    pieces=st.lists(
        st.tuples(st.integers(0, 1100), st.integers(0, 5), st.integers(0, 22)), max_size=16
    ),
    bytes_given=st.integers(0, 1024),
    count=st.integers(0, 20),
    tail=st.integers(0, 2**64 - 1),
    seq=st.integers(0, 2**64 - 1),
)
def test_a_form_that_is_none_fills_nothing(
    pieces: list[tuple[int, int, int]], bytes_given: int, count: int, tail: int, seq: int
) -> None:
    form = ffi.new(
        "struct tr_form *",
        {"piece_count": count, "byte_count": bytes_given, "pieces": pieces, "bytes": b"x" * 1024},
    )
    made = fill(form, 2**64 - 1, tail, 7, seq)
    pieces = (pieces + [(0, 0, 0)] * 16)[:count]
    numbers = {
        lib.TR_HOLE_TAIL: b"%d" % tail,
        lib.TR_HOLE_STREAM: b"f" * 16,
        lib.TR_HOLE_EPOCH: b"7",
        lib.TR_HOLE_SEQ: b"%d" % seq,
    }
    wanted = b"".join(
        b"x" * length + (numbers[hole].rjust(width, b"0") if hole in numbers else b"")
        for length, hole, width in pieces
    )
    good = count <= 16 and sum(length for length, _, _ in pieces) <= bytes_given
    good = good and len(wanted) <= lib.TR_FORM_BYTES_MAX
    good = good and all(width <= 20 for _, _, width in pieces)
    assert made == (wanted if good else b"")
