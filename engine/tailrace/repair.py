"""Make a store that refuses to open usable again: ``tailrace repair``.

The damaged batches in the part of the log that a start replays are replaced by LOST
batches of the same length, and so is every later batch that builds on them (the rest of
the same stream): each stream keeps the records before its damage, all other streams keep
everything. What is replaced is first copied to ``damaged/``. Damage in older segments
does not keep a store from opening and is left alone: reading those records reports it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from tailrace import filenames
from tailrace.batch import HEADER_BYTES, Batch, Kind, decode_batch, encode_batch
from tailrace.catalog import BadBatch, apply
from tailrace.check import Damage, Gap, open_for_tools, read_existing_manifest, walk
from tailrace.native import seal_batches
from tailrace.recovery import load_checkpoint
from tailrace.segment import Segment, open_segment
from tailrace.storage import Storage, replace_file


@dataclass
class RepairReport:
    """``lost`` are the batches given up, each with the copy of its bytes in ``saved``."""

    lost: list[Damage] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)


def repair(directory: str | os.PathLike[str], *, storage: Storage | None = None) -> RepairReport:
    """Give up what is damaged so that the store opens. It must not be open (StoreLocked).

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
        self._report = RepairReport()

    def run(self) -> RepairReport:
        known_durable = self._checkpoint
        segments = [
            open_segment(
                self._storage,
                self._manifest.store_id_bytes,
                number,
                self._manifest.segment_bytes,
            )
            for number in self._manifest.segments
            if number >= self._checkpoint // self._manifest.segment_bytes
        ]
        try:
            for segment in segments:
                for item in walk(segment):
                    if not isinstance(item, Gap):
                        known_durable = max(known_durable, item.watermark)
            for segment in segments:
                self._repair_segment(segment, known_durable)
        finally:
            for segment in segments:
                segment.close()
        return self._report

    def _repair_segment(self, segment: Segment, known_durable: int) -> None:
        for item in list(walk(segment)):
            position = segment.base_position + item.offset
            if isinstance(item, Gap):
                if position < known_durable:
                    self._give_up(segment, item, None, "damaged")
                continue
            if position < self._checkpoint:
                continue
            batch = decode_batch(segment.data[item.offset : item.offset + item.length])
            try:
                self._catalog.install(apply(self._catalog, batch))
            except BadBatch as error:
                state = self._catalog.streams.get(batch.stream_id)
                name = None if state is None else str(state.config.key)
                gap = Gap(item.offset, item.offset + item.length, last=False)
                self._give_up(segment, gap, name, str(error))

    def _give_up(self, segment: Segment, gap: Gap, stream: str | None, message: str) -> None:
        offset, end = gap.offset, gap.end
        position = segment.base_position + offset
        # The last gap may be shorter than a batch, or end between two multiples of eight.
        end = max(end + (-end % 8), offset + HEADER_BYTES)
        original = bytes(segment.data[offset:end])
        name = f"{position:016x}"
        self._storage.make_directory(filenames.DAMAGED_DIRECTORY)
        replace_file(self._storage, filenames.DAMAGED_DIRECTORY, name, original)
        # What is known durable goes on behind the last gap: in the next segment.
        kind = Kind.SEAL if gap.last else Kind.LOST
        lost = Batch.bare(kind, 0)._replace(payload=original[HEADER_BYTES:])
        data = bytearray(encode_batch(lost, position, 0))
        assert len(data) == end - offset
        seal_batches(data)
        segment.file.pwrite(data, offset)
        segment.file.sync()
        self._report.saved.append(f"{filenames.DAMAGED_DIRECTORY}/{name}")
        self._report.lost.append(
            Damage(segment.name, position, end - offset, stream, True, message)
        )
