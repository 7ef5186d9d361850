"""The search index: a memory part, parts on disk, and what ties them together.

Locks, in the order they are taken: ``_writing`` (adding and flushing), ``_merging``,
``_changing`` (the list of parts, in memory and on disk), ``_lock`` (the state a search
copies; held for microseconds, never during I/O). A search copies its sources under
``_lock`` and then runs in C on what cannot change under it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from tailrace.errors import Corrupted, StoreClosed
from tailrace.limits import MIB, SEARCH_LIMIT_MAX
from tailrace.search import bm25
from tailrace.search.collector import ScopeItem, ScoredDocument, SearchHits, scope_columns
from tailrace.search.document import Document
from tailrace.search.floors import REMOVED, removed_streams
from tailrace.search.memory_part import MemoryPart
from tailrace.search.merge import PartSize, choose_merge
from tailrace.search.native_score import (
    NO_TIME_FROM,
    NO_TIME_UNTIL,
    DamagedPart,
    Query,
    Scratch,
    Source,
    search,
)
from tailrace.search.part import Part, part_name
from tailrace.search.part_files import open_parts, remove_orphans
from tailrace.search.part_list import Hole, PartEntry, PartList, read_part_list, write_part_list
from tailrace.search.part_writer import write_part
from tailrace.search.query import parse_query
from tailrace.storage import Storage

__all__ = ["Document", "ScopeItem", "ScoredDocument", "SearchHits", "SearchIndex"]

FLUSH_DOCUMENTS_DEFAULT: Final = 100_000
FLUSH_BYTES_DEFAULT: Final = 64 * MIB

# So much log at most is walked again after a restart, however few documents it held.
_FLUSH_SPAN_BYTES: Final = 512 * MIB
_SCRATCHES_KEPT: Final = 8
_logger = logging.getLogger("tailrace")


class SearchIndex:
    """Documents in, hits out. Any number of threads may search while one adds.

    Derived data: it claims to hold what lies below ``indexed_position`` of the log but for
    ``holes``, and nothing more. After a crash or damage of its own that falls back, and the
    caller adds the rest again.
    """

    def __init__(
        self,
        storage: Storage,
        directory: str,
        parts: Sequence[Part],
        listed: PartList,
        flush_documents: int,
        flush_bytes: int,
    ) -> None:
        """Use :meth:`open`."""
        self._storage = storage
        self._directory = directory
        self._flush_documents = flush_documents
        self._flush_bytes = flush_bytes
        self._writing = threading.Lock()
        self._merging = threading.Lock()
        self._changing = threading.Lock()
        self._lock = threading.Lock()
        self._parts: tuple[Part, ...] = tuple(parts)
        self._memory = MemoryPart()
        self._indexed_position = listed.position
        self._durable_position = listed.position
        self._next_number = 1 + max((part.number for part in parts), default=0)
        self._holes = listed.holes
        self._floors: dict[int, int] = dict(listed.floors)
        self._floors.update(dict.fromkeys(listed.removed, REMOVED))
        # Floors that the parts' own tables do not have yet: a thousand removals cost one copy.
        self._pending: list[tuple[int, int]] = list(self._floors.items())
        self._list_changed = False
        self._scratches: list[Scratch] = []
        self._closed = False
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
        storage.make_directory(directory)
        try:
            listed = read_part_list(storage, directory)
        except Corrupted as error:
            _logger.warning("the search index is made again: %s", error)
            listed = PartList()
        parts, kept = open_parts(storage, directory, listed)
        if kept != listed:
            write_part_list(storage, directory, kept)
        remove_orphans(storage, directory, {part.number for part in parts})
        return cls(storage, directory, parts, kept, flush_documents, flush_bytes)

    def close(self) -> None:
        """Flush and let go of the files (each when the last search leaves it). Idempotent."""
        with self._writing, self._merging:
            if self._closed:
                return
            try:
                self._flush()
            finally:
                with self._changing, self._lock:
                    self._closed = True
                    self._retire(self._parts)
                    self._parts = ()
                    self._memory = MemoryPart()
                    self._scratches.clear()

    def abandon(self) -> None:
        """Close without writing: what is in memory only is added again after the next open."""
        with self._writing, self._merging, self._changing, self._lock:
            self._closed = True
            self._retire(self._parts)
            self._parts = ()
            self._memory = MemoryPart()

    @property
    def indexed_position(self) -> int:
        """Every searchable record below this log position can be found, or is in ``holes``."""
        return self._indexed_position

    @property
    def durable_position(self) -> int:
        """Every searchable record below this log position is on disk, in a part or a hole."""
        return self._durable_position

    @property
    def holes(self) -> tuple[Hole, ...]:
        """Where the log was damaged, and which records are not to be found because of that."""
        if not self._holes:
            return ()
        with self._lock:
            return self._holes_above(self._floors)

    def _holes_above(self, floors: Mapping[int, int]) -> tuple[Hole, ...]:
        found = (hole.above(floors) for hole in self._holes)
        return tuple(hole for hole in found if hole is not None)

    # --- documents

    def add(self, documents: Sequence[Document], position: int, holes: Sequence[Hole] = ()) -> None:
        """Index ``documents``; they, all before them and new ``holes`` are below ``position``.

        They can be found when this returns. Of a stream, ordinals only grow; a document that
        is in the index already is passed over. Writes a part first if memory is full: raises
        OSError then, and MemoryError, and in both cases has added nothing.
        """
        with self._writing:
            self._check_open()
            self._flush_if_full()
            if self._floors:
                documents = [d for d in documents if d.ordinal >= self._floors.get(d.stream_id, 0)]
            if documents:
                self._memory.add(documents, [part.native for part in self._parts])
            with self._lock:
                self._holes = (*self._holes, *holes)
            self._indexed_position = max(self._indexed_position, position)

    def replace_hole(self, hole: Hole, left: Sequence[Hole]) -> None:
        """Remember ``left`` instead of ``hole``: the rest was given up. On disk when flushed."""
        with self._writing, self._lock:
            at = [known.position for known in self._holes].index(hole.position)
            self._holes = (*self._holes[:at], *left, *self._holes[at + 1 :])
            self._list_changed = True

    def rewind(self, position: int) -> None:
        """Forget all from log ``position`` on, so that it is added again. Raises OSError."""
        with self._writing, self._merging, self._changing:
            self._check_open()
            kept = self._listed(self._parts, self._durable_position, self._floors).before(position)
            self._publish(self._parts[: len(kept.parts)], kept.position, MemoryPart())
            self._holes = kept.holes
            self._indexed_position = kept.position

    def remove_stream(self, stream_id: int) -> None:
        """Forget a stream: no hits, and no part in the statistics, from now on.

        On disk with the next flush or merge. No document of it may be added afterwards.
        """
        self._raise_floors([(stream_id, REMOVED)])

    def truncate_stream(self, stream_id: int, start_ordinal: int) -> None:
        """Forget a stream's documents below ``start_ordinal``, as :meth:`remove_stream` does."""
        self._raise_floors([(stream_id, start_ordinal)])

    def retain_streams(self, stream_ids: Collection[int]) -> None:
        """Remove every stream that is not among ``stream_ids``."""
        with self._writing, self._changing:
            known = set(self._memory.stream_ids())
            for part in self._parts:
                known.update(part.native.stream_ids())
            known.update(self._floors)
            self._raise_floors([(i, REMOVED) for i in known.difference(stream_ids)])

    def _raise_floors(self, floors: Iterable[tuple[int, int]]) -> None:
        with self._lock:
            for stream_id, ordinal in floors:
                if ordinal > self._floors.get(stream_id, 0):
                    self._floors[stream_id] = ordinal
                    self._pending.append((stream_id, ordinal))
                    self._list_changed = True

    def _apply_floors(self) -> None:
        """Bring the parts' tables up to date. The caller holds ``_lock``."""
        if not self._pending:
            return
        for part in self._parts:
            part.floors.raise_floors(self._pending, part.native.find_stream)
        self._memory.floors.raise_floors(self._pending, self._memory.find_stream)
        self._pending = []

    # --- parts

    def flush(self) -> None:
        """Put what is in memory on disk, durably. Raises OSError; memory is kept then."""
        with self._writing:
            self._check_open()
            self._flush()

    def flush_if_needed(self) -> bool:
        """Flush if memory holds as much as it should. Whether it did."""
        with self._writing:
            self._check_open()
            return self._flush_if_full()

    def _flush_if_full(self) -> bool:
        memory = self._memory
        if (
            memory.documents >= self._flush_documents
            or memory.size_bytes >= self._flush_bytes
            or self._indexed_position - self._durable_position >= _FLUSH_SPAN_BYTES
            or memory.failed
        ):
            self._flush()
            return True
        return False

    def _flush(self) -> None:
        """The caller holds ``_writing``, so the memory part stands still."""
        memory, position = self._memory, self._indexed_position
        is_empty = not memory.documents and not memory.failed
        if is_empty and position == self._durable_position and not self._list_changed:
            return
        with self._lock:
            self._apply_floors()
            source = memory.source()
            number = self._take_number()
        part = None
        if not is_empty:
            part = self._make_part(number, [source], (self._durable_position, position))
        with self._changing:
            parts = (*self._parts, part) if part is not None else self._parts
            self._publish(parts, position, None if is_empty else MemoryPart())
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
        with self._lock:
            if self._closed:
                return False
            self._apply_floors()
            parts = self._parts
            chosen = choose_merge([PartSize(part.documents, part.live) for part in parts])
            if chosen is None:
                return False
            victims = parts[chosen[0] : chosen[1]]
            sources = [part.source() for part in victims]
            number = self._take_number()
            self._hold(victims)
        try:
            span = victims[0].first_position, victims[-1].end_position
            merged = self._make_part(number, sources, span)
            with self._changing:
                # Flushes may have added parts behind the victims; nothing else changes the list.
                at = self._parts.index(victims[0])
                new = () if merged is None else (merged,)
                rest = self._parts[at + len(victims) :]
                self._publish(self._parts[:at] + new + rest, self._durable_position, None)
        finally:
            with self._lock:
                self._release(victims)
        self._merges += 1
        self._unlink(victims)
        return True

    def _unlink(self, parts: Iterable[Part]) -> None:
        try:
            for part in parts:
                self._storage.unlink(f"{self._directory}/{part_name(part.number)}")
            self._storage.sync_directory(self._directory)
        except OSError as error:
            _logger.warning("merged search parts stay until the next start: %s", error)

    def _make_part(
        self, number: int, sources: Sequence[Source], span: tuple[int, int]
    ) -> Part | None:
        name = part_name(number)
        try:
            written = write_part(self._storage, self._directory, name, sources, *span)
        except DamagedPart:
            path = f"{self._directory}/{name}"
            raise Corrupted("a source of a merge is damaged", file=path, position=0) from None
        if written is None:
            return None
        return Part.open(self._storage, self._directory, number, written.checksum, span)

    def _publish(self, parts: tuple[Part, ...], position: int, memory: MemoryPart | None) -> None:
        """Make ``parts`` the live ones, on disk and then here. The caller holds ``_changing``."""
        fresh = [part for part in parts if part not in self._parts]
        with self._lock:
            floors = dict(self._floors)
            self._list_changed = False
            self._holes = self._holes_above(floors)
        for part in fresh:
            part.floors.raise_floors(floors.items(), part.native.find_stream)
        listed = self._listed(parts, position, floors)
        try:
            write_part_list(self._storage, self._directory, listed)
        except BaseException:
            self._list_changed = True
            raise
        with self._lock:
            if self._list_changed:
                raised = self._floors.items() - floors.items()
                for part in fresh:
                    part.floors.raise_floors(raised, part.native.find_stream)
            self._retire([part for part in self._parts if part not in parts])
            self._parts = parts
            self._durable_position = position
            if memory is not None:
                self._memory = memory
            for stream_id in removed_streams(floors).difference(listed.removed):
                # Of a removed stream that nothing holds, there is nothing left to hide.
                if self._memory.find_stream(stream_id) < 0:
                    del self._floors[stream_id]

    def _listed(self, parts: Sequence[Part], position: int, floors: Mapping[int, int]) -> PartList:
        """What the manifest says of ``parts`` and of the log below ``position``."""
        held = [
            i for i in removed_streams(floors) if any(p.native.find_stream(i) >= 0 for p in parts)
        ]
        return PartList(
            position=position,
            parts=tuple(
                PartEntry(part.number, part.first_position, part.end_position, part.checksum)
                for part in parts
            ),
            removed=tuple(sorted(held)),
            floors=tuple(sorted((i, floor) for i, floor in floors.items() if floor != REMOVED)),
            holes=tuple(hole for hole in self._holes if hole.end <= position),
        )

    def _take_number(self) -> int:
        number = self._next_number
        self._next_number += 1
        return number

    # --- who is reading what; the caller holds ``_lock``

    @staticmethod
    def _hold(parts: Iterable[Part]) -> None:
        for part in parts:
            part.users += 1

    @staticmethod
    def _release(parts: Iterable[Part]) -> None:
        for part in parts:
            part.users -= 1
            if part.retired and part.users == 0:
                part.close()

    @staticmethod
    def _retire(parts: Iterable[Part]) -> None:
        for part in parts:
            part.retired = True
            if part.users == 0:
                part.close()

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
            NO_TIME_FROM if created_from_ms is None else created_from_ms,
            NO_TIME_UNTIL if created_until_ms is None else created_until_ms,
            count_streams,
            bm25.K1,
            bm25.B,
        )
        with self._lock:
            self._check_open()
            self._apply_floors()
            parts = self._parts
            sources = [part.source() for part in parts]
            sources.append(self._memory.source())
            self._hold(parts)
            self._searches += 1
            scratch = self._scratches.pop() if self._scratches else Scratch()
        try:
            answer = search(sources, wanted, scratch)
        except DamagedPart as error:
            name = part_name(parts[error.source].number)
            raise Corrupted(
                "search part is damaged", file=f"{self._directory}/{name}", position=0
            ) from None
        finally:
            with self._lock:
                self._release(parts)
        if len(self._scratches) < _SCRATCHES_KEPT:
            self._scratches.append(scratch)
        return SearchHits(
            [ScoredDocument(*hit) for hit in answer.hits], answer.total, answer.per_stream
        )

    def counters(self) -> dict[str, int]:
        """For metrics: sizes now, and how often what happened since the index was opened."""
        with self._lock:
            parts, memory = self._parts, self._memory
            return {
                "documents": memory.documents + sum(part.documents for part in parts),
                "memory_documents": memory.documents,
                "memory_bytes": memory.size_bytes,
                "parts": len(parts),
                "part_bytes": sum(part.native.length for part in parts),
                "indexed_position": self._indexed_position,
                "durable_position": self._durable_position,
                "flushes": self._flushes,
                "merges": self._merges,
                "searches": self._searches,
            }

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed("the search index is closed")
