"""What can be found: the parts on disk, the one in memory, and what of both is gone.

``lock`` guards what a search copies; it is held for microseconds and never during I/O. To
change which parts there are, on disk and here, takes ``changing`` first. A file that left
the list is closed by the last search or merge that reads it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence

from tailrace.errors import Corrupted, StoreClosed
from tailrace.search.document import Document
from tailrace.search.floors import REMOVED, removed_streams
from tailrace.search.memory_part import MemoryPart
from tailrace.search.native_score import DamagedPart, Source
from tailrace.search.part import Part, part_name
from tailrace.search.part_files import open_parts, remove_orphans
from tailrace.search.part_list import Hole, PartEntry, PartList, read_part_list, write_part_list
from tailrace.search.part_writer import write_part
from tailrace.storage import Storage

_logger = logging.getLogger("tailrace")


class LiveParts:
    """``parts`` in the order of the log, and ``memory``, which is newer than all of them.

    Every searchable record below ``durable_position`` of the log is in a part or a hole.
    """

    def __init__(
        self, storage: Storage, directory: str, parts: Sequence[Part], listed: PartList
    ) -> None:
        """Not for callers: use :meth:`open`."""
        self._storage = storage
        self._directory = directory
        self.lock = threading.Lock()
        self._changing = threading.Lock()
        self.parts: tuple[Part, ...] = tuple(parts)
        self.memory = MemoryPart()
        self.durable_position = listed.position
        self._next_number = 1 + max((part.number for part in parts), default=0)
        self._holes = listed.holes
        self._floors: dict[int, int] = dict(listed.floors)
        self._floors.update(dict.fromkeys(listed.removed, REMOVED))
        # Floors that the parts' own tables do not have yet: a thousand removals cost one copy.
        self._pending: list[tuple[int, int]] = list(self._floors.items())
        self.list_changed = False
        self.closed = False

    @classmethod
    def open(cls, storage: Storage, directory: str) -> LiveParts:
        """What is whole in ``directory``, up to the first part that is not. Raises OSError."""
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
        return cls(storage, directory, parts, kept)

    def close(self) -> None:
        """Let go of everything, of a file when the last search leaves it. Writes nothing."""
        with self._changing, self.lock:
            self.closed = True
            self._retire(self.parts)
            self.parts = ()
            self.memory = MemoryPart()

    def check_open(self) -> None:
        if self.closed:
            raise StoreClosed("the search index is closed")

    # --- what is gone

    @property
    def holes(self) -> tuple[Hole, ...]:
        """Damaged places of the log, and the records that cannot be found because of them."""
        if not self._holes:
            return ()
        with self.lock:
            return self._holes_above(self._floors)

    def _holes_above(self, floors: Mapping[int, int]) -> tuple[Hole, ...]:
        found = (hole.above(floors) for hole in self._holes)
        return tuple(hole for hole in found if hole is not None)

    def add_holes(self, holes: Sequence[Hole]) -> None:
        """Remember more holes, all of them behind those known."""
        with self.lock:
            self._holes = (*self._holes, *holes)

    def replace_hole(self, hole: Hole, left: Sequence[Hole]) -> None:
        """Remember ``left``, what is still damaged, instead of ``hole``."""
        with self.lock:
            at = [known.position for known in self._holes].index(hole.position)
            self._holes = (*self._holes[:at], *left, *self._holes[at + 1 :])
            self.list_changed = True

    def above_floors(self, documents: Sequence[Document]) -> Sequence[Document]:
        """Those of ``documents`` that are not gone already."""
        if not self._floors:
            return documents
        return [d for d in documents if d.ordinal >= self._floors.get(d.stream_id, 0)]

    def raise_floors(self, floors: Iterable[tuple[int, int]]) -> None:
        """Take (stream id, ordinal) pairs; on disk when the list is next written."""
        with self.lock:
            for stream_id, ordinal in floors:
                if ordinal > self._floors.get(stream_id, 0):
                    self._floors[stream_id] = ordinal
                    self._pending.append((stream_id, ordinal))
                    self.list_changed = True

    def apply_floors(self) -> None:
        """Bring the parts' tables up to date. The caller holds ``lock``."""
        if not self._pending:
            return
        for part in self.parts:
            part.floors.raise_floors(self._pending, part.native.find_stream)
        self.memory.floors.raise_floors(self._pending, self.memory.find_stream)
        self._pending = []

    def retain_streams(self, stream_ids: Collection[int]) -> None:
        """Remove every stream that is not among ``stream_ids``. Nobody may be adding."""
        with self._changing:
            known = set(self.memory.stream_ids())
            for part in self.parts:
                known.update(part.native.stream_ids())
            known.update(self._floors)
            self.raise_floors([(i, REMOVED) for i in known.difference(stream_ids)])

    # --- which parts there are

    def make_part(self, sources: Sequence[Source], span: tuple[int, int]) -> Part | None:
        """Write and open a part that covers the log positions ``span``. It is not live yet.

        None if nothing of ``sources`` is left. Raises OSError, MemoryError, Corrupted.
        """
        with self.lock:
            number = self._next_number
            self._next_number += 1
        name = part_name(number)
        try:
            written = write_part(self._storage, self._directory, name, sources, *span)
        except DamagedPart:
            path = f"{self._directory}/{name}"
            raise Corrupted("a source of a merge is damaged", file=path, position=0) from None
        if written is None:
            return None
        return Part.open(self._storage, self._directory, number, written.checksum, span)

    def append(self, part: Part | None, position: int, memory: MemoryPart | None) -> None:
        """All below ``position`` is on disk, the last of it in ``part``. ``memory`` if it is new.

        Raises OSError; then nothing is changed.
        """
        with self._changing:
            parts = (*self.parts, part) if part is not None else self.parts
            self._publish(parts, position, memory)

    def replace(self, victims: Sequence[Part], merged: Part | None) -> None:
        """``merged`` holds all that is left of ``victims``, which are neighbours.

        Raises OSError; then nothing is changed.
        """
        with self._changing:
            # Flushes may have added parts behind the victims; nothing else changes the list.
            at = self.parts.index(victims[0])
            new = () if merged is None else (merged,)
            rest = self.parts[at + len(victims) :]
            self._publish(self.parts[:at] + new + rest, self.durable_position, None)

    def rewind(self, position: int) -> int:
        """Forget parts that reach beyond log ``position``; the position from which all is gone."""
        with self._changing:
            kept = self._listed(self.parts, self.durable_position, self._floors).before(position)
            self._publish(self.parts[: len(kept.parts)], kept.position, MemoryPart())
            self._holes = kept.holes
            return kept.position

    def _publish(self, parts: tuple[Part, ...], position: int, memory: MemoryPart | None) -> None:
        """Make ``parts`` the live ones, on disk and then here, and ``memory`` if it is new.

        The caller holds ``_changing``. Raises OSError; nothing is changed here then.
        """
        fresh = [part for part in parts if part not in self.parts]
        with self.lock:
            floors = dict(self._floors)
            self.list_changed = False
            self._holes = self._holes_above(floors)
        for part in fresh:
            part.floors.raise_floors(floors.items(), part.native.find_stream)
        listed = self._listed(parts, position, floors)
        try:
            write_part_list(self._storage, self._directory, listed)
        except BaseException:
            self.list_changed = True
            raise
        with self.lock:
            if self.list_changed:
                raised = self._floors.items() - floors.items()
                for part in fresh:
                    part.floors.raise_floors(raised, part.native.find_stream)
            self._retire([part for part in self.parts if part not in parts])
            self.parts = parts
            self.durable_position = position
            if memory is not None:
                self.memory = memory
            for stream_id in removed_streams(floors).difference(listed.removed):
                # Of a removed stream that nothing holds, there is nothing left to hide.
                if self.memory.find_stream(stream_id) < 0:
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

    def unlink(self, parts: Iterable[Part]) -> None:
        """Remove the files of parts that are not live any more."""
        try:
            for part in parts:
                self._storage.unlink(self.path(part))
            self._storage.sync_directory(self._directory)
        except OSError as error:
            _logger.warning("merged search parts stay until the next start: %s", error)

    def path(self, part: Part) -> str:
        return f"{self._directory}/{part_name(part.number)}"

    # --- who is reading what

    @staticmethod
    def hold(parts: Iterable[Part]) -> None:
        """The caller holds ``lock``, and gives the parts back by :meth:`release`."""
        for part in parts:
            part.users += 1

    def release(self, parts: Iterable[Part]) -> None:
        """Give back what :meth:`hold` took: a retired part is closed by the last to do so."""
        with self.lock:
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
