"""What one durable write of a peer holds.

Every system writes the same events to :data:`bench.events.STREAMS` streams and must be able
to read one stream from any ordinal afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Generic, NamedTuple, TypeVar

from bench.events import STREAMS, small_batches

Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class Shape:
    """``rows`` events per durable write: all of one stream, or, ``spread``, of as many as can be.

    The next write takes the next stream (or streams), so that all streams grow alike. Spread
    is what grouping single appends of independent writers comes to.
    """

    rows: int
    spread: bool = False


class Newest(NamedTuple):
    """The last event of one stream."""

    stream: int
    ordinal: int
    body: bytes


class RowSource(Generic[Name]):
    """Hands out the rows of one write after the other, and knows what must be stored then.

    ``names`` are the streams' names as the peer wants them. Rows are made at as little cost
    as Python allows, because it is charged to the peer.
    """

    def __init__(self, shape: Shape, names: Sequence[Name]) -> None:
        assert len(names) == STREAMS
        self._shape = shape
        self._batches = small_batches(shape.rows)
        self._names = list(names)
        self._names_in_turn = list(names) * (2 + shape.rows // STREAMS)
        self.steps = 0

    def rows(self, step: int) -> Iterable[tuple[Name, int, bytes]]:
        """``(name, ordinal, body)`` of the write number ``step``; steps must come in order."""
        self.steps = step + 1
        bodies = self._batches[step % len(self._batches)]
        count = len(bodies)
        if not self._shape.spread:
            base = step // STREAMS * count
            return zip(
                repeat(self._names[step % STREAMS]), range(base, base + count), bodies, strict=False
            )
        first = step * count
        turn = first % STREAMS
        return zip(
            self._names_in_turn[turn : turn + count],
            [number // STREAMS for number in range(first, first + count)],
            bodies,
            strict=True,
        )

    def count(self) -> int:
        return self.steps * self._shape.rows

    def newest(self) -> list[Newest]:
        """The last event of every stream that has one."""
        found: list[Newest] = []
        rows = self._shape.rows
        for stream in range(STREAMS):
            if self._shape.spread:
                tail = (self.count() - stream + STREAMS - 1) // STREAMS
                step, index = divmod((tail - 1) * STREAMS + stream, rows)
            else:
                writes = (self.steps - stream + STREAMS - 1) // STREAMS
                tail = writes * rows
                step, index = (writes - 1) * STREAMS + stream, rows - 1
            if tail > 0:
                body = self._batches[step % len(self._batches)][index]
                found.append(Newest(stream, tail - 1, body))
        return found


class LostData(Exception):
    """A system answered a write that is not there afterwards: its rate means nothing."""
