"""Keeps the search index up with the log.

It walks the log from where the index ends, so live indexing and catching up after a
restart are the same code, and nothing waits in memory. A search first lets the index
catch up to what was durable when it was asked: what is acknowledged is found.

Where the log is damaged it goes on behind the damage and has the index remember which
records it passed over, so that a search can say what it may be missing.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from tailrace import threads
from tailrace.batch import Batch, Kind, split_records
from tailrace.catalog import Catalog
from tailrace.log import Hole, Log
from tailrace.search.document import Document
from tailrace.search.index import SearchIndex
from tailrace.search.part_list import Hole as PassedHole
from tailrace.stream import StreamState

_logger = logging.getLogger("tailrace")
_DOCUMENTS_PER_STEP = 2048
_IDLE_FRACTION = 4


class Indexer:
    """Owns the only way documents get into a :class:`SearchIndex`."""

    def __init__(
        self,
        index: SearchIndex,
        log: Log,
        durable: Catalog,
        position: Callable[[], int],
        lag_bytes_max: int,
    ) -> None:
        self.index = index
        self._log = log
        self._durable = durable
        self._durable_position = position
        self._lag_bytes_max = lag_bytes_max
        self._lock = threading.Lock()
        self._removed: deque[int] = deque()
        self._trimmed: deque[tuple[int, int]] = deque()
        self._signal = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.searchable = {
            state.config.stream_id for state in durable.streams.values() if state.config.searchable
        }

    def start(self) -> None:
        """Raises :class:`~tailrace.threads.NoThread`."""
        self._thread = threads.start("tailrace-index", self._run)

    def reconcile(self) -> None:
        """After recovery: let the index forget what went while it was not told."""
        self.index.retain_streams(self.searchable)
        for stream_id in self.searchable:
            state = self._durable.streams[stream_id]
            if state.start > state.config.base:
                self.index.truncate_stream(stream_id, state.start)
        self._look_at_holes()

    def _look_at_holes(self) -> None:
        """Ask the log again about damage that was passed over: it may have been repaired."""
        for hole in self.index.holes:
            left: list[PassedHole] = []
            for item in self._log.batches(hole.position, hole.end, self.searchable):
                if not isinstance(item, Hole):
                    if item.ends:
                        _logger.warning("records are whole again: search index made from there")
                        self.index.rewind(hole.position)
                        return
                elif (passed := self._passed(item)) is not None:
                    left.append(passed)
            if left != [hole]:
                self.index.replace_hole(hole, left)

    def created(self, state: StreamState) -> None:
        """A stream came into being."""
        if state.config.searchable:
            self.searchable.add(state.config.stream_id)

    def removed(self, stream_id: int) -> None:
        """A stream is gone for good."""
        if stream_id in self.searchable:
            self.searchable.discard(stream_id)
            self._removed.append(stream_id)

    def trimmed(self, stream_id: int, start: int) -> None:
        if stream_id in self.searchable:
            self._trimmed.append((stream_id, start))

    def poke(self, position: int) -> None:
        """The log is durable up to ``position``. Holds the committer back if the lag grows long."""
        lag_bytes = position - self.index.indexed_position
        if not self.searchable:
            # Nothing to index, but the position must not stay behind for ever.
            if lag_bytes * _IDLE_FRACTION > self._lag_bytes_max:
                self._signal.set()
            return
        self._signal.set()
        if lag_bytes > self._lag_bytes_max:
            self._try_to_catch_up(position)

    def catch_up(self, position: int) -> None:
        """Index everything below log ``position``."""
        if self.index.indexed_position >= position and not self._removed and not self._trimmed:
            return
        with self._lock:
            self._forget()
            self._index_to(position)

    def _forget(self) -> None:
        while self._removed:
            self.index.remove_stream(self._removed.popleft())
        while self._trimmed:
            self.index.truncate_stream(*self._trimmed.popleft())

    def _index_to(self, position: int) -> None:
        start = self.index.indexed_position
        if start >= position:
            return
        documents: list[Document] = []
        holes: list[PassedHole] = []
        if not self.searchable:
            self.index.add(documents, position)
            return
        for batch in self._log.batches(start, position, self.searchable):
            if isinstance(batch, Hole):
                _logger.error("%s at position %d is damaged", batch.file, batch.position)
                if (passed := self._passed(batch)) is not None:
                    holes.append(passed)
                continue
            if batch.kind not in (Kind.APPEND, Kind.CREATE) or not batch.ends:
                continue
            # A batch is never split over two calls: a position names whole batches only.
            if len(documents) >= _DOCUMENTS_PER_STEP:
                self.index.add(documents, batch.position, holes)
                documents, holes = [], []
            documents.extend(self._documents(batch))
        self.index.add(documents, position, holes)

    def _passed(self, hole: Hole) -> PassedHole | None:
        """What a search misses because of ``hole``; None if nothing."""
        lost = tuple(
            (run.stream_id, run.first, run.first + run.records)
            for run in hole.runs
            if run.stream_id in self.searchable
        )
        return PassedHole(hole.position, hole.end, lost) if lost else None

    def _documents(self, batch: Batch) -> list[Document]:
        state = self._durable.streams.get(batch.stream_id)
        if state is None or not state.config.is_json:
            return []
        records = split_records(batch.payload, batch.ends, is_json=True)
        return [
            Document(batch.stream_id, batch.base_ordinal + i, batch.created_at_ms, record)
            for i, record in enumerate(records)
        ]

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._signal.wait()
            self._signal.clear()
            if self._stopping.is_set():
                return
            self._try_to_catch_up(self._durable_position())

    def _try_to_catch_up(self, position: int) -> None:
        try:
            self.catch_up(position)
        except Exception:
            # A search will try again and, if it fails too, say so: it never leaves records out.
            _logger.exception("indexing failed; it is tried again with the next write")

    def upkeep(self) -> None:
        """Flush and merge what is due."""
        self.index.flush_if_needed()
        while self.index.merge_if_needed():
            pass

    def stop(self) -> None:
        """Stop without writing anything more."""
        self._stopping.set()
        self._signal.set()
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Put everything on disk. After :meth:`stop`."""
        with self._lock:
            self._forget()
            self._index_to(self._durable_position())
            self.index.close()
