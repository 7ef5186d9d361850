"""Reads of many streams at once, each of the little that is left up to its tail.

Most catch-up reads are such. Any other, and any that might take long, is left to be read by
itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tailrace.catalog import Catalog
from tailrace.limits import READ_MAPPED_RUN_BYTES_MIN
from tailrace.log import Log
from tailrace.native_small import SmallGather
from tailrace.offset_index import SegmentIndex
from tailrace.operation import StreamKey
from tailrace.read_result import ReadPieces
from tailrace.stream import StreamState

SMALL_BYTES_MAX = READ_MAPPED_RUN_BYTES_MIN
"""A read that is larger may be sent without being copied."""
_RECORDS_MAX = 1024
_OUT_BYTES_MAX = 16 * SMALL_BYTES_MAX


class _Reads(NamedTuple):
    """Those of one segment; ``members`` are the index of each and its stream."""

    offsets: SegmentIndex
    gather: SmallGather
    members: list[tuple[int, StreamState]]


class SmallReads:
    """Reads the durable catalog and the log; see :meth:`tailrace.store.Store.pieces_small`."""

    def __init__(self, log: Log, durable: Catalog) -> None:
        self._log = log
        self._durable = durable

    def read(
        self, asked: Sequence[tuple[StreamKey, int]], max_bytes: int, newest: int
    ) -> list[ReadPieces | None]:
        """``newest`` is the segment that is written: it, and the one before, are in memory."""
        found: list[ReadPieces | None] = [None] * len(asked)
        by_segment: dict[int, _Reads] = {}
        find, place_of = self._durable.find, self._log.extents.find
        for index, (key, ordinal) in enumerate(asked):
            state = find(key)
            if state is None or not _is_plain(state, ordinal):
                continue
            stream_id = state.config.stream_id
            place = place_of(stream_id, ordinal)
            if place is None or place[1] is not None:
                continue
            number = place[0]
            group = by_segment.get(number)
            if group is None:
                # Both are held from here on: the segment may be reclaimed meanwhile.
                segment, offsets = self._log.segments.get(number), self._log.indexes.get(number)
                if segment is None or offsets is None:
                    continue
                trusting = number + 1 >= newest
                gather = SmallGather(segment.view, segment.base_position, trusting=trusting)
                group = by_segment[number] = _Reads(offsets, gather, [])
            entries = group.offsets.entries(stream_id, ordinal, state.tail - ordinal)
            if len(entries) == state.tail - ordinal:
                group.gather.add(stream_id, ordinal, entries)
                group.members.append((index, state))
        for _, gather, members in by_segment.values():
            _read_segment(gather, members, asked, min(max_bytes, SMALL_BYTES_MAX), found)
        return found


def _is_plain(state: StreamState, ordinal: int) -> bool:
    """Whether there is a little to read, of a stream that is there for good."""
    config = state.config
    return (
        0 < state.tail - ordinal <= _RECORDS_MAX
        and ordinal >= state.start
        and ordinal >= config.base
        and not config.ends_with_time
        and not state.deleted
    )


def _read_segment(
    gather: SmallGather,
    members: list[tuple[int, StreamState]],
    asked: Sequence[tuple[StreamKey, int]],
    bytes_max: int,
    found: list[ReadPieces | None],
) -> None:
    if not members:
        return
    out = bytearray(min(len(members) * bytes_max, _OUT_BYTES_MAX))
    ends = gather.read(bytes_max, out)
    del out[ends[-1] :]  # each read may be held for long, and holds all of it
    data = memoryview(out)
    begin = 0
    for (index, state), end in zip(members, ends, strict=True):
        if end == begin:
            continue
        config = state.config
        found[index] = ReadPieces(
            config.key,
            config.stream_id,
            config.content_type,
            config.is_json,
            asked[index][1],
            state.tail,
            state.tail,
            state.closed,
            None,
            (data[begin:end],),
        )
        begin = end
