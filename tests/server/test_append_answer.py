"""The short way of answering appends gives the bytes of the general one."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from tailrace.limits import ORDINAL_MAX, PRODUCER_NUMBER_MAX
from tailrace.outcome import Appended
from tailrace_server.fast import writer
from tailrace_server.fast.append_answer import AppendForms, plain_status
from tailrace_server.protocol import render

NUMBERS = st.integers(0, PRODUCER_NUMBER_MAX)


@given(
    stream_id=st.integers(1, 2**64 - 1),
    tail=st.integers(1, ORDINAL_MAX) | st.integers(10**8 - 2, 10**8 + 2),
    created=st.booleans(),
    duplicate=st.booleans(),
    producer=st.none() | st.tuples(NUMBERS, NUMBERS),
)
def test_both_ways_give_the_same_bytes(
    stream_id: int, tail: int, created: bool, duplicate: bool, producer: tuple[int, int] | None
) -> None:
    epoch, seq = producer or (None, None)
    outcome = Appended(stream_id, tail - 1, tail, False, duplicate, created, 1, epoch, seq)
    if producer is not None and duplicate:
        assert not plain_status(outcome)
        return
    assert plain_status(outcome) == render.appended(outcome).status
    while True:
        second = int(time.time())
        short = AppendForms().answer(outcome)
        general = writer.joined(render.appended(outcome), "POST", close=False)
        if second == int(time.time()):  # the Date is the same
            break
    assert short == general


def test_what_says_more_is_not_plain() -> None:
    plain = Appended(1, 0, 1, False, False, False, 1)
    of_producer = plain._replace(producer_epoch=0, producer_seq=0)
    assert plain_status(plain)
    assert plain_status(of_producer)
    assert not plain_status(plain._replace(closed=True))
    assert not plain_status(of_producer._replace(closed=True))
    assert not plain_status(of_producer._replace(duplicate=True))
    assert not plain_status(of_producer._replace(base=1))
