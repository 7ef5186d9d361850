"""The log: ordered segments, what stands where in them, and the walk through their batches."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from tailrace.batch import Batch, Kind, decode_batch
from tailrace.limits import SEAL_BYTES, SEGMENT_HEADER_BYTES
from tailrace.live_files import LiveFiles
from tailrace.offset_index import Extents, MemoryIndex, Run, SegmentIndex, runs_between
from tailrace.segment import Segment, open_segment
from tailrace.storage import Storage


class Place(NamedTuple):
    """Where a batch goes: log positions ``position`` to ``end``.

    ``seal_at`` is set where the batch opens a new segment: the place of the SEAL batch that must
    end the segment before it first.
    """

    position: int
    end: int
    seal_at: int | None


class Hole(NamedTuple):
    """Log positions from ``position`` to ``end`` where bytes are damaged.

    ``runs`` are the records that stood there. The offset index names them: it was made when
    these bytes were whole, and has a checksum of its own.
    """

    file: str
    position: int
    end: int
    runs: tuple[Run, ...]


class Cursor:
    """The log position where the next batch is staged. A batch never crosses a segment's end."""

    def __init__(self, position: int, segment_bytes: int) -> None:
        self.position = position
        self._segment_bytes = segment_bytes

    @property
    def room(self) -> int:
        """Bytes from here to the segment's end."""
        return self._segment_bytes - self.position % self._segment_bytes

    def place(self, length: int) -> Place:
        """Where the next ``length`` bytes go. To take the place, set ``position`` to its end."""
        position = self.position
        if length + SEAL_BYTES <= self.room:
            return Place(position, position + length, None)
        number = position // self._segment_bytes + 1
        start = number * self._segment_bytes + SEGMENT_HEADER_BYTES
        return Place(start, start + length, position)


class Log:
    """Open segments with their indexes. Written by one thread at a time, read by any."""

    def __init__(self, storage: Storage, live: LiveFiles) -> None:
        self._storage = storage
        self._live = live
        self._open_lock = threading.Lock()
        self.segment_bytes = live.manifest.segment_bytes
        self.segments: dict[int, Segment] = {}
        self.indexes: dict[int, SegmentIndex] = {}
        self.extents = Extents()

    def segment_at(self, position: int) -> int:
        """The number of the segment that ``position`` is in."""
        return position // self.segment_bytes

    def ensure(self, number: int) -> Segment:
        """Segment ``number``, open for writing; created if it does not exist. May raise OSError."""
        segment = self.segments.get(number)
        if segment is not None:
            return segment
        with self._open_lock:
            segment = self.segments.get(number)
            if segment is None:
                self._live.ensure_segment(number)
                segment = self.open_existing(number)
            return segment

    def open_existing(self, number: int) -> Segment:
        """Open a segment that the manifest names."""
        manifest = self._live.manifest
        segment = open_segment(
            self._storage, manifest.store_id_bytes, number, manifest.segment_bytes
        )
        self.indexes.setdefault(number, MemoryIndex())
        self.segments[number] = segment
        return segment

    def note(self, stream_id: int, base_ordinal: int, record_count: int, position: int) -> None:
        """Index a batch of records that is in the log now."""
        number = position // self.segment_bytes
        index = self.indexes[number]
        assert isinstance(index, MemoryIndex)
        offset = position - number * self.segment_bytes
        if index.add(stream_id, base_ordinal, record_count, offset):
            self.extents.add(stream_id, base_ordinal, number)

    def note_each(
        self,
        stream_ids: Iterable[int],
        base_ordinals: Iterable[int],
        record_counts: Iterable[int],
        offsets: Iterable[int],
        position: int,
    ) -> None:
        """:meth:`note` for batches of many streams in one segment, at ``position`` + offset.

        Stream id 0 stands for no batch.
        """
        number = position // self.segment_bytes
        index = self.indexes[number]
        assert isinstance(index, MemoryIndex)
        shift = position - number * self.segment_bytes
        for stream_id, base_ordinal in index.add_each(
            stream_ids, base_ordinals, record_counts, offsets, shift
        ):
            self.extents.add(stream_id, base_ordinal, number)

    def batches(
        self, position: int, stop: int, stream_ids: Container[int]
    ) -> Iterator[Batch | Hole]:
        """The batches of some streams from ``position`` to ``stop``, checksums verified.

        Segments that were reclaimed are passed over; where anything else stands that is not a
        whole batch, of whatever stream, there is a :class:`Hole`. Everything below ``stop`` is
        durable. Payloads are slices of mapped segments.
        """
        while position < stop:
            number = self.segment_at(position)
            segment = self.segments.get(number)
            if segment is not None:
                yield from self._segment_batches(segment, position, stop, stream_ids)
            position = (number + 1) * self.segment_bytes + SEGMENT_HEADER_BYTES

    def _segment_batches(
        self, segment: Segment, position: int, stop: int, stream_ids: Container[int]
    ) -> Iterator[Batch | Hole]:
        base = segment.base_position
        offset = max(position - base, SEGMENT_HEADER_BYTES)
        limit = min(stop - base, segment.segment_bytes)
        while True:
            for ref in segment.view.scan(offset, base):
                if ref.offset >= limit or ref.kind == Kind.SEAL:
                    return
                offset = ref.offset + ref.length
                if ref.stream_id in stream_ids:
                    yield decode_batch(segment.data[ref.offset : offset])
            if offset >= limit:
                return
            end = min(segment.view.find(offset, base), limit)
            runs = runs_between(self.indexes[segment.number], offset, end)
            yield Hole(segment.name, base + offset, base + end, tuple(runs))
            offset = end

    def close(self) -> None:
        for segment in self.segments.values():
            segment.close()
