"""Sources → one part file, synced. The bytes: ``engine/SEARCH_FORMAT.md``."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

from tailrace.limits import MIB
from tailrace.native import crc32c
from tailrace.search.analyzer import VERSION as ANALYZER_VERSION
from tailrace.search.native_score import (
    PART_HEADER_BYTES,
    PART_VERSION,
    SECTION_COUNT,
    NativeMerge,
    Source,
)
from tailrace.storage import File, Storage

MAGIC: Final = b"TRSEARCH"
HEADER_BYTES: Final = PART_HEADER_BYTES

_FIXED: Final = Struct("<8sIIIIIIQQQQ")
_SECTION: Final = Struct("<QQII")
_TAIL: Final = Struct("<I")
_CHUNK_BYTES: Final = 4 * MIB
_ALIGNMENT: Final = 8

assert _FIXED.size + SECTION_COUNT * _SECTION.size + 2 * _TAIL.size == HEADER_BYTES


class Written(NamedTuple):
    """What a new part file holds. ``checksum`` is its header's, which covers all others."""

    documents: int
    length: int
    checksum: int


class _Sections:
    """Appends sections to a file, each aligned, and remembers their table."""

    def __init__(self, file: File) -> None:
        self._file = file
        self.position = HEADER_BYTES
        self.table: list[bytes] = []

    def begin(self) -> int:
        # A new file is a hole: what is not written reads as zeros.
        self.position += -self.position % _ALIGNMENT
        return self.position

    def write(self, data: memoryview, crc: int) -> int:
        self._file.pwrite(data, self.position)
        self.position += len(data)
        return crc32c(data, crc)

    def end(self, start: int, crc: int) -> None:
        self.table.append(_SECTION.pack(start, self.position - start, crc, 0))


def _write_sections(sections: _Sections, merge: NativeMerge) -> None:
    start, crc = sections.begin(), 0
    while (chunk := merge.step(_CHUNK_BYTES)) is not None:
        crc = sections.write(chunk, crc)
    sections.end(start, crc)
    for number in range(1, SECTION_COUNT):
        data = merge.section(number)
        start = sections.begin()
        sections.end(start, sections.write(data, 0) if data else 0)


def write_part(
    storage: Storage,
    directory: str,
    name: str,
    sources: Sequence[Source],
    first_position: int,
    end_position: int,
) -> Written | None:
    """Merge ``sources`` into the new file ``directory/name``, durably. None, and no file, if
    nothing of them is left. Raises OSError, MemoryError, DamagedPart; then there is no file.
    """
    merge = NativeMerge(sources)
    try:
        if merge.counts()[0] == 0:
            return None
        path = f"{directory}/{name}"
        storage.unlink(path)
        file = storage.open(path, writable=True, create=True)
        done = False
        try:
            sections = _Sections(file)
            _write_sections(sections, merge)
            documents, streams, terms, types, length_sum = merge.counts()
            header = _FIXED.pack(
                MAGIC,
                PART_VERSION,
                HEADER_BYTES,
                documents,
                streams,
                terms,
                types,
                length_sum,
                first_position,
                end_position,
                sections.position,
            )
            header += b"".join(sections.table) + _TAIL.pack(ANALYZER_VERSION)
            checksum = crc32c(header)
            file.pwrite(header + _TAIL.pack(checksum), 0)
            # A file that ends in padding only would be short of its last, empty section.
            file.truncate(sections.position)
            file.sync()
            done = True
        finally:
            file.close()
            if not done:
                storage.unlink(path)
        storage.sync_directory(directory)
        return Written(documents, sections.position, checksum)
    finally:
        merge.close()
