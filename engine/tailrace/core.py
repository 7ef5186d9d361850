"""The parts of an open store, wired together: how it opens, publishes and closes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from tailrace import filenames, limits
from tailrace.batch import Batch, Kind
from tailrace.catalog import Change, snapshots_released
from tailrace.commit import Committer
from tailrace.errors import TailraceError
from tailrace.expiry import Expiry
from tailrace.indexer import Indexer
from tailrace.listing import Listing
from tailrace.options import Options
from tailrace.outcome import Appended
from tailrace.plain_rows import PlainRows
from tailrace.reader import Reader
from tailrace.recovery import recover
from tailrace.reserve import Reserve
from tailrace.search.index import SearchIndex
from tailrace.small_reads import SmallReads
from tailrace.snapshot_files import SnapshotFiles
from tailrace.sorted_names import SortedNames
from tailrace.staged import Publish
from tailrace.storage import Storage
from tailrace.threads import NoThread
from tailrace.ticket import Group
from tailrace.upkeep import Upkeep
from tailrace.waiters import Waiters

_logger = logging.getLogger("tailrace")


def wall_clock_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def open_core(storage: Storage, options: Options, now_ms: Callable[[], int]) -> Core:
    """Lock a directory and open it. Raises StoreLocked, Corrupted, NoThread, OSError."""
    storage.lock()
    try:
        return Core(storage, options, now_ms)
    except BaseException:
        storage.close()
        raise


class Core:
    """What :class:`tailrace.store.Store` speaks to. ``storage`` is locked, and closed with it."""

    def __init__(self, storage: Storage, options: Options, now_ms: Callable[[], int]) -> None:
        self.storage = storage
        self.now_ms = now_ms
        self.closed = False
        self._close_lock = threading.Lock()
        self.on_group: Callable[[Group], None] | None = None
        recovered = recover(storage, options.segment_bytes)
        self.log = recovered.log
        self.durable = recovered.catalog
        self.reserve = Reserve(storage, self.log.segment_bytes, options.reserve_bytes_max)
        recovered.live.reserve = self.reserve
        self.names = SortedNames(self.durable)
        self.listing = Listing(self.durable, self.names, now_ms)
        self.expiry = Expiry(self.durable.streams)
        self.waiters = Waiters()
        self.reader = Reader(self.log, self.durable)
        self.small_reads = SmallReads(self.log, self.durable)
        self.snapshots = SnapshotFiles(storage, self.durable)
        batch_bytes_max = min(
            limits.BATCH_BYTES_MAX,
            self.log.segment_bytes - limits.SEGMENT_HEADER_BYTES - limits.SEAL_BYTES,
        )
        self.committer = Committer(
            self.log,
            self.durable,
            recovered.position,
            now_ms,
            batch_bytes_max=batch_bytes_max,
            staged_bytes_max=options.staged_bytes_max,
            mark_idle_s=options.mark_idle_s,
            publish=self._publish,
            on_group=self._group_done,
            background=options.background,
        )
        self.indexer = Indexer(
            SearchIndex.open(storage, filenames.SEARCH_DIRECTORY),
            self.log,
            self.durable,
            lambda: self.committer.durable_position,
            options.index_lag_bytes_max,
        )
        self.upkeep = Upkeep(
            storage,
            recovered.live,
            self.log,
            self.durable,
            self.expiry,
            self.committer,
            self.reserve,
            now_ms,
            checkpoint=recovered.checkpoint,
            checkpoint_every_bytes=options.checkpoint_every_bytes,
            sweep_s=options.expiry_sweep_s,
            upkeep_of_search=self.indexer.upkeep,
            remove_released=self.snapshots.remove_released,
        )
        self.indexer.reconcile()
        try:
            self.committer.start()
            if options.background:
                self.indexer.start()
                self.upkeep.start()
                self.indexer.poke(recovered.position)
        except NoThread:
            self.close()
            raise

    def close(self) -> None:
        """Make what is staged durable, write a checkpoint, give up the directory. Idempotent."""
        with self._close_lock:
            if self.closed:
                return
            self.closed = True
            try:
                self._close()
            finally:
                self.storage.close()

    def _close(self) -> None:
        self.waiters.wake_all()
        try:
            self.upkeep.stop()
            self.committer.close()
            self.indexer.stop()
            if self.committer.poison is None:
                self.upkeep.run_once()
                self.upkeep.checkpoint()
                self.indexer.close()
                self.snapshots.remove_released()
            else:
                self.indexer.index.abandon()
        except (OSError, TailraceError):
            # All that was acknowledged is durable: the next start has more to replay, and tells
            # of damage that was met here.
            _logger.exception("the store could not be closed tidily")
        finally:
            self.log.close()

    def counters(self) -> dict[str, int]:
        """Numbers for monitoring, since this store was opened."""
        committer = self.committer
        return {
            "groups": committer.groups,
            "batches": committer.batches,
            "bytes_written": committer.bytes_written,
            "staged_bytes": committer.staged_bytes,
            "durable_position": committer.durable_position,
            "indexed_position": self.indexer.index.indexed_position,
            "streams": len(self.durable.streams),
            "buckets": len(self.durable.buckets),
            "segments": len(self.log.segments),
            **self.reserve.counters(),
            "checkpoints": self.upkeep.checkpoints,
            "poisoned": int(committer.poison is not None),
        }

    def _publish(self, publish: Publish) -> set[int]:
        """Make a durable group visible; the ids of the streams it changed."""
        changed: set[int] = set()
        durable, note = self.durable, self.log.note
        streams = durable.streams
        for entry in publish.entries:
            position, _, batch, change, _, outcome, _, rows, state, _ = entry
            if state is not None:
                assert type(outcome) is Appended
                stream_id, base, tail, *_ = outcome
                note(stream_id, base, tail - base, position)
                streams[stream_id] = state
                changed.add(stream_id)
                continue
            if batch is None:
                if rows is not None:
                    self._publish_rows(rows, position, changed)
                continue
            if batch.ends:
                note(batch.stream_id, batch.base_ordinal, len(batch.ends), position)
            if batch.kind == Kind.APPEND:
                durable.install(change)
                changed.add(batch.stream_id)
            else:
                self._publish_rare(batch, change, changed)
        changed.discard(0)
        self.upkeep.poke(publish.end)
        self.indexer.poke(publish.end)
        return changed

    def _publish_rows(self, rows: PlainRows, position: int, changed: set[int]) -> None:
        stream_ids, firsts, _ = rows.appended
        self.log.note_each(stream_ids, firsts, rows.counts, rows.offsets, position)
        self.durable.streams.update(rows.states)
        changed.update(rows.states)

    def _publish_rare(self, batch: Batch, change: Change, changed: set[int]) -> None:
        released = snapshots_released(self.durable, change)
        self.durable.install(change)
        changed.add(batch.stream_id)
        if released:  # not before: a reader that finds no file looks whether the state changed
            self.snapshots.release(released)
            self.upkeep.request()
        self.names.install(change)
        for stream_id in change.removed:
            changed.add(stream_id)
            self.log.extents.remove(stream_id)
            self.indexer.removed(stream_id)
            self.upkeep.reclaimable = True
        if batch.kind == Kind.CREATE:
            state = self.durable.streams[batch.stream_id]
            self.expiry.add(state)
            self.indexer.created(state)
        elif batch.kind == Kind.TRIM:
            state = change.streams[0]
            self.indexer.trimmed(batch.stream_id, state.start)
            if state.forks == 0:
                self.log.extents.trim(batch.stream_id, state.start)
                self.upkeep.reclaimable = True

    def _group_done(self, group: Group) -> None:
        if group.stream_ids:
            self.waiters.wake(group.stream_ids)
        if self.on_group is not None:
            try:
                self.on_group(group)
            except Exception:
                _logger.exception("the on_group callback raised")
