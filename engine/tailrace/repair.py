"""Make a store with damaged bytes usable again: ``tailrace repair``.

The damaged batches are replaced by LOST batches of the same length; what stood there is first
copied to ``damaged/``. A stream whose records were among them goes on behind them: its later
records keep their ordinals, and a read of the lost ones says that they are. All other streams
keep everything.

In the part of the log that a start replays, a later batch can show that records before it are
missing; it has nothing to stand on only if its stream's creation was lost, and is given up
too. Where nothing of a stream stands behind the damage, but a witness (see
:mod:`tailrace.given_out`) tells that there was more, a batch that says so is put at the log's
end: what was given out once is not given out again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import NamedTuple

from tailrace import filenames
from tailrace.batch import HEADER_BYTES, Batch, Flag, Kind, decode_batch, encode_batch
from tailrace.catalog import BadBatch, replay
from tailrace.check import Damage, Gap, gaps, open_for_tools, read_existing_manifest, walk
from tailrace.errors import Corrupted
from tailrace.given_out import GivenOut
from tailrace.limits import BATCH_BYTES_MAX, SEGMENT_HEADER_BYTES
from tailrace.live_files import LiveFiles
from tailrace.log import Log
from tailrace.manifest import Manifest
from tailrace.native import BatchRef, seal_batches
from tailrace.offset_index import BadIndex, MappedIndex, runs_between
from tailrace.recovery import cut, load_checkpoint
from tailrace.salvage import remake_manifest, remake_segment
from tailrace.search.part_list import NAME as SEARCH_MANIFEST
from tailrace.segment import Segment
from tailrace.staged import bytes_of, runs_of
from tailrace.staging import Staging
from tailrace.storage import Storage, read_file, replace_file


class LostRecords(NamedTuple):
    """Records ``first`` to ``stop`` (exclusive) of a stream, named by its name."""

    stream: str
    first: int
    stop: int


@dataclass
class RepairReport:
    """``lost`` are the batches given up, each with the copy of its bytes in ``saved``.

    ``remade`` are files that could not be used at all, and why; they were made anew, as far as
    the others say what stood in them.
    ``records`` are those that streams which go on are known to have lost, here or, if that is
    not long ago, in a repair before. All is empty if there was nothing to do.
    """

    lost: list[Damage] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    records: list[LostRecords] = field(default_factory=list)
    remade: list[str] = field(default_factory=list)


def repair(directory: str | os.PathLike[str], *, storage: Storage | None = None) -> RepairReport:
    """Give up what is damaged so that the store opens. It must not be open (StoreLocked).

    Reads the whole log. Doing it again changes nothing, and goes on where a crash ended it.

    Raises Corrupted where nothing can be done (its ``mendable`` is false then): every checkpoint
    is gone and a part of the log was reclaimed, a segment belongs to another store, or beside
    the manifest something else is missing. Restore those from a backup.
    """
    storage = open_for_tools(directory, storage, mending=True)
    try:
        return _Repair(storage).run()
    finally:
        storage.close()


class _Loss(NamedTuple):
    """A place to be given up; ``stream`` is whose batch stands there, if that is known."""

    segment: Segment
    gap: Gap
    stream: str | None
    message: str


class _Repair:
    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._report = RepairReport()
        self._manifest = manifest = self._read_manifest()
        self._segments = manifest.segments
        self._live = LiveFiles(storage, manifest)
        self._log = Log(storage, self._live)
        self._catalog, self._checkpoint = load_checkpoint(storage, manifest)
        self._replay_from = self._log.segment_at(self._checkpoint)
        self._given_out = GivenOut()

    def run(self) -> RepairReport:
        for number in self._segments:
            if number < self._replay_from:
                segment = self._open(number)
                try:
                    self._repair_old(segment)
                finally:
                    segment.close()
        # There are none if the checkpoint is of the end of a log whose last segment was sealed.
        replayed = [n for n in self._segments if n >= self._replay_from]
        try:
            self._repair_replayed([self._open(number) for number in replayed])
        finally:
            self._log.close()
        found = self._report
        return found if found.lost or found.remade else RepairReport()

    def _read_manifest(self) -> Manifest:
        try:
            return read_existing_manifest(self._storage)
        except Corrupted as error:
            if filenames.MANIFEST in self._storage.list_directory(""):
                damaged = read_file(self._storage, filenames.MANIFEST)
                self._report.saved.append(self._save(filenames.MANIFEST, damaged))
            manifest = remake_manifest(self._storage, error)
            self._report.remade.append(str(error))
            return manifest

    def _open(self, number: int) -> Segment:
        try:
            return self._log.open_existing(number)
        except Corrupted as error:
            self._save_head(number)
            remake_segment(self._storage, self._manifest, number, error)
            self._report.remade.append(str(error))
            return self._log.open_existing(number)

    def _save_head(self, number: int) -> None:
        """Keep a copy of what stands where a segment's header should, if there is anything."""
        try:
            head = read_file(self._storage, filenames.segment(number))[:SEGMENT_HEADER_BYTES]
        except FileNotFoundError:
            return
        position = number * self._manifest.segment_bytes
        self._report.saved.append(self._save(f"{position:016x}", head))

    def _repair_old(self, segment: Segment) -> None:
        """A segment before the checkpoint, which knows all that its batches did."""
        for gap in list(gaps(segment)):
            self._note_records(segment, gap)
            self._give_up(_Loss(segment, gap, None, "damaged"), 0)

    def _note_records(self, segment: Segment, gap: Gap) -> None:
        """Report what the segment's index, if there is one, says that stood in a gap."""
        try:
            data = memoryview(read_file(self._storage, filenames.index(segment.number)))
            end = segment.segment_bytes if gap.last else gap.end
            runs = runs_between(MappedIndex(data, segment.number), gap.offset, end)
        except (FileNotFoundError, BadIndex):
            return
        for run in runs:
            state = self._catalog.streams.get(run.stream_id)
            stop = run.first + run.records
            if state is not None and stop > state.start:
                first = max(run.first, state.start)
                self._report.records.append(LostRecords(str(state.config.key), first, stop))

    def _repair_replayed(self, segments: list[Segment]) -> None:
        """Those from the checkpoint on. Nothing is changed before all that is lost is known."""
        losses, end = self._find_losses(segments)
        if not losses:
            return
        for segment in segments:
            self._given_out.ask_index(self._storage, segment.number)
        self._given_out.ask_search(self._storage)
        # First: a repair that is cut off behind it finds it, and before it the witnesses.
        self._remember_tails(segments, end)
        stream_id = self._given_out.last_stream_id(self._catalog)
        for loss in losses:
            self._give_up(loss, stream_id)

    def _find_losses(self, segments: list[Segment]) -> tuple[list[_Loss], int]:
        """What is to be given up, and the position where the log ends."""
        known_durable = max(self._manifest.checkpoints, default=0)  # be it readable or not
        for segment in segments:
            for item in walk(segment):
                if not isinstance(item, Gap):
                    known_durable = max(known_durable, item.watermark)
        losses: list[_Loss] = []
        for segment in segments:
            for item in walk(segment):
                position = segment.base_position + item.offset
                if not isinstance(item, Gap):
                    losses.extend(self._replay(segment, item))
                elif position < known_durable:
                    losses.append(_Loss(segment, item, None, "damaged"))
                    self._lose(segment, item)
                else:
                    return losses, position
        after = segments[-1].number + 1 if segments else self._replay_from
        return losses, after * self._log.segment_bytes + SEGMENT_HEADER_BYTES

    def _replay(self, segment: Segment, ref: BatchRef) -> list[_Loss]:
        """Move the catalog on by a batch that is whole; or it is lost, too."""
        if segment.base_position + ref.offset + ref.length <= self._checkpoint:
            return []
        batch = decode_batch(segment.data[ref.offset : ref.offset + ref.length])
        state = self._catalog.streams.get(batch.stream_id)
        name = None if state is None else str(state.config.key)
        try:
            replay(self._catalog, batch)
        except BadBatch as error:
            gap = Gap(ref.offset, ref.offset + ref.length, last=False)
            self._lose(segment, gap)
            return [_Loss(segment, gap, name, str(error))]
        self._given_out.see(batch.stream_id)
        if state is not None and batch.kind in (Kind.APPEND, Kind.CREATE):
            self._report_gap(str(state.config.key), state.tail, batch.base_ordinal)
        return []

    def _report_gap(self, stream: str, tail: int, following: int) -> None:
        if following > tail:
            self._report.records.append(LostRecords(stream, tail, following))

    def _lose(self, segment: Segment, gap: Gap) -> None:
        self._catalog.skips = True
        # Behind the last gap of a segment may have been zeros, or what a fault made zeros.
        end = segment.segment_bytes if gap.last else gap.end
        if segment.base_position + end > self._checkpoint:
            self._given_out.lose(end - gap.offset)
            self._given_out.ask_headers(segment, gap.offset, gap.end + (-gap.end % 8))

    def _remember_tails(self, segments: list[Segment], end: int) -> None:
        """Have the log say, from position ``end`` on, how far streams went that lost their last.

        Behind a LOST batch an append, here one without a record, moves the tail on.
        """
        tails = self._given_out.tails(self._catalog)
        if not tails:
            return
        log, catalog = self._log, self._catalog
        staging = Staging(catalog, end, log.segment_bytes, BATCH_BYTES_MAX, 0)
        staging.catalog = catalog  # which knows that records were lost
        for stream_id, tail in tails.items():
            state = catalog.streams[stream_id]
            self._report_gap(str(state.config.key), state.tail, tail)
            flags = Flag.JSON if state.config.is_json else 0
            batch = Batch.bare(Kind.APPEND, state.last_write_ms)
            batch = batch._replace(flags=flags, stream_id=stream_id, base_ordinal=tail)
            staging.batch(batch, None, None)
        self._live.upgrade()
        for at, segment in enumerate(segments):
            segment.file.sync()  # as a start does: nothing that is replayed may still vanish
            if segment.number == log.segment_at(end):
                cut(segment, end - segment.base_position, segments[at:])
        for run in runs_of(staging.take(), log.segment_bytes):
            data = bytes_of(run)
            seal_batches(data)
            segment = log.ensure(log.segment_at(run[0].position))
            segment.write(run[0].position, data)
            segment.file.sync()

    def _give_up(self, loss: _Loss, stream_id: int) -> None:
        """``stream_id`` is the highest that was given out, or 0."""
        segment, (offset, end, last), stream, message = loss
        position = segment.base_position + offset
        # The last gap may be shorter than a batch, or end between two multiples of eight. A SEAL
        # batch in place of more than one gets a payload, which says so.
        least = HEADER_BYTES + 8 * last
        end = max(end + (-end % 8), min(offset + least, segment.segment_bytes))
        original = bytes(segment.data[offset:end])
        saved = self._save(f"{position:016x}", original)
        self._forget_derived(segment.number)
        # What is known durable goes on behind the last gap: in the next segment.
        kind = Kind.SEAL if last else Kind.LOST
        lost = Batch.bare(kind, 0)._replace(stream_id=stream_id, payload=original[HEADER_BYTES:])
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
