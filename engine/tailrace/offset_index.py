"""Ordinal → batch offset in a segment: in memory while it grows, in a mapped file after.

The file of a sealed segment::

    0          8         12       16       24         32             36            40
    | TAILRIDX | version | crc32c | number | data_end | stream_count | entry_count | zeros to 64
    | stream ids, sorted    u64 × stream_count |
    | first ordinals        u64 × stream_count |
    | first entries         u32 × (stream_count + 1) |
    | entries               u32 × entry_count |

Entry i of a stream is the offset, in the segment, of the batch that holds its record
``first ordinal + i``. All of it is derived from the segment: losing it loses nothing.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from tailrace.native import crc32c
from tailrace.storage import Mapping

MAGIC: Final = b"TAILRIDX"
VERSION: Final = 1
HEADER: Final = struct.Struct("<8sIIQQII")
HEADER_BYTES: Final = 64
_CRC_FROM: Final = 16
LOST_ENTRY: Final = 0  # the segment header stands there, so no batch can


class Run(NamedTuple):
    """A stream's consecutive records in one segment."""

    stream_id: int
    first: int
    records: int


class BadIndex(ValueError):
    """The bytes are not the index of this segment; make it again."""


class MemoryIndex:
    """The index of a segment that is still written, or whose file is not there yet."""

    def __init__(self) -> None:
        # By stream id: its first ordinal here, and its entries.
        self._streams: dict[int, tuple[int, array[int]]] = {}

    def add(self, stream_id: int, base_ordinal: int, record_count: int, offset: int) -> bool:
        """Note a batch. True if it is the stream's first in this segment."""
        found = self._streams.get(stream_id)
        if found is None:
            self._streams[stream_id] = base_ordinal, array("I", (offset,)) * record_count
            return True
        first, entries = found
        lost = base_ordinal - first - len(entries)
        # Lost records stood before this batch, each with four bytes in a table of ends.
        if not 0 <= lost <= offset // 4:
            raise BadIndex(f"ordinal {base_ordinal} of stream id {stream_id} is out of order")
        if lost:
            entries.extend(array("I", (LOST_ENTRY,)) * lost)
        if record_count == 1:
            entries.append(offset)
        else:
            entries.extend(array("I", (offset,)) * record_count)
        return False

    def add_each(
        self,
        stream_ids: Iterable[int],
        base_ordinals: Iterable[int],
        record_counts: Iterable[int],
        offsets: Iterable[int],
        shift: int,
    ) -> list[tuple[int, int]]:
        """:meth:`add` for the batches of many streams, each ``shift`` behind its offset.

        ``(stream id, base ordinal)`` of those that are their stream's first in this segment.
        Stream id 0 stands for no batch.
        """
        begun: list[tuple[int, int]] = []
        find = self._streams.get
        for stream_id, base, count, offset in zip(
            stream_ids, base_ordinals, record_counts, offsets, strict=True
        ):
            found = find(stream_id)
            if found is not None:
                first, entries = found
                if base == first + len(entries):
                    if count == 1:
                        entries.append(offset + shift)
                    else:
                        entries.extend(array("I", (offset + shift,)) * count)
                    continue
            if stream_id and self.add(stream_id, base, count, offset + shift):
                begun.append((stream_id, base))
        return begun

    def entries(self, stream_id: int, ordinal: int, count: int) -> array[int]:
        """At most ``count`` batch offsets from ``ordinal`` on, as a copy."""
        first, entries = self._streams[stream_id]
        start = ordinal - first
        return entries[start : start + count]

    def runs(self) -> Iterator[Run]:
        for stream_id, (first, entries) in list(self._streams.items()):  # it may grow meanwhile
            yield Run(stream_id, first, len(entries))

    def encode(self, number: int, data_end: int) -> bytes:
        """The file for a sealed segment whose batches end at offset ``data_end``."""
        ids = sorted(self._streams)
        firsts = [self._streams[stream_id][0] for stream_id in ids]
        tables = [self._streams[stream_id][1] for stream_id in ids]
        starts = [0, *accumulate(map(len, tables))]
        body = b"".join(
            (
                array("Q", ids).tobytes(),
                array("Q", firsts).tobytes(),
                array("I", starts).tobytes(),
                *(table.tobytes() for table in tables),
            )
        )
        tail = struct.pack("<QQII", number, data_end, len(ids), starts[-1])
        tail = tail.ljust(HEADER_BYTES - _CRC_FROM, b"\0")
        crc = crc32c(body, crc32c(tail))
        return MAGIC + struct.pack("<II", VERSION, crc) + tail + body


class MappedIndex:
    """The index file of a sealed segment, read in place."""

    def __init__(self, data: memoryview, number: int, mapping: Mapping | None = None) -> None:
        """:class:`BadIndex` unless ``data`` is a whole, undamaged index of segment ``number``."""
        if len(data) < HEADER_BYTES:
            raise BadIndex("shorter than its header")
        magic, version, crc, found, data_end, streams, entry_count = HEADER.unpack_from(data)
        if magic != MAGIC or version != VERSION or found != number:
            raise BadIndex("not the index of this segment")
        ids_end = HEADER_BYTES + 8 * streams
        firsts_end = ids_end + 8 * streams
        starts_end = firsts_end + 4 * (streams + 1)
        if len(data) != starts_end + 4 * entry_count or crc32c(data[_CRC_FROM:]) != crc:
            raise BadIndex("damaged")
        self.data_end: int = data_end
        self._mapping = mapping
        self._ids = data[HEADER_BYTES:ids_end].cast("Q")
        self._firsts = data[ids_end:firsts_end].cast("Q")
        self._starts = data[firsts_end:starts_end].cast("I")
        self._entries = data[starts_end:].cast("I")

    def entries(self, stream_id: int, ordinal: int, count: int) -> memoryview[int]:
        """As :meth:`MemoryIndex.entries`, but in place: u32 in the mapped file."""
        at = bisect_left(self._ids, stream_id)
        if at == len(self._ids) or self._ids[at] != stream_id:
            raise KeyError(stream_id)
        start = self._starts[at] + ordinal - self._firsts[at]
        return self._entries[start : min(start + count, self._starts[at + 1])]

    def runs(self) -> Iterator[Run]:
        for at, stream_id in enumerate(self._ids):
            yield Run(stream_id, self._firsts[at], self._starts[at + 1] - self._starts[at])


SegmentIndex = MemoryIndex | MappedIndex


def runs_between(index: SegmentIndex, start: int, end: int) -> list[Run]:
    """The records whose batches stand, whole or not, from offset ``start`` to ``end``."""
    found: list[Run] = []
    for stream_id, first, records in index.runs():
        entries = index.entries(stream_id, first, records)
        at = [i for i, offset in enumerate(entries) if start <= offset < end]
        if at:
            found.append(Run(stream_id, first + at[0], at[-1] - at[0] + 1))
    return found


class Extents:
    """Which segments hold which records of which stream.

    Written by one thread; read by any, without a lock: a stream's two arrays are always
    looked up together, and grow at their ends only.
    """

    def __init__(self) -> None:
        self._runs: dict[int, tuple[array[int], array[int]]] = {}

    def add(self, stream_id: int, first: int, segment: int) -> None:
        """``segment`` holds the stream's records from ``first`` on."""
        run = self._runs.get(stream_id)
        if run is None:
            self._runs[stream_id] = array("Q", (first,)), array("Q", (segment,))
            return
        firsts, segments = run
        assert first >= firsts[-1]
        # This order: a reader that sees the first ordinal must find the segment.
        segments.append(segment)
        firsts.append(first)

    def find(self, stream_id: int, ordinal: int) -> tuple[int, int | None] | None:
        """``(segment, first ordinal of the next one)`` for a record; None if none holds it."""
        run = self._runs.get(stream_id)
        if run is None:
            return None
        firsts, segments = run
        if len(firsts) == 1:
            return None if ordinal < firsts[0] else (segments[0], None)
        after = bisect_left(firsts, ordinal + 1)
        if after == 0:
            return None
        following = firsts[after] if after < len(firsts) else None
        return segments[after - 1], following

    def following(self, stream_id: int, ordinal: int) -> int | None:
        """The first record behind ``ordinal`` with which a segment begins to hold the stream."""
        firsts, _ = self._runs.get(stream_id, ((), ()))
        after = bisect_left(firsts, ordinal + 1)
        return firsts[after] if after < len(firsts) else None

    def segments(self, stream_id: int) -> list[int]:
        run = self._runs.get(stream_id)
        return [] if run is None else list(run[1])

    def remove(self, stream_id: int) -> None:
        """Forget a stream."""
        self._runs.pop(stream_id, None)

    def trim(self, stream_id: int, start: int) -> None:
        """Forget the segments that hold only records before ``start``."""
        run = self._runs.get(stream_id)
        if run is None:
            return
        firsts, segments = run
        keep = bisect_left(firsts, start + 1) - 1
        if keep > 0:
            self._runs[stream_id] = firsts[keep:], segments[keep:]
