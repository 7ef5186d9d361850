"""The file ``search/MANIFEST``: which parts are live, what log they cover, what is gone.

One JSON object on a line and its CRC-32C on the next, replaced whole. ``floors`` are pairs
of a stream and the ordinal below which its documents are gone; ``removed`` are streams of
which nothing is left to find but which parts still hold; ``holes`` are damaged places of the
log, and what may be missing because of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from tailrace.errors import Corrupted
from tailrace.native import crc32c
from tailrace.search.analyzer import VERSION as ANALYZER_VERSION
from tailrace.storage import Storage, read_file, replace_file

NAME: Final = "MANIFEST"
FORMAT: Final = 2
"""What is written. Format 1 is the same without holes."""
_READABLE: Final = frozenset({1, FORMAT})


class PartEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A live part: its number, the log positions it covers, the checksum of its header."""

    number: int
    first_position: int
    end_position: int
    checksum: int


class Hole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A damaged range of the log that was passed over.

    ``lost``: stream, first and stop ordinal of the searchable records that stood in it.
    """

    position: int
    end: int
    lost: tuple[tuple[int, int, int], ...]

    def above(self, floors: Mapping[int, int]) -> Hole | None:
        """The hole without records below ``floors``, gone anyway; None if none is left."""
        lost = tuple(
            (stream_id, max(first, floors.get(stream_id, 0)), stop)
            for stream_id, first, stop in self.lost
            if floors.get(stream_id, 0) < stop
        )
        return Hole(self.position, self.end, lost) if lost else None


class PartList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``position``: every searchable record below this log position is in a part or a hole."""

    format: int = FORMAT
    analyzer: int = ANALYZER_VERSION
    position: int = 0
    parts: tuple[PartEntry, ...] = ()
    removed: tuple[int, ...] = ()
    floors: tuple[tuple[int, int], ...] = ()
    holes: tuple[Hole, ...] = ()

    def before(self, position: int) -> PartList:
        """The list that claims nothing from log ``position`` on. That must not be in a hole."""
        parts = tuple(entry for entry in self.parts if entry.end_position <= position)
        first_dropped = [entry.first_position for entry in self.parts[len(parts) :]]
        end = min([self.position, position, *first_dropped])
        holes = tuple(hole for hole in self.holes if hole.end <= end)
        return msgspec.structs.replace(self, position=end, parts=parts, holes=holes)


def encode_part_list(parts: PartList) -> bytes:
    line = msgspec.json.encode(parts)
    return line + b"\n%08x\n" % crc32c(line)


def decode_part_list(data: bytes, path: str) -> PartList:
    """:class:`Corrupted` if ``data`` is damaged or written by another version of the index."""
    line, _, rest = data.partition(b"\n")
    if rest != b"%08x\n" % crc32c(line):
        raise Corrupted("search manifest is damaged", file=path, position=0)
    try:
        parts = msgspec.json.decode(line, type=PartList)
    except msgspec.MsgspecError as error:
        raise Corrupted(f"search manifest: {error}", file=path, position=0) from None
    if parts.format not in _READABLE or parts.analyzer != ANALYZER_VERSION:
        raise Corrupted("search manifest is of another version", file=path, position=0)
    position = 0
    for entry in parts.parts:
        if not position <= entry.first_position <= entry.end_position <= parts.position:
            raise Corrupted("search parts are out of order", file=path, position=0)
        position = entry.end_position
    position = 0
    for hole in parts.holes:
        if not position <= hole.position < hole.end <= parts.position:
            raise Corrupted("search holes are out of order", file=path, position=0)
        position = hole.end
    return parts


def read_part_list(storage: Storage, directory: str) -> PartList:
    """The list on disk; an empty one if there is none. Raises Corrupted."""
    path = f"{directory}/{NAME}"
    try:
        data = read_file(storage, path)
    except FileNotFoundError:
        return PartList()
    return decode_part_list(data, path)


def write_part_list(storage: Storage, directory: str, parts: PartList) -> None:
    """Replace the list, durably."""
    replace_file(storage, directory, NAME, encode_part_list(parts))
