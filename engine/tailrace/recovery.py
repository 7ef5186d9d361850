"""From a data directory to the state it holds: newest valid checkpoint + replay of the log after.

What stands where the log ends decides between two cases (see FORMAT.md, "Where the log ends"):

* *torn tail*: no valid batch behind it knew it durable. It was never acknowledged: it is
  zeroed, synced, and the log goes on there.
* *damage*: a later valid batch carries a durable watermark beyond it, or the checkpoint
  does. Acknowledged data is not what it was: :class:`tailrace.errors.Corrupted`.

Recovering again, or after a crash in recovery, comes to the same state.
"""

from __future__ import annotations

import logging
import secrets
from typing import NamedTuple

from tailrace import filenames
from tailrace.batch import Kind, decode_batch
from tailrace.catalog import BadBatch, Catalog, replay
from tailrace.checkpoint import BadCheckpoint, decode_checkpoint
from tailrace.errors import Corrupted
from tailrace.limits import SEGMENT_HEADER_BYTES
from tailrace.live_files import LiveFiles
from tailrace.log import Log
from tailrace.manifest import FORMAT, Manifest, read_manifest
from tailrace.native import View
from tailrace.offset_index import BadIndex, MappedIndex, MemoryIndex
from tailrace.segment import Segment
from tailrace.snapshot_files import reconcile
from tailrace.storage import Storage, read_file, write_zeros

_logger = logging.getLogger("tailrace")


class Recovered(NamedTuple):
    """``position`` is where the next batch goes, ``checkpoint`` where replay began."""

    live: LiveFiles
    log: Log
    catalog: Catalog
    position: int
    checkpoint: int


def recover(storage: Storage, segment_bytes: int) -> Recovered:
    """Open what the directory holds, or make it a new store with segments of ``segment_bytes``.

    Raises Corrupted, UnsupportedFormat or OSError. The caller has locked the directory.
    """
    storage.make_directory(filenames.LOG_DIRECTORY)
    storage.make_directory(filenames.SNAPSHOT_DIRECTORY)
    # A killed process leaves renames and writes that the system knows but the disk may not.
    # What is built on from here on must not vanish in a power failure: see also _replay.
    storage.sync_directory("")
    storage.sync_directory(filenames.LOG_DIRECTORY)
    live = _live_files(storage, segment_bytes)
    _remove_strays(storage, live.manifest)
    log = Log(storage, live)
    catalog, checkpoint = load_checkpoint(storage, live.manifest)
    for number in sorted(live.manifest.segments):
        segment = log.open_existing(number)
        if number < log.segment_at(checkpoint):
            segment.close()  # durable when the checkpoint was written, and never written again
    position = _replay(storage, live, log, catalog, checkpoint)
    for number in log.segments:
        if number < log.segment_at(position):
            log.segments[number].close()
    _fill_extents(log, catalog)
    live.upgrade()
    reconcile(storage, catalog)
    return Recovered(live, log, catalog, position, checkpoint)


def _live_files(storage: Storage, segment_bytes: int) -> LiveFiles:
    manifest = read_manifest(storage)
    if manifest is not None:
        return LiveFiles(storage, manifest)
    for name in storage.list_directory(filenames.LOG_DIRECTORY):
        number = filenames.segment_number(name)
        if number is not None and (number > 0 or _holds_data(storage, number)):
            raise Corrupted(
                "the manifest is missing but there are segments with data",
                file=filenames.MANIFEST,
                position=0,
            )
    if any(filenames.checkpoint_position(name) is not None for name in storage.list_directory("")):
        raise Corrupted(
            "the manifest is missing, and the log too, but there are checkpoints",
            file=filenames.MANIFEST,
            position=0,
            mendable=False,
        )
    # At most the empty first segment of a creation that was interrupted: begin again.
    storage.unlink(filenames.segment(0))
    manifest = Manifest(FORMAT, secrets.token_hex(16), segment_bytes, (), ())
    live = LiveFiles(storage, manifest)
    live.ensure_segment(0)
    return live


def _holds_data(storage: Storage, number: int) -> bool:
    file = storage.open(filenames.segment(number))
    try:
        if file.size_bytes() <= SEGMENT_HEADER_BYTES:
            return False
        return View(file.map().view).nonzero_end(SEGMENT_HEADER_BYTES) > SEGMENT_HEADER_BYTES
    finally:
        file.close()


def _remove_strays(storage: Storage, manifest: Manifest) -> None:
    """Files that an interrupted change left behind and the manifest does not name."""
    removed = False
    for name in storage.list_directory(filenames.LOG_DIRECTORY):
        number = filenames.segment_number(name)
        if number is None:
            number = filenames.index_number(name)
        stray = number is not None and number not in manifest.segments
        if stray or name.endswith(filenames.TEMPORARY_SUFFIX):
            storage.unlink(f"{filenames.LOG_DIRECTORY}/{name}")
            removed = True
    if removed:
        storage.sync_directory(filenames.LOG_DIRECTORY)
    for name in storage.list_directory(""):
        position = filenames.checkpoint_position(name)
        stray = position is not None and position not in manifest.checkpoints
        if stray or name.endswith(filenames.TEMPORARY_SUFFIX):
            storage.unlink(name)


def load_checkpoint(storage: Storage, manifest: Manifest) -> tuple[Catalog, int]:
    """The newest catalog on disk and the log position it is of; an empty one if the
    whole log is still there to be replayed. Corrupted if it is not.
    """
    for position in manifest.checkpoints:
        name = filenames.checkpoint(position)
        try:
            return decode_checkpoint(read_file(storage, name), position), position
        except (BadCheckpoint, FileNotFoundError) as error:
            _logger.error("checkpoint %s cannot be used: %s", name, error)
    if manifest.has_whole_log:
        return Catalog(), SEGMENT_HEADER_BYTES
    raise Corrupted(
        "no checkpoint can be read, and a part of the log before it was reclaimed",
        file=filenames.checkpoint(max(manifest.checkpoints, default=0)),
        position=0,
        mendable=False,
    )


def _replay(storage: Storage, live: LiveFiles, log: Log, catalog: Catalog, checkpoint: int) -> int:
    """Index every segment, apply the batches from ``checkpoint`` on; where the log ends."""
    numbers = sorted(log.segments)
    for i, number in enumerate(numbers):
        segment = log.segments[number]
        replayed = number >= log.segment_at(checkpoint)
        if not replayed and _open_index(storage, log, number):
            continue
        end, sealed = _walk(log, catalog, segment, checkpoint)
        if replayed:
            segment.file.sync()
        if sealed:
            continue
        later = [log.segments[n] for n in numbers[i:]]
        _refuse_damage(segment, end, later, max(live.manifest.checkpoints, default=0))
        cut(segment, end, later)
        return segment.base_position + end
    # The last segment was sealed, and its successor does not count yet.
    return (numbers[-1] + 1) * log.segment_bytes + SEGMENT_HEADER_BYTES


def _open_index(storage: Storage, log: Log, number: int) -> bool:
    """Use the index file of a sealed segment, if it is there and whole."""
    try:
        file = storage.open(filenames.index(number))
    except FileNotFoundError:
        return False
    try:
        mapping = file.map()
        log.indexes[number] = MappedIndex(mapping.view, number, mapping)
        return True
    except (BadIndex, ValueError) as error:
        _logger.warning("index of segment %d is made again: %s", number, error)
        return False
    finally:
        file.close()


def _walk(log: Log, catalog: Catalog, segment: Segment, checkpoint: int) -> tuple[int, bool]:
    """Index a segment's batches and apply those from ``checkpoint`` on.

    ``(offset where its valid batches end, whether the last of them seals it)``.
    """
    base = segment.base_position
    index = MemoryIndex()
    log.indexes[segment.number] = index
    end = SEGMENT_HEADER_BYTES
    sealed = False
    for ref in segment.view.scan(SEGMENT_HEADER_BYTES, base):
        if base + ref.offset + ref.length > checkpoint:  # of a LOST batch, perhaps only its end
            batch = decode_batch(segment.data[ref.offset : ref.offset + ref.length])
            try:
                replay(catalog, batch)
            except BadBatch as error:
                raise Corrupted(
                    str(error), file=segment.name, position=base + ref.offset
                ) from error
        if ref.record_count:
            try:
                index.add(ref.stream_id, ref.base_ordinal, ref.record_count, ref.offset)
            except BadIndex as error:
                raise Corrupted(
                    str(error), file=segment.name, position=base + ref.offset
                ) from error
        end = ref.offset + ref.length
        if ref.kind == Kind.SEAL:
            sealed = True
            break
    return end, sealed


def _refuse_damage(segment: Segment, end: int, later: list[Segment], checkpoint: int) -> None:
    """Raise Corrupted if what stands at ``end`` was acknowledged.

    ``checkpoint`` is the position of the newest: it tells that, be it readable or not.
    """
    position = segment.base_position + end
    known_durable = checkpoint
    for other in later:
        offset = end if other is segment else SEGMENT_HEADER_BYTES
        while offset < other.view.length:
            offset = other.view.find(offset, other.base_position)
            for ref in other.view.scan(offset, other.base_position):
                known_durable = max(known_durable, ref.watermark)
                offset = ref.offset + ref.length
    if known_durable > position:
        raise Corrupted(
            f"acknowledged data is damaged: the log is known durable up to {known_durable}. "
            "Run `tailrace check` for what is affected, `tailrace repair` to go on without it",
            file=segment.name,
            position=position,
        )


def cut(segment: Segment, end: int, later: list[Segment]) -> None:
    """Zero everything behind the log's end: from offset ``end`` of ``segment`` on.

    ``later`` are that segment and those behind it.
    """
    for other in later:
        start = end if other is segment else SEGMENT_HEADER_BYTES
        stop = other.view.nonzero_end(start)
        if stop > start:
            _logger.warning(
                "%s: %d bytes of a write that was never acknowledged are cut",
                other.name,
                stop - start,
            )
            write_zeros(other.file, start, stop)
            other.file.sync()


def _fill_extents(log: Log, catalog: Catalog) -> None:
    for number in sorted(log.indexes):
        for run in log.indexes[number].runs():
            state = catalog.streams.get(run.stream_id)
            if state is not None and run.records and run.first < state.tail:
                log.extents.add(run.stream_id, run.first, number)
    for stream_id, state in catalog.streams.items():
        if state.start > state.config.base and state.forks == 0:
            log.extents.trim(stream_id, state.start)
