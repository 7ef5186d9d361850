"""Make a store with damaged bytes usable again: ``tailrace repair``.

The damaged batches are replaced by LOST batches of the same length; what stood there is first
copied to ``damaged/``. A stream whose records were among them goes on behind them: its later
records keep their ordinals, and a read of the lost ones says that they are. All other streams
keep everything.

In the part of the log that a start replays, a later batch can show that records before it are
missing; it has nothing to stand on only if its stream's creation was lost, and is given up
too. Where nothing of a stream stands behind the damage, nothing tells that there was more.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import NamedTuple

from tailrace import filenames
from tailrace.batch import HEADER_BYTES, Batch, Kind, decode_batch, encode_batch
from tailrace.catalog import BadBatch, replay
from tailrace.check import Damage, Gap, gaps, open_for_tools, read_existing_manifest, walk
from tailrace.native import seal_batches
from tailrace.offset_index import BadIndex, MappedIndex, runs_between
from tailrace.recovery import load_checkpoint
from tailrace.search.part_list import NAME as SEARCH_MANIFEST
from tailrace.segment import Segment, open_segment
from tailrace.storage import Storage, read_file, replace_file


class LostRecords(NamedTuple):
    """Records ``first`` to ``stop`` (exclusive) of a stream, named by its name."""

    stream: str
    first: int
    stop: int


@dataclass
class RepairReport:
    """``lost`` are the batches given up, each with the copy of its bytes in ``saved``.

    ``records`` are those that streams which go on are known to have lost, here or, if that is
    not long ago, in a repair before. All is empty if there was nothing to do.
    """

    lost: list[Damage] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    records: list[LostRecords] = field(default_factory=list)


def repair(directory: str | os.PathLike[str], *, storage: Storage | None = None) -> RepairReport:
    """Give up what is damaged so that the store opens. It must not be open (StoreLocked).

    Reads the whole log. Doing it again changes nothing, and goes on where a crash ended it.

    Raises Corrupted where nothing can be done: the manifest, a whole segment, or every
    checkpoint is gone; restore those from a backup.
    """
    storage = open_for_tools(directory, storage)
    try:
        return _Repair(storage).run()
    finally:
        storage.close()


class _Repair:
    def __init__(self, storage: Storage) -> None:
        manifest = read_existing_manifest(storage)
        self._storage = storage
        self._manifest = manifest
        self._catalog, self._checkpoint = load_checkpoint(storage, manifest)
        self._replay_from = self._checkpoint // manifest.segment_bytes
        self._report = RepairReport()

    def run(self) -> RepairReport:
        known_durable = self._checkpoint
        replayed = [n for n in self._manifest.segments if n >= self._replay_from]
        for number in self._manifest.segments:
            if number < self._replay_from:
                segment = self._open(number)
                try:
                    self._repair_old(segment)
                finally:
                    segment.close()
        segments = [self._open(number) for number in replayed]
        try:
            for segment in segments:
                for item in walk(segment):
                    if not isinstance(item, Gap):
                        known_durable = max(known_durable, item.watermark)
            for segment in segments:
                self._repair_replayed(segment, known_durable)
        finally:
            for segment in segments:
                segment.close()
        return self._report if self._report.lost else RepairReport()

    def _open(self, number: int) -> Segment:
        manifest = self._manifest
        return open_segment(self._storage, manifest.store_id_bytes, number, manifest.segment_bytes)

    def _repair_old(self, segment: Segment) -> None:
        """A segment before the checkpoint, which knows all that its batches did."""
        for gap in list(gaps(segment)):
            self._note_records(segment, gap)
            self._give_up(segment, gap, None, "damaged")

    def _note_records(self, segment: Segment, gap: Gap) -> None:
        """Report what the segment's index, if there is one, says that stood in a gap."""
        try:
            data = memoryview(read_file(self._storage, filenames.index(segment.number)))
            runs = runs_between(MappedIndex(data, segment.number), gap.offset, gap.end)
        except (FileNotFoundError, BadIndex):
            return
        for run in runs:
            state = self._catalog.streams.get(run.stream_id)
            stop = run.first + run.records
            if state is not None and stop > state.start:
                first = max(run.first, state.start)
                self._report.records.append(LostRecords(str(state.config.key), first, stop))

    def _repair_replayed(self, segment: Segment, known_durable: int) -> None:
        for item in list(walk(segment)):
            if isinstance(item, Gap):
                if segment.base_position + item.offset < known_durable:
                    self._give_up(segment, item, None, "damaged")
                    self._catalog.skips = True
                continue
            if segment.base_position + item.offset + item.length <= self._checkpoint:
                continue
            batch = decode_batch(segment.data[item.offset : item.offset + item.length])
            state = self._catalog.streams.get(batch.stream_id)
            name = None if state is None else str(state.config.key)
            try:
                replay(self._catalog, batch)
            except BadBatch as error:
                gap = Gap(item.offset, item.offset + item.length, last=False)
                self._give_up(segment, gap, name, str(error))
                continue
            if state is not None and name is not None and batch.ends:
                lost = LostRecords(name, state.tail, batch.base_ordinal)
                if lost.stop > lost.first:
                    self._report.records.append(lost)

    def _give_up(self, segment: Segment, gap: Gap, stream: str | None, message: str) -> None:
        offset, end = gap.offset, gap.end
        position = segment.base_position + offset
        # The last gap may be shorter than a batch, or end between two multiples of eight.
        end = max(end + (-end % 8), offset + HEADER_BYTES)
        original = bytes(segment.data[offset:end])
        saved = self._save(f"{position:016x}", original)
        self._forget_derived(segment.number)
        # What is known durable goes on behind the last gap: in the next segment.
        kind = Kind.SEAL if gap.last else Kind.LOST
        lost = Batch.bare(kind, 0)._replace(payload=original[HEADER_BYTES:])
        data = bytearray(encode_batch(lost, position, 0))
        assert len(data) == end - offset
        seal_batches(data)
        segment.file.pwrite(data, offset)
        segment.file.sync()
        self._report.saved.append(saved)
        self._report.lost.append(
            Damage(segment.name, position, end - offset, stream, True, message)
        )

    def _save(self, name: str, original: bytes) -> str:
        """Keep a copy; the first, if a repair that was cut off had begun to write there."""
        directory = filenames.DAMAGED_DIRECTORY
        self._storage.make_directory(directory)
        if name not in self._storage.list_directory(directory):
            replace_file(self._storage, directory, name, original)
        return f"{directory}/{name}"

    def _forget_derived(self, number: int) -> None:
        """Remove, before anything changes, what the next start makes again from what is left.

        The index of the segment; and if the streams' states change, the whole index for search:
        what it knows to be gone, or there, need not be so any more.
        """
        self._storage.unlink(filenames.index(number))
        self._storage.sync_directory(filenames.LOG_DIRECTORY)
        if number >= self._replay_from:
            self._storage.make_directory(filenames.SEARCH_DIRECTORY)
            self._storage.unlink(f"{filenames.SEARCH_DIRECTORY}/{SEARCH_MANIFEST}")
            self._storage.sync_directory(filenames.SEARCH_DIRECTORY)
