"""The search index: documents in, hits out, and the work in between put on disk and merged.

Locks, in the order they are taken: ``_writing`` (adding and flushing), ``_merging``, and
those of :class:`tailrace.search.live_parts.LiveParts`. A search copies its sources under the
last of them and then runs in C on what cannot change under it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import Final

from tailrace.errors import Corrupted
from tailrace.limits import MIB, SEARCH_LIMIT_MAX
from tailrace.search import bm25
from tailrace.search.document import Document
from tailrace.search.floors import REMOVED
from tailrace.search.hits import ScopeItem, ScoredDocument, SearchHits, scope_columns
from tailrace.search.live_parts import LiveParts
from tailrace.search.memory_part import MemoryPart
from tailrace.search.merge import PartSize, choose_merge
from tailrace.search.native_score import (
    NO_TIME_FROM,
    NO_TIME_UNTIL,
    DamagedPart,
    Query,
    Scratch,
    search,
)
from tailrace.search.part_list import Hole
from tailrace.search.query import parse_query
from tailrace.storage import Storage

__all__ = ["Document", "ScopeItem", "ScoredDocument", "SearchHits", "SearchIndex"]

FLUSH_DOCUMENTS_DEFAULT: Final = 100_000
FLUSH_BYTES_DEFAULT: Final = 64 * MIB

# At most this much log is walked again after a restart, however few documents it held.
_FLUSH_SPAN_BYTES: Final = 512 * MIB
_SCRATCHES_KEPT: Final = 8


class SearchIndex:
    """Documents in, hits out. Any number of threads may search while one adds.

    Derived data: it claims to hold what lies below ``indexed_position`` of the log but for
    ``holes``, and nothing more. After a crash or damage of its own that falls back, and the
    caller adds the rest again.
    """

    def __init__(self, live: LiveParts, flush_documents: int, flush_bytes: int) -> None:
        """Not for callers: use :meth:`open`."""
        self._live = live
        self._flush_documents = flush_documents
        self._flush_bytes = flush_bytes
        self._writing = threading.Lock()
        self._merging = threading.Lock()
        self._indexed_position = live.durable_position
        self._scratches: list[Scratch] = []
        self._flushes = 0
        self._merges = 0
        self._searches = 0

    # --- life

    @classmethod
    def open(
        cls,
        storage: Storage,
        directory: str = "search",
        *,
        flush_documents: int = FLUSH_DOCUMENTS_DEFAULT,
        flush_bytes: int = FLUSH_BYTES_DEFAULT,
    ) -> SearchIndex:
        """Open the index in ``directory``, or begin an empty one.

        What is missing or damaged is dropped, with all that the log holds after it;
        ``indexed_position`` then says from where to add again. Raises OSError.
        """
        return cls(LiveParts.open(storage, directory), flush_documents, flush_bytes)

    def close(self) -> None:
        """Flush and let go of the files (each when the last search leaves it). Idempotent."""
        with self._writing, self._merging:
            if self._live.closed:
                return
            try:
                self._flush()
            finally:
                self._live.close()
                self._scratches.clear()

    def abandon(self) -> None:
        """Close without writing: what is in memory only is added again after the next open."""
        with self._writing, self._merging:
            self._live.close()

    @property
    def indexed_position(self) -> int:
        """Every searchable record below this log position can be found, or is in ``holes``."""
        return self._indexed_position

    @property
    def durable_position(self) -> int:
        """Every searchable record below this log position is on disk, in a part or a hole."""
        return self._live.durable_position

    @property
    def holes(self) -> tuple[Hole, ...]:
        """Damaged places of the log, and the records that cannot be found because of them."""
        return self._live.holes

    # --- documents

    def add(self, documents: Sequence[Document], position: int, holes: Sequence[Hole] = ()) -> None:
        """Index ``documents``; they, all before them and new ``holes`` are below ``position``.

        They can be found when this returns. Of a stream, ordinals only grow; a document that
        is in the index already is passed over. Writes a part first if memory is full: raises
        OSError then, and MemoryError, and in both cases has added nothing.
        """
        with self._writing:
            live = self._live
            live.check_open()
            self._flush_if_full()
            if documents := live.above_floors(documents):
                live.memory.add(documents, [part.native for part in live.parts])
            live.add_holes(holes)
            self._indexed_position = max(self._indexed_position, position)

    def replace_hole(self, hole: Hole, left: Sequence[Hole]) -> None:
        """Remember ``left`` instead of ``hole``: the rest was given up. On disk when flushed."""
        with self._writing:
            self._live.replace_hole(hole, left)

    def rewind(self, position: int) -> None:
        """Forget all from log ``position`` on, so that it is added again. Raises OSError."""
        with self._writing, self._merging:
            self._live.check_open()
            self._indexed_position = self._live.rewind(position)

    def remove_stream(self, stream_id: int) -> None:
        """Forget a stream: no hits, and no part in the statistics, from now on.

        On disk with the next flush or merge. No document of it may be added afterwards.
        """
        self._live.raise_floors([(stream_id, REMOVED)])

    def truncate_stream(self, stream_id: int, start_ordinal: int) -> None:
        """Forget a stream's documents below ``start_ordinal``, as :meth:`remove_stream` does."""
        self._live.raise_floors([(stream_id, start_ordinal)])

    def retain_streams(self, stream_ids: Collection[int]) -> None:
        """Remove every stream that is not among ``stream_ids``."""
        with self._writing:
            self._live.retain_streams(stream_ids)

    # --- parts

    def flush(self) -> None:
        """Put what is in memory on disk, durably. Raises OSError; memory is kept then."""
        with self._writing:
            self._live.check_open()
            self._flush()

    def flush_if_needed(self) -> bool:
        """Flush if memory holds as much as it should. Whether it did."""
        with self._writing:
            self._live.check_open()
            return self._flush_if_full()

    def _flush_if_full(self) -> bool:
        memory = self._live.memory
        if (
            memory.documents >= self._flush_documents
            or memory.size_bytes >= self._flush_bytes
            or self._indexed_position - self._live.durable_position >= _FLUSH_SPAN_BYTES
            or memory.failed
        ):
            self._flush()
            return True
        return False

    def _flush(self) -> None:
        """The caller holds ``_writing``, so the memory part stands still."""
        live, position = self._live, self._indexed_position
        memory = live.memory
        is_empty = not memory.documents and not memory.failed
        if is_empty and position == live.durable_position and not live.list_changed:
            return
        part = None
        if not is_empty:
            with live.lock:
                live.apply_floors()
                source = memory.source()
            part = live.make_part([source], (live.durable_position, position))
        live.append(part, position, None if is_empty else MemoryPart())
        self._flushes += not is_empty

    def merge_if_needed(self) -> bool:
        """Make one part of several if that is due; whether it did. Call until False.

        Searches, adds and flushes go on meanwhile. Raises OSError; nothing changed then.
        """
        if not self._merging.acquire(blocking=False):
            return False
        try:
            return self._merge()
        finally:
            self._merging.release()

    def _merge(self) -> bool:
        live = self._live
        with live.lock:
            if live.closed:
                return False
            live.apply_floors()
            chosen = choose_merge([PartSize(part.documents, part.live) for part in live.parts])
            if chosen is None:
                return False
            victims = live.parts[chosen[0] : chosen[1]]
            sources = [part.source() for part in victims]
            live.hold(victims)
        try:
            span = victims[0].first_position, victims[-1].end_position
            live.replace(victims, live.make_part(sources, span))
        finally:
            live.release(victims)
        self._merges += 1
        live.unlink(victims)
        return True

    # --- searching

    def search(
        self,
        query: str,
        *,
        scope: Sequence[ScopeItem] | None,
        types: Collection[str] = (),
        limit: int = 20,
        created_from_ms: int | None = None,
        created_until_ms: int | None = None,
        count_streams: bool = False,
    ) -> SearchHits:
        """The documents that hold a word of ``query``, best first by BM25.

        ``scope`` says what is searched and whose statistics weigh the words; None is the
        whole index. ``types``, and times from (inclusive) and until (exclusive), narrow the
        hits and leave the statistics alone. Of equal scores the newer document comes first.
        """
        terms = parse_query(query)
        if not terms or (scope is not None and not scope):
            return SearchHits([], 0, {})
        wanted = Query(
            [term.encode("utf-8", "replace") for term in terms],
            list(terms.values()),
            None if scope is None else scope_columns(scope),
            [kind.encode("utf-8", "replace") for kind in dict.fromkeys(types)],
            max(0, min(limit, SEARCH_LIMIT_MAX)),
            NO_TIME_FROM if created_from_ms is None else _in_time(created_from_ms),
            NO_TIME_UNTIL if created_until_ms is None else _in_time(created_until_ms),
            count_streams,
            bm25.K1,
            bm25.B,
        )
        live = self._live
        with live.lock:
            live.check_open()
            live.apply_floors()
            parts = live.parts
            sources = [part.source() for part in parts]
            sources.append(live.memory.source())
            live.hold(parts)
            self._searches += 1
            scratch = self._scratches.pop() if self._scratches else Scratch()
        try:
            answer = search(sources, wanted, scratch)
        except DamagedPart as error:
            file = live.path(parts[error.source])
            raise Corrupted("search part is damaged", file=file, position=0) from None
        finally:
            live.release(parts)
        if len(self._scratches) < _SCRATCHES_KEPT:
            self._scratches.append(scratch)
        return SearchHits(
            [ScoredDocument(*hit) for hit in answer.hits], answer.total, answer.per_stream
        )

    def counters(self) -> dict[str, int]:
        """Sizes as of now, and how often things happened since the index was opened."""
        with self._live.lock:
            parts, memory = self._live.parts, self._live.memory
            return {
                "documents": memory.documents + sum(part.documents for part in parts),
                "memory_documents": memory.documents,
                "memory_bytes": memory.size_bytes,
                "parts": len(parts),
                "part_bytes": sum(part.native.length for part in parts),
                "indexed_position": self._indexed_position,
                "durable_position": self._live.durable_position,
                "flushes": self._flushes,
                "merges": self._merges,
                "searches": self._searches,
            }


def _in_time(at_ms: int) -> int:
    """A bound that no time is beyond: before or behind all of them is where it was, too."""
    return max(NO_TIME_FROM, min(at_ms, NO_TIME_UNTIL))
