"""The table of heads: numbers by bytes, lanes by what the heads mean, nothing beyond its bounds."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.operation import StreamKey
from tailrace_server._reactor import ffi, lib
from tailrace_server.context import Lane
from tailrace_server.fast import heads as heads_module
from tailrace_server.fast.heads import Heads, key_of
from tailrace_server.keys import ALL_RIGHTS, Grant
from tailrace_server.protocol.message import Request
from tailrace_server.service import Known

HEADS_MAX = 7
KEY_MAX = 24
GRANT = Grant(ALL_RIGHTS, ("*",))
KEYS = st.binary(min_size=1, max_size=KEY_MAX + 2) | st.integers(0, 12).map(lambda n: b"key %d" % n)


def table(heads_max: int = HEADS_MAX, key_max: int = KEY_MAX) -> Any:
    made = lib.tr_heads_new(heads_max, key_max, os.urandom(lib.TR_HEAD_SEED_BYTES))
    return made if made == ffi.NULL else ffi.gc(made, lib.tr_heads_free)


def find(
    heads: Any, head: bytes, one: tuple[int, int] = (0, 0), other: tuple[int, int] = (0, 0)
) -> int:
    # In memory of its own, so that a sanitizer sees a byte too many.
    return int(lib.tr_heads_find(heads, ffi.new("uint8_t[]", head), len(head), one, other))


def put(heads: Any, number: int, key: bytes, lane: int = 0) -> bool:
    place = ffi.new("struct tr_head_lane *", {"lane": lane})
    return bool(lib.tr_heads_put(heads, number, key, len(key), place))


def test_bounds_are_checked() -> None:
    assert table(0) == ffi.NULL
    assert table(HEADS_MAX, lib.TR_HEAD_KEY_MAX + 1) == ffi.NULL
    heads = table()
    assert put(heads, 1, b"x" * KEY_MAX)
    for number, key, lane in (
        (0, b"a", 0),
        (HEADS_MAX + 1, b"a", 0),
        (2, b"x" * (KEY_MAX + 1), 0),
        (2, b"", 0),
        (2, b"a", HEADS_MAX + 1),
        (2, b"x" * KEY_MAX, 0),  # it has a number
    ):
        assert not put(heads, number, key, lane)
    assert find(heads, b"x" * KEY_MAX) == 1
    assert find(heads, b"x" * (KEY_MAX + 1)) == 0
    assert find(heads, b"x", (0, 2)) == find(heads, b"x", (2, 1)) == 0
    filled = b"x" * KEY_MAX + b"12345"
    assert find(heads, filled, (KEY_MAX, 3), (KEY_MAX + 3, 2)) == 1
    for one, other in (
        ((KEY_MAX, 3), (KEY_MAX + 3, 3)),
        ((KEY_MAX, 3), (KEY_MAX + 2, 3)),  # they overlap
        ((KEY_MAX, 5), (KEY_MAX, 5)),
        ((2**32 - 1, 2**32 - 1), (0, 0)),
        ((1, 2**32 - 1), (2, 2**32 - 1)),
    ):
        assert find(heads, filled, one, other) == find(heads, filled, other, one) == 0


@given(
    st.lists(
        st.tuples(st.just("put"), st.integers(1, HEADS_MAX), KEYS)
        | st.tuples(st.just("find"), st.integers(0, 99), KEYS)
        | st.tuples(st.just("clear"), st.just(0), st.just(b"")),
        max_size=60,
    )
)
def test_it_does_what_a_dict_does(steps: list[tuple[str, int, bytes]]) -> None:
    heads = table()
    numbers: dict[bytes, int] = {}
    for what, number, key in steps:
        if what == "put":
            numbers = {other: n for other, n in numbers.items() if n != number}
            fits = len(key) <= KEY_MAX and key not in numbers
            assert put(heads, number, key) == fits
            if fits:
                numbers[key] = number
        elif what == "find":
            # The digits that are not part of the key, anywhere in it: of two fields, or one.
            at, then = min(number % 10, len(key)), min(number // 10, len(key))
            if at <= then:
                head = key[:at] + b"123" + key[at:then] + b"4567" + key[then:]
                holes = (at, 3), (then + 3, 4)
                assert key_of(head, holes) == key_of(head, holes[::-1]) == key
                assert find(heads, head, *holes) == numbers.get(key, 0)
                assert find(heads, head, *holes[::-1]) == numbers.get(key, 0)
            hole = at, 3
            head = key[:at] + b"123" + key[at:]
            assert key_of(head, (hole, (0, 0))) == key
            assert find(heads, head, hole, (7, 0)) == numbers.get(key, 0)
            assert find(heads, head, (0, 0), hole) == numbers.get(key, 0)
        else:
            lib.tr_heads_clear(heads)
            numbers.clear()
        for other, n in numbers.items():
            assert find(heads, other) == n


# -- what they mean


def known(stream: str | None, content_type: str = "text/plain", route: str = "r") -> Known:
    lane = None
    if stream is not None:
        lane = Lane(StreamKey("flat", stream), content_type, False, 100, 10)
    return Known(Request("POST", "/", "", (), b""), route, GRANT, lambda body: None, lane)


def test_what_is_learned_counts_when_the_turn_is_over() -> None:
    heads = Heads()
    one = known("a")
    heads.learn(b"one", one)
    assert heads.fresh(b"one") is one
    assert find(heads.pointer, b"one") == 0
    heads.settle()
    assert heads.fresh(b"one") is None
    assert heads.by_number(find(heads.pointer, b"one")) is one
    heads.learn(b"x" * (heads_module.HEAD_BYTES_MAX + 1), one)
    heads.forget_all()
    heads.settle()
    assert find(heads.pointer, b"one") == 0


def test_a_head_beyond_takes_the_place_of_another_and_of_its_lane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heads_module, "HEADS_MAX", 3)
    heads = Heads()
    all_known = {}
    for number in range(40):
        # Streams and types come again, and some heads are in no lane.
        stream = None if number % 5 == 0 else f"s{number % 7}"
        key = b"head %d" % number
        all_known[key] = known(stream, "text/plain" if number % 2 else "text/html")
        heads.learn(key, all_known[key])
        heads.settle()
        kept = [other for other in all_known if find(heads.pointer, other)]
        assert len(kept) == min(3, number + 1)
        assert key in kept
        for other in kept:
            assert heads.by_number(find(heads.pointer, other)) is all_known[other]


@pytest.mark.parametrize(("count", "share"), [(64, 1.0), (72, 0.6), (96, 0.2)])
def test_of_a_few_heads_too_many_most_stay_known(
    count: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In turn, which is the worst order if the oldest goes: then none is known."""
    monkeypatch.setattr(heads_module, "HEADS_MAX", 64)
    monkeypatch.setattr(random, "randint", random.Random(1).randint)
    heads = Heads()
    keys = [b"head %d" % number for number in range(count)]
    rounds = 100
    hits = 0
    for _ in range(rounds + 1):
        for key in keys:
            if find(heads.pointer, key):
                hits += 1
            else:
                heads.learn(key, known(key.decode()))
                heads.settle()
    assert share * rounds * count <= hits <= rounds * count


def test_heads_that_mean_the_same_are_in_one_lane() -> None:
    heads = Heads()
    first, second = known("a"), known("a")
    others = [known("a", "text/html"), known("b"), known("a", route="other")]
    for number, one in enumerate([first, second, *others]):
        heads.learn(b"%d" % number, one)
    heads.settle()
    (leader,) = heads.leaders([1])
    assert (leader.key, leader.content_type) == (StreamKey("flat", "a"), "text/plain")
    assert leader.known is first
    assert [entry.known for entry in heads.leaders([2, 3, 4])] == others
