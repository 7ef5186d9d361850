"""One file of the log: its header, its creation, and its bytes in memory.

::

    0          8         12      16          32       40              48
    | TAILRSEG | version | crc32c| store id  | number | segment_bytes | zeros to 4096 |
    | batches, back to back ... | SEAL batch | zeros to segment_bytes |

A segment is written with zeros, whole, before its first batch: a sync then has no new
extents to record, which makes it about a third cheaper.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from tailrace import filenames
from tailrace.errors import Corrupted, UnsupportedFormat
from tailrace.limits import PAGE_BYTES, SEGMENT_HEADER_BYTES
from tailrace.native import View, crc32c
from tailrace.storage import File, Mapping, Storage

MAGIC: Final = b"TAILRSEG"
VERSION: Final = 1
HEADER: Final = struct.Struct("<8sII16sQQ")
_ZEROS: Final = bytes(PAGE_BYTES)


def encode_header(store_id: bytes, number: int, segment_bytes: int) -> bytes:
    """The header page of a segment."""
    rest = struct.pack("<16sQQ", store_id, number, segment_bytes)
    header = HEADER.pack(MAGIC, VERSION, crc32c(rest), store_id, number, segment_bytes)
    return header.ljust(SEGMENT_HEADER_BYTES, b"\0")


class Header(NamedTuple):
    """What a segment says of itself."""

    store_id: bytes
    number: int
    segment_bytes: int


def decode_header(data: bytes | memoryview, name: str) -> Header:
    """:class:`Corrupted` or :class:`UnsupportedFormat` unless ``data`` begins with a header."""
    if len(data) < SEGMENT_HEADER_BYTES:
        raise Corrupted("segment is shorter than its header", file=name, position=0)
    magic, version, crc, *found = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise Corrupted("not a tailrace segment", file=name, position=0)
    if crc != crc32c(bytes(data[16 : HEADER.size])):
        raise Corrupted("segment header is damaged", file=name, position=0)
    if version != VERSION:
        raise UnsupportedFormat(
            f"{name} has format version {version}; this version of tailrace reads {VERSION}"
        )
    if any(data[HEADER.size : SEGMENT_HEADER_BYTES]):
        raise Corrupted("segment header is damaged", file=name, position=0)
    return Header(*found)


def check_header(
    data: bytes | memoryview, name: str, store_id: bytes, number: int, segment_bytes: int
) -> None:
    """Raise unless ``data`` begins with the header this segment must have."""
    if decode_header(data, name) != (store_id, number, segment_bytes):
        raise Corrupted(
            "segment belongs to another store or place", file=name, position=0, mendable=False
        )


class Segment:
    """An open segment. ``base_position`` is the log position of its first byte."""

    def __init__(self, name: str, number: int, segment_bytes: int, file: File) -> None:
        self.name = name
        self.number = number
        self.base_position = number * segment_bytes
        self.segment_bytes = segment_bytes
        self.file = file
        self._closed = False
        self._mapping: Mapping = file.map()
        self.data: memoryview = self._mapping.view
        self.view = View(self.data)

    def write(self, position: int, data: bytearray) -> None:
        """Write a run of batches at a log position. Not durable until the file is synced.

        The zeros that follow up to the end of the page, which stand there already, are
        appended to ``data`` and written again: that spares the kernel reading the page, which
        may have left its cache since it was zeroed.
        """
        offset = position - self.base_position
        assert SEGMENT_HEADER_BYTES <= offset <= self.segment_bytes - len(data)
        data += _ZEROS[: -(offset + len(data)) % PAGE_BYTES]
        self.file.pwrite(data, offset)

    def release(self, start: int, stop: int) -> None:
        """Let go of the memory that the bytes from offset ``start`` to ``stop`` are mapped to."""
        self._mapping.release(start, stop)

    def close(self) -> None:
        """Close the file: nothing more is written. It can still be read, from memory.

        The mapped bytes go with the last reader's hold on them. May be called again.
        """
        if not self._closed:
            self._closed = True
            self.file.close()


def create_segment(
    storage: Storage, store_id: bytes, number: int, segment_bytes: int, spare: str | None = None
) -> None:
    """Make an empty, pre-zeroed segment file; durable, name included, on return.

    ``spare`` is a file that holds so many zeros already (but for the header of a segment that
    it did not become): it is used up.
    """
    name = filenames.segment(number)
    temporary = spare or name + filenames.TEMPORARY_SUFFIX
    if spare is None:
        storage.unlink(temporary)
    file = storage.open(temporary, writable=True, create=spare is None)
    try:
        if spare is None:
            file.allocate(segment_bytes)
            file.zero(0, segment_bytes)
        file.pwrite(encode_header(store_id, number, segment_bytes), 0)
        file.sync()
    except OSError:
        storage.unlink(temporary)  # on a full disk it would hold the last free bytes
        raise
    finally:
        file.close()
    storage.rename(temporary, name)
    storage.sync_directory(filenames.LOG_DIRECTORY)


def open_segment(
    storage: Storage, store_id: bytes, number: int, segment_bytes: int, *, writable: bool = True
) -> Segment:
    """Open a segment file; :class:`Corrupted` if it is not the one it should be."""
    name = filenames.segment(number)
    try:
        file = storage.open(name, writable=writable)
    except FileNotFoundError:
        raise Corrupted("segment file is missing", file=name, position=0) from None
    try:
        if file.size_bytes() != segment_bytes:
            raise Corrupted(
                f"segment has {file.size_bytes()} bytes instead of {segment_bytes}",
                file=name,
                position=0,
            )
        check_header(file.pread(SEGMENT_HEADER_BYTES, 0), name, store_id, number, segment_bytes)
        return Segment(name, number, segment_bytes, file)
    except BaseException:
        file.close()
        raise
