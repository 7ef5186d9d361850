"""Heads of requests that are understood: the typed face of ``csrc/front/heads.h``.

C finds a head's number by its bytes; what the number means stands here. A head that comes again
and again is understood once, and its requests are neither cut out nor looked up in Python.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from tailrace.limits import PRODUCER_NUMBER_MAX
from tailrace.operation import StreamKey
from tailrace_server._reactor import ffi, lib
from tailrace_server.context import Lane
from tailrace_server.service import Known

HEADS_MAX: Final = 16_384
"""So many heads are kept: one for each of the connections that a front has by default, where each
speaks of a stream of its own, and as many again for most. One takes 1 to 3 KiB, its key included,
so all of them 40 MiB.

A head beyond takes the place of any other, by lot. So of a few more, all in turn, most are still
known, where the oldest going would have none known; and a head that is not known costs what
understanding it does (10 to 30 us).
"""
HEAD_BYTES_MAX: Final = 1024
"""Longer heads are understood each time."""
_NUMBER_MAX: Final = 2**32 - 1
_SEED_BYTES: Final[int] = lib.TR_HEAD_SEED_BYTES
assert HEAD_BYTES_MAX <= lib.TR_HEAD_KEY_MAX
# The numbers that are left out of a head must all be good: the head says nothing about them.
assert 10**lib.TR_HTTP_SEQ_DIGITS_MAX - 1 <= PRODUCER_NUMBER_MAX

_NO_LANE: Final[Any] = ffi.new("struct tr_head_lane *")

T = TypeVar("T")


class _Numbers(Generic[T]):
    """Small numbers, from 1, for what is in use; counted, so that each is free again."""

    def __init__(self, most: int) -> None:
        self._of: dict[T, list[int]] = {}
        self._free = list(range(most, 0, -1))

    def take(self, item: T) -> int:
        entry = self._of.get(item)
        if entry is None:
            entry = self._of[item] = [self._free.pop(), 0]
        entry[1] += 1
        return entry[0]

    def give(self, item: T) -> int:
        """The number if nobody has it any more, else 0."""
        entry = self._of[item]
        entry[1] -= 1
        if entry[1]:
            return 0
        del self._of[item]
        self._free.append(entry[0])
        return entry[0]


def key_of(head: bytes, holes: Iterable[tuple[int, int]]) -> bytes:
    """A head without its holes, each an offset and a length: see ``csrc/front/heads.h``."""
    pieces = []
    begin = 0
    for at, length in sorted(hole for hole in holes if hole[1]):
        pieces.append(head[begin:at])
        begin = at + length
    pieces.append(head[begin:])
    return b"".join(pieces)


class Leader(NamedTuple):
    """A lane: its stream, the type its appends are sent with, and one of its heads.

    ``producer`` is whose they are, an id and its epoch; ``kind`` what they are counted as: their
    route, and whether they are a producer's.
    """

    key: StreamKey
    content_type: str
    kind: tuple[str, bool]
    known: Known
    producer: tuple[str, int] | None


class Heads:
    """What requests' heads mean, by the numbers that C finds. For the Trio thread.

    What is learned counts from :meth:`settle` on, so that no number changes its meaning while
    the rows of a turn are looked at.
    """

    def __init__(self) -> None:
        seed = os.urandom(_SEED_BYTES)
        self.pointer: Any = lib.tr_heads_new(HEADS_MAX, HEAD_BYTES_MAX, seed)
        if self.pointer == ffi.NULL:
            raise MemoryError
        self.pointer = ffi.gc(self.pointer, lib.tr_heads_free)
        self._known: list[Known | None] = []
        self._leaders: list[Any] = []
        self._fresh: dict[bytes, Known] = {}
        self._lanes: _Numbers[tuple[Lane, str]]
        self.forget_all()

    def forget_all(self) -> None:
        """Every head is to be looked at again."""
        lib.tr_heads_clear(self.pointer)
        self._known = [None] * (HEADS_MAX + 1)
        self._leaders = [None] * (HEADS_MAX + 1)
        self._fresh.clear()
        self._used = 0
        self._lanes = _Numbers(HEADS_MAX)

    def by_number(self, number: int) -> Known:
        """What a number of this turn means."""
        known = self._known[number]
        assert known is not None
        return known

    def leaders(self, lanes: Iterable[int]) -> list[Leader]:
        """Who speaks for these lanes of this turn."""
        return list(map(self._leaders.__getitem__, lanes))

    def fresh(self, key: bytes) -> Known | None:
        """What was learned in this turn."""
        return self._fresh.get(key)

    def learn(self, key: bytes, known: Known) -> None:
        """Keep what the heads mean that are :func:`key_of` to these bytes."""
        if len(key) <= HEAD_BYTES_MAX:
            self._fresh[key] = known

    def settle(self) -> None:
        """The turn is over: what was learned in it has numbers from now on."""
        for key, known in self._fresh.items():
            self._put(key, known)
        self._fresh.clear()

    def _put(self, key: bytes, known: Known) -> None:
        if self._used < HEADS_MAX:
            self._used += 1
            number = self._used
        else:
            number = random.randint(1, HEADS_MAX)
        old = self._known[number]
        if old is not None and old.lane is not None:
            self._leave_lane(old)
        place = _NO_LANE if known.lane is None else self._enter_lane(known, known.lane)
        if lib.tr_heads_put(self.pointer, number, key, len(key), place):
            self._known[number] = known
        else:
            self._known[number] = None
            self._leave_lane(known)

    def _enter_lane(self, known: Known, lane: Lane) -> Any:
        """``struct tr_head_lane`` for a head."""
        place = ffi.new("struct tr_head_lane *")
        number = self._lanes.take((lane, known.route))
        if self._leaders[number] is None:
            kind = known.route, lane.producer is not None
            self._leaders[number] = Leader(lane.key, lane.content_type, kind, known, lane.producer)
        place.lane = number
        place.json = lane.is_json
        place.producer = lane.producer is not None
        place.body_max = min(lane.body_bytes_max, _NUMBER_MAX)
        place.records_max = min(lane.records_max, _NUMBER_MAX)
        return place

    def _leave_lane(self, known: Known) -> None:
        lane = known.lane
        if lane is not None:
            number = self._lanes.give((lane, known.route))
            if number:
                self._leaders[number] = None
