"""One part file, open for searching."""

from __future__ import annotations

from tailrace.errors import Corrupted
from tailrace.search.analyzer import VERSION as ANALYZER_VERSION
from tailrace.search.floors import FloorTable
from tailrace.search.native_score import InvalidPart, NativePart, Source
from tailrace.storage import Mapping, Storage


def part_name(number: int) -> str:
    """The file of part ``number``, without its directory."""
    return f"{number:016x}.part"


class Part:
    """An immutable part and the floors of its streams.

    ``users`` counts the searches and merges that are reading it; the index keeps the count
    under its lock, and closes a part that is ``retired`` when the last one leaves.
    """

    def __init__(self, number: int, native: NativePart, mapping: Mapping, checksum: int) -> None:
        self.number = number
        self.native = native
        self.checksum = checksum
        self.floors = FloorTable()
        self.users = 0
        self.retired = False
        self._mapping = mapping

    @classmethod
    def open(
        cls, storage: Storage, directory: str, number: int, checksum: int, span: tuple[int, int]
    ) -> Part:
        """Open and check every byte of part ``number``, which covers the log positions ``span``.

        Raises Corrupted if it is missing, damaged, of another analyzer, or another part.
        """
        path = f"{directory}/{part_name(number)}"
        try:
            file = storage.open(path)
        except FileNotFoundError:
            raise Corrupted("search part is missing", file=path, position=0) from None
        try:
            if file.size_bytes() == 0:
                raise Corrupted("search part is empty", file=path, position=0)
            mapping = file.map()
        finally:
            file.close()
        try:
            native = NativePart(mapping.view)
        except InvalidPart as error:
            mapping.close()
            raise Corrupted(
                f"search part is damaged (check {error.check})", file=path, position=0
            ) from None
        part = cls(number, native, mapping, checksum)
        if (
            native.analyzer != ANALYZER_VERSION
            or native.checksum != checksum
            or (native.first_position, native.end_position) != span
        ):
            part.close()
            raise Corrupted("search part is not the one listed", file=path, position=0)
        return part

    @property
    def documents(self) -> int:
        return self.native.documents

    @property
    def live(self) -> int:
        """Documents that are not below a floor."""
        return self.native.live(self.floors.values)

    @property
    def first_position(self) -> int:
        return self.native.first_position

    @property
    def end_position(self) -> int:
        return self.native.end_position

    def source(self) -> Source:
        """What a search that begins now may see."""
        return Source(self.native, None, self.native.documents, self.floors.values)

    def close(self) -> None:
        """Let go of the file. Nothing may be reading it."""
        self.native.release()
        self._mapping.close()
