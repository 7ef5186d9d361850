"""What is done behind the writers' backs: the next segment, index files, checkpoints,
reclaimed segments, replaced snapshots, expired streams.

None of it is needed for an answer to be right; a failure is logged and tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from tailrace import filenames, threads
from tailrace.catalog import Catalog
from tailrace.checkpoint import BadCheckpoint, decode_checkpoint, encode_checkpoint
from tailrace.commit import Committer
from tailrace.errors import TailraceError
from tailrace.expiry import Expiry
from tailrace.limits import KIB, SEGMENT_HEADER_BYTES
from tailrace.live_files import LiveFiles
from tailrace.log import Log
from tailrace.offset_index import MappedIndex, MemoryIndex
from tailrace.operation import Expire, Operation
from tailrace.reserve import Reserve
from tailrace.storage import Storage, read_file, replace_file
from tailrace.ticket import Ticket

_logger = logging.getLogger("tailrace")
_PREPARE_FRACTION = 4  # the next segment is made once a quarter of this one is full
_EXPIRE_AT_ONCE = 1000
_QUIET_S = 0.05
_RETRY_S_MAX = 1.0
_QUIET_BYTES = 256 * KIB  # the log is quiet if it grows by less meanwhile


class Upkeep:
    """Runs :meth:`run_once` when it is told there may be work, and now and then by itself."""

    def __init__(
        self,
        storage: Storage,
        live: LiveFiles,
        log: Log,
        durable: Catalog,
        expiry: Expiry,
        committer: Committer,
        reserve: Reserve,
        now_ms: Callable[[], int],
        *,
        checkpoint: int,
        checkpoint_every_bytes: int,
        sweep_s: float,
        upkeep_of_search: Callable[[], None],
        remove_released: Callable[[], None],
    ) -> None:
        self._storage = storage
        self._live = live
        self._log = log
        self._durable = durable
        self._expiry = expiry
        self._committer = committer
        self._now_ms = now_ms
        self._checkpoint = checkpoint
        self._checkpoint_every_bytes = checkpoint_every_bytes
        self._sweep_s = sweep_s
        self._upkeep_of_search = upkeep_of_search
        self._remove_released = remove_released
        self._reserve = reserve
        self._bytes_seen = 0
        self._signal = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._run_lock = threading.Lock()
        self._quiet_until = 0  # nothing can be due before the log gets there
        self.reclaimable = True  # a stream or a range went since the last look
        self._reclaimable_later = False  # the last look found what a checkpoint must pass first
        self.checkpoints = 0

    def start(self) -> None:
        """Raises :class:`~tailrace.threads.NoThread`."""
        self._thread = threads.start("tailrace-upkeep", self._run)

    def poke(self, position: int) -> None:
        """The log is durable up to ``position``: run soon if that makes work."""
        if position < self._quiet_until or self._signal.is_set():
            return
        number = self._log.segment_at(position)
        used = position - number * self._log.segment_bytes
        next_due = used * _PREPARE_FRACTION > self._log.segment_bytes
        if (
            (next_due and number + 1 not in self._log.segments)
            or position - self._checkpoint > self._checkpoint_every_bytes
            or isinstance(self._log.indexes.get(number - 1), MemoryIndex)
        ):
            self._signal.set()
        else:
            quarter = self._log.segment_bytes // _PREPARE_FRACTION
            self._quiet_until = min(
                position - used + (quarter if used < quarter else self._log.segment_bytes),
                self._checkpoint + self._checkpoint_every_bytes,
            )

    def request(self) -> None:
        """Run soon."""
        self._signal.set()

    def stop(self) -> None:
        self._stopping.set()
        self._signal.set()
        if self._thread is not None:
            self._thread.join()
        self._reserve.drop_unfinished()

    def _run(self) -> None:
        sweep_at = time.monotonic() + self._sweep_s
        while not self._stopping.is_set():
            if self._reserve.lacking and not self._signal.wait(_QUIET_S):
                self.fill_reserve()
                if time.monotonic() < sweep_at:
                    continue
            else:
                self._signal.wait(max(0.0, sweep_at - time.monotonic()))
            self._signal.clear()
            sweep_at = time.monotonic() + self._sweep_s
            # A full disk must not be asked again at every write.
            if not self._stopping.is_set() and not self._try(prepare=True):
                self._stopping.wait(min(self._sweep_s, _RETRY_S_MAX))

    def run_due(self) -> None:
        """Without a thread: what :meth:`poke` found to be due, in the caller's."""
        if self._signal.is_set():
            self._signal.clear()
            self._try(prepare=False)

    def _try(self, *, prepare: bool) -> bool:
        try:
            self._remove_released()  # first: what comes next may need the space
            self._reserve.give_back()
            # Without room for the next segment all else has to be done: it may give some.
            lacking = prepare and not self._is_prepared()
            self.run_once(lacking=lacking)
            self.sweep()
        except (OSError, TailraceError) as error:
            _logger.error("upkeep failed and will be tried again: %s", error)
            return False
        return not lacking

    def _is_prepared(self) -> bool:
        try:
            self.prepare_segment()
        except OSError as error:
            _logger.error("the next log segment cannot be made, and is tried again: %s", error)
            return False
        return True

    def run_once(self, *, lacking: bool = False) -> None:
        """Index files, a checkpoint if it is due, reclaiming, search upkeep.

        ``lacking``: there is no room for another segment.
        """
        with self._run_lock:
            self._write_indexes()
            new_bytes = self._committer.durable_position - self._checkpoint
            if new_bytes > self._checkpoint_every_bytes or (
                lacking and new_bytes and (self.reclaimable or self._reclaimable_later)
            ):
                self._write_checkpoint()
            self._upkeep_of_search()
            if self.reclaimable:
                self._reclaim(lacking=lacking)

    def prepare_segment(self) -> None:
        """Make the next segment before it is needed."""
        position = self._committer.durable_position
        number = self._log.segment_at(position)
        used = position - number * self._log.segment_bytes
        if used * _PREPARE_FRACTION > self._log.segment_bytes:
            self._log.ensure(number + 1)

    def fill_reserve(self) -> None:
        """Zero room ahead, if the log has been quiet since the last call and while it is."""
        try:
            while self._reserve.lacking and not self._signal.is_set() and self._is_quiet():
                began = time.monotonic()
                self._reserve.step()
                if self._committer.bytes_written != self._bytes_seen:
                    self._signal.wait(time.monotonic() - began)  # half of the disk is the log's
        except OSError as error:
            _logger.warning("no room is reserved ahead of the log: %s", error)

    def _is_quiet(self) -> bool:
        written = self._committer.bytes_written
        quiet = written - self._bytes_seen < _QUIET_BYTES
        self._bytes_seen = written
        return quiet

    def _write_indexes(self) -> None:
        """Give every sealed segment its index file, and use that from then on."""
        active = self._log.segment_at(self._committer.durable_position)
        for number in sorted(self._log.segments):
            index = self._log.indexes[number]
            if number >= active or not isinstance(index, MemoryIndex):
                continue
            segment = self._log.segments[number]
            encoded = index.encode(number, segment.view.nonzero_end(SEGMENT_HEADER_BYTES))
            replace_file(
                self._storage, filenames.LOG_DIRECTORY, filenames.index_name(number), encoded
            )
            file = self._storage.open(filenames.index(number))
            try:
                mapping = file.map()
            finally:
                file.close()
            self._log.indexes[number] = MappedIndex(mapping.view, number, mapping)
            segment.close()

    def checkpoint(self) -> None:
        """Write a checkpoint now, if anything was written since the last one."""
        with self._run_lock:
            if self._committer.durable_position > self._checkpoint:
                self._write_checkpoint()

    def _write_checkpoint(self) -> None:
        with self._committer.commit_lock:
            position = self._committer.durable_position
            catalog = self._durable.copy()
        replace_file(
            self._storage,
            "",
            filenames.checkpoint(position),
            encode_checkpoint(catalog, position),
        )
        self._live.add_checkpoint(position)
        self._checkpoint = position
        self.checkpoints += 1
        self.reclaimable = self.reclaimable or self._reclaimable_later

    def _reclaim(self, *, lacking: bool) -> None:
        """Remove sealed segments in which no stream has a record left.

        The older checkpoint must be behind them, or, where room is lacking, the newest.
        """
        checkpoints = self._live.manifest.checkpoints
        if len(checkpoints) < 2 and not (lacking and checkpoints):
            return
        self.reclaimable = False
        with self._committer.commit_lock:
            active = self._log.segment_at(self._committer.durable_position)
            used: set[int] = set()
            for stream_id in list(self._durable.streams):
                used.update(self._log.extents.segments(stream_id))
        unused = {n for n in self._log.segments if n < active and n not in used}
        dead = {n for n in unused if n < self._log.segment_at(checkpoints[-1])}
        if lacking and (len(checkpoints) == 1 or not dead):
            dead = {n for n in unused if n < self._log.segment_at(checkpoints[0])}
            if dead and self._is_whole(checkpoints[0]):
                self._live.keep_newest_checkpoint()
            else:
                dead = set()
        self._reclaimable_later = unused != dead
        if not dead:
            return
        self._live.drop_segments(dead)
        for number in dead:
            self._log.segments.pop(number).close()
            del self._log.indexes[number]
        _logger.info("reclaimed %d log segments", len(dead))

    def _is_whole(self, position: int) -> bool:
        """Whether that checkpoint can be relied on alone."""
        name = filenames.checkpoint(position)
        try:
            decode_checkpoint(read_file(self._storage, name), position)
        except (BadCheckpoint, FileNotFoundError) as error:
            _logger.error("checkpoint %s cannot be used: %s", name, error)
            return False
        return True

    def sweep(self) -> None:
        """Delete streams whose time is over."""
        expired: list[Operation] = [Expire(key) for key in self._expiry.due(self._now_ms())]
        for start in range(0, len(expired), _EXPIRE_AT_ONCE):
            batch = expired[start : start + _EXPIRE_AT_ONCE]
            tickets = [Ticket(None, None, internal=True) for _ in batch]
            self._committer.submit(batch, tickets, [None] * len(batch))
