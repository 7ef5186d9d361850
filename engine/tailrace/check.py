"""Look at every byte of a data directory without changing one: ``tailrace check``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tailrace import filenames
from tailrace.batch import HEADER, HEADER_BYTES, Kind, decode_batch
from tailrace.catalog import BadBatch, Catalog, replay
from tailrace.checkpoint import BadCheckpoint, decode_checkpoint
from tailrace.errors import Corrupted
from tailrace.limits import SEGMENT_HEADER_BYTES
from tailrace.manifest import Manifest, need_store, read_manifest
from tailrace.native import BatchRef, View
from tailrace.offset_index import BadIndex, MappedIndex
from tailrace.segment import Segment, open_segment
from tailrace.snapshot import SnapshotReader
from tailrace.snapshot_files import open_file
from tailrace.storage import OsStorage, Storage, read_file
from tailrace.views import head_of


class Damage(NamedTuple):
    """Bytes that are not what was written. ``position`` is a log position, or a byte of the file.

    ``acknowledged``: the log proves that these bytes were durable once; without it they may be
    a write that a crash tore. ``stream`` is the stream's name, where it is known.
    """

    file: str
    position: int
    length: int
    stream: str | None
    acknowledged: bool
    message: str


@dataclass
class CheckReport:
    """What a check saw. Derived files that are damaged are made again by the next start.

    Visible snapshots are looked at only if the log is whole: else it does not say which they are.
    ``snapshot_damages`` keep no store from opening; who has such a snapshot can store it again.
    """

    segments: int = 0
    batches: int = 0
    records: int = 0
    bytes: int = 0
    snapshots: int = 0
    damages: list[Damage] = field(default_factory=list)
    snapshot_damages: list[Damage] = field(default_factory=list)
    derived_damages: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing that was acknowledged is damaged."""
        return self.log_ok and not self.snapshot_damages

    @property
    def log_ok(self) -> bool:
        """The same of the log alone."""
        return not any(damage.acknowledged for damage in self.damages)


class Gap(NamedTuple):
    """A range of a segment in which no valid batch stands, up to ``end``.

    ``last``: nothing valid follows in the segment. The log then ends here, or should have been
    sealed; the range may be empty.
    """

    offset: int
    end: int
    last: bool


def check(directory: str | os.PathLike[str], *, storage: Storage | None = None) -> CheckReport:
    """Verify every checksum. The store must not be open: :class:`StoreLocked` if it is.

    Raises Corrupted if the manifest itself cannot be read, NoStore if there is nothing to look
    at, UnsupportedFormat, OSError.
    """
    storage = open_for_tools(directory, storage)
    try:
        return check_storage(storage)
    finally:
        storage.close()


def open_for_tools(
    directory: str | os.PathLike[str], storage: Storage | None, *, mending: bool = False
) -> Storage:
    """A store's storage, locked. Leaves a directory that is no store as it is.

    ``mending``: the manifest may be damaged.
    """
    storage = storage or OsStorage(directory, create=False)
    try:
        read_existing_manifest(storage)
    except Corrupted:
        if not mending:
            raise
    storage.lock()
    return storage


def read_existing_manifest(storage: Storage) -> Manifest:
    """The manifest; NoStore if there is none and no log either, Corrupted if there is one."""
    need_store(storage)
    manifest = read_manifest(storage)
    if manifest is None:
        raise Corrupted(
            "the manifest is missing but the rest of a store is there",
            file=filenames.MANIFEST,
            position=0,
        )
    return manifest


def check_storage(storage: Storage) -> CheckReport:
    manifest = read_existing_manifest(storage)
    report = CheckReport()
    catalog, checkpoint = _check_checkpoints(storage, manifest, report)
    replayed = _Replay(catalog, checkpoint)
    known_durable = max(manifest.checkpoints, default=0)
    suspects: list[Damage] = []
    for number in manifest.segments:
        segment = _open(storage, manifest, number, report)
        if segment is None:
            replayed.broken = True
            continue
        try:
            found, watermark = _check_segment(segment, replayed, report)
            known_durable = max(known_durable, watermark)
            suspects.extend(found)
            _check_index(storage, number, report)
        finally:
            segment.close()
    for damage in suspects:
        acknowledged = damage.position < known_durable
        if acknowledged or damage.length:
            report.damages.append(damage._replace(acknowledged=acknowledged))
    if not replayed.broken and report.log_ok:
        _check_snapshots(storage, catalog, report)
    return report


def walk(segment: Segment) -> Iterator[BatchRef | Gap]:
    """Every valid batch of a segment, what stands between them, and what instead of its seal."""
    view, base = segment.view, segment.base_position
    offset = SEGMENT_HEADER_BYTES
    while True:
        for ref in view.scan(offset, base):
            yield ref
            offset = ref.offset + ref.length
            if ref.kind == Kind.SEAL:
                return
        gap = _gap(view, offset, base)
        yield gap
        if gap.last:
            return
        offset = gap.end


def gaps(segment: Segment) -> Iterator[Gap]:
    """Those of :func:`walk`, without looking at each batch."""
    view, base = segment.view, segment.base_position
    offset = SEGMENT_HEADER_BYTES
    while True:
        offset, kind = view.skip(offset, base)
        if kind == Kind.SEAL:
            return
        gap = _gap(view, offset, base)
        yield gap
        if gap.last:
            return
        offset = gap.end


def _gap(view: View, offset: int, base: int) -> Gap:
    """What stands at ``offset``, where no valid batch does."""
    following = view.find(offset, base)
    if following == view.length:
        return Gap(offset, view.nonzero_end(offset), last=True)
    return Gap(offset, following, last=False)


def _open(storage: Storage, manifest: Manifest, number: int, report: CheckReport) -> Segment | None:
    try:
        segment = open_segment(
            storage, manifest.store_id_bytes, number, manifest.segment_bytes, writable=False
        )
    except Corrupted as error:
        position = number * manifest.segment_bytes
        report.damages.append(
            Damage(error.file, position, manifest.segment_bytes, None, True, str(error))
        )
        return None
    report.segments += 1
    return segment


class _Replay:
    """The catalog, moved on from its checkpoint by every batch that is still whole.

    ``broken``: one did not fit, or stands behind a gap, so that this may not be the catalog
    that a start comes to.
    """

    def __init__(self, catalog: Catalog, checkpoint: int) -> None:
        self.catalog = catalog
        self._checkpoint = checkpoint
        self._ended = False
        self.broken = False

    def gap(self) -> None:
        self._ended = True

    def batch(self, segment: Segment, ref: BatchRef) -> None:
        if segment.base_position + ref.offset + ref.length <= self._checkpoint:
            return
        self.broken = self.broken or self._ended
        batch = decode_batch(segment.data[ref.offset : ref.offset + ref.length])
        try:
            replay(self.catalog, batch)
        except BadBatch:
            self.broken = True


def _check_segment(
    segment: Segment, replayed: _Replay, report: CheckReport
) -> tuple[list[Damage], int]:
    suspects: list[Damage] = []
    watermark = 0
    for item in walk(segment):
        if isinstance(item, Gap):
            replayed.gap()
            suspects.append(_damage(segment, item, replayed.catalog))
            continue
        replayed.batch(segment, item)
        watermark = max(watermark, item.watermark)
        report.batches += 1
        report.records += item.record_count
        report.bytes += item.length
    return suspects, watermark


def _damage(segment: Segment, gap: Gap, catalog: Catalog) -> Damage:
    position = segment.base_position + gap.offset
    stream = None
    if gap.end - gap.offset >= HEADER_BYTES:
        # The header may well be whole, the damage behind it: then it names the stream.
        stream_id = HEADER.unpack_from(segment.data, gap.offset)[8]
        state = catalog.streams.get(stream_id)
        stream = None if state is None else str(state.config.key)
    return Damage(
        segment.name,
        position,
        gap.end - gap.offset,
        stream,
        False,
        "no valid batch stands here",
    )


def _check_checkpoints(
    storage: Storage, manifest: Manifest, report: CheckReport
) -> tuple[Catalog, int]:
    """The newest catalog that can be read, and the log position it is of."""
    newest: tuple[Catalog, int] | None = None
    for position in manifest.checkpoints:
        name = filenames.checkpoint(position)
        try:
            catalog = decode_checkpoint(read_file(storage, name), position)
            newest = newest or (catalog, position)
        except (BadCheckpoint, FileNotFoundError) as error:
            report.derived_damages.append(f"{name}: {error}")
    if newest is None and not manifest.has_whole_log:
        name = filenames.checkpoint(max(manifest.checkpoints, default=0))
        report.damages.append(
            Damage(name, 0, 0, None, True, "no checkpoint can be read, and it cannot be made again")
        )
    return newest or (Catalog(), 0)


def _check_snapshots(storage: Storage, catalog: Catalog, report: CheckReport) -> None:
    """Read every visible snapshot and compare its digest."""
    for state in catalog.streams.values():
        snapshot = state.snapshot
        if snapshot is None:
            continue
        report.snapshots += 1
        try:
            with SnapshotReader(
                open_file(storage, state.config.key, snapshot), head_of(state), snapshot
            ) as reader:
                while reader.read():
                    pass
        except (Corrupted, FileNotFoundError) as error:
            message = str(error) if isinstance(error, Corrupted) else "the file is missing"
            name, stream = filenames.snapshot(snapshot.file), str(state.config.key)
            damage = Damage(name, 0, snapshot.length, stream, True, message)
            report.snapshot_damages.append(damage)


def _check_index(storage: Storage, number: int, report: CheckReport) -> None:
    name = filenames.index(number)
    try:
        data = read_file(storage, name)
    except FileNotFoundError:
        return
    try:
        MappedIndex(memoryview(data), number)
    except BadIndex as error:
        report.derived_damages.append(f"{name}: {error}")
