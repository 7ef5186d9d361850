"""The ordinals below which documents of a stream are gone, for the streams of one part."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import Final

REMOVED: Final = 2**63  # above every ordinal: the whole stream is gone


def removed_streams(floors: Mapping[int, int]) -> set[int]:
    """The streams of which nothing is left."""
    return {stream_id for stream_id, floor in floors.items() if floor == REMOVED}


class FloorTable:
    """The floors of one part's streams, by a stream's index in the part.

    When a floor rises ``values`` is replaced, never changed, so a search goes on with the one it
    took. It is None while nothing is gone; streams behind its end have no floor.
    """

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: array[int] | None = None

    def raise_floors(
        self, floors: Iterable[tuple[int, int]], find_stream: Callable[[int], int]
    ) -> None:
        """Take (stream id, ordinal) pairs, of which this part may know only some."""
        raised: dict[int, int] = {}
        for stream_id, ordinal in floors:
            index = find_stream(stream_id)
            if index >= 0:
                raised[index] = max(ordinal, raised.get(index, 0))
        if not raised:
            return
        values = array("Q") if self.values is None else self.values[:]
        missing = max(raised) + 1 - len(values)
        if missing > 0:
            values.frombytes(bytes(8 * missing))
        for index, ordinal in raised.items():
            values[index] = max(ordinal, values[index])
        self.values = values
