"""The typed face of the C helpers in ``csrc/`` that map, read and seal the log.

Buffers go in as anything with the buffer protocol; nothing here keeps a reference to
one after the call. The C side reads in place and releases the GIL.
"""

from __future__ import annotations

import struct
import threading
from array import array
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tailrace._native import ffi, lib
from tailrace.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

Buffer = bytes | bytearray | memoryview

BATCH_HEADER_BYTES: Final[int] = lib.TR_BATCH_HEADER_BYTES
BATCH_VERSION: Final[int] = lib.TR_BATCH_VERSION
BUILD_KIND: Final[int] = lib.TR_BUILD_KIND
BUILD_JSON: Final[int] = lib.TR_BUILD_JSON
BATCH_OK: Final[int] = lib.TR_BATCH_OK
BATCH_ZERO: Final[int] = lib.TR_BATCH_ZERO
BATCH_BAD: Final[int] = lib.TR_BATCH_BAD

_SCAN_CAPACITY: Final = 4096
_PIECES_CAPACITY: Final = 128
_PIECE: Final = struct.Struct("=QQI4x")
assert _PIECE.size == ffi.sizeof("struct tr_piece")


def crc32c(data: Buffer, crc: int = 0) -> int:
    """CRC-32C (RFC 3720 appendix B.4) of ``data``, continuing from ``crc``."""
    return int(lib.tr_crc32c(ffi.from_buffer(data), len(data), crc))


def crc32c_portable(data: Buffer, crc: int = 0) -> int:
    """The same without the CPU's instruction."""
    return int(lib.tr_crc32c_portable(ffi.from_buffer(data), len(data), crc))


def seal_batches(data: bytearray) -> int:
    """Write the checksums into a run of batches; the number of batches, 0 if it is not one."""
    return int(lib.tr_batch_seal(ffi.from_buffer(data, require_writable=True), len(data)))


def map_file(descriptor: int, length: int) -> memoryview:
    """The first ``length`` bytes of a file, read only; they go with the last slice of them.

    Keeps no descriptor, unlike :class:`mmap.mmap`: a store has a mapping or two for every
    segment, and a process few descriptors. Raises OSError.
    """
    pointer = lib.tr_map(descriptor, length)
    if pointer == ffi.NULL:
        raise OSError(ffi.errno, f"cannot map {length} bytes of a file")
    owned = ffi.gc(pointer, lambda data: lib.tr_unmap(data, length))
    return memoryview(ffi.buffer(owned, length)).toreadonly()


def release_mapped(mapped: memoryview, start: int, stop: int) -> None:
    """Take bytes of what :func:`map_file` gave out of memory, until they are read again."""
    lib.tr_map_release(ffi.from_buffer(mapped), start, stop)


def write_out(descriptor: int, start: int, length: int) -> None:
    """Have the kernel write these bytes of a file to the disk now, and wait until it has.

    Not durable until the file is synced. Raises OSError for a write that failed: the sync that
    follows would not tell of it again.
    """
    error = lib.tr_write_out(descriptor, start, length)
    if error:
        raise OSError(error, f"cannot write out {length} bytes of a file")


class BatchRef(NamedTuple):
    """Where a valid batch stands and what it says of itself."""

    offset: int
    length: int
    kind: int
    flags: int
    record_count: int
    stream_id: int
    base_ordinal: int
    watermark: int


_U8S: Final[Any] = ffi.typeof("uint8_t[]")
_U32S: Final[Any] = ffi.typeof("uint32_t[]")
_NEAR: Final[Any] = ffi.typeof("struct tr_near *")


class _Scratch(threading.local):
    """What C fills in for the thread that calls it: made once for each, not for each call."""

    def __init__(self) -> None:
        self.gathered: Any = ffi.new("struct tr_gather_result *")
        self.found: Any = ffi.new("struct tr_piece[]", _PIECES_CAPACITY)
        self.taken: Any = ffi.new("struct tr_pieces_result *")


_scratch: Final = _Scratch()


class View:
    """Bytes of one file that C reads again and again: a segment, mapped.

    Holds the pointer, so that a call costs no new one.
    """

    __slots__ = ("_data", "length", "pointer")

    def __init__(self, data: memoryview) -> None:
        # Not the buffer itself: where that and what it is of are garbage in one cycle, as in a
        # store that nobody closed, Python 3.11 crashes.
        with ffi.from_buffer("uint8_t[]", data) as buffer:
            self.pointer: Any = ffi.cast("uint8_t *", buffer)
        self._data = data  # must not be released: the pointer is into it
        self.length: int = len(data)

    def check(self, offset: int, base_position: int) -> int:
        """:data:`BATCH_OK`, :data:`BATCH_ZERO` or :data:`BATCH_BAD` for what stands at offset."""
        return int(lib.tr_batch_check(self.pointer, self.length, offset, base_position))

    def scan(self, offset: int, base_position: int) -> Iterator[BatchRef]:
        """The valid batches from ``offset`` on, until something else stands there."""
        refs = ffi.new("struct tr_batch_ref[]", _SCAN_CAPACITY)
        after = ffi.new("uint64_t *")
        while True:
            count = lib.tr_batch_scan(
                self.pointer, self.length, offset, base_position, refs, _SCAN_CAPACITY, after
            )
            for i in range(count):
                ref = refs[i]
                yield BatchRef(
                    ref.offset,
                    ref.length,
                    ref.kind,
                    ref.flags,
                    ref.record_count,
                    ref.stream_id,
                    ref.base_ordinal,
                    ref.watermark,
                )
            offset = after[0]
            if count < _SCAN_CAPACITY:
                return

    def skip(self, offset: int, base_position: int) -> tuple[int, int]:
        """Where the valid batches from ``offset`` on end, and the last one's kind; 0 for none."""
        refs = ffi.new("struct tr_batch_ref[]", _SCAN_CAPACITY)
        after = ffi.new("uint64_t *", offset)
        kind, count = 0, _SCAN_CAPACITY
        while count == _SCAN_CAPACITY:
            count = lib.tr_batch_scan(
                self.pointer, self.length, after[0], base_position, refs, _SCAN_CAPACITY, after
            )
            if count:
                kind = refs[count - 1].kind
        return after[0], kind

    def find(self, offset: int, base_position: int) -> int:
        """Offset of the first valid batch at or behind ``offset``; ``length`` if there is none."""
        return int(lib.tr_batch_find(self.pointer, self.length, offset, base_position))

    def nonzero_end(self, offset: int) -> int:
        """The offset behind the last byte that is not zero, no less than ``offset``."""
        return int(lib.tr_nonzero_end(self.pointer, self.length, offset))

    def gather(
        self,
        base_position: int,
        stream_id: int,
        ordinal: int,
        entries: Buffer | array[int],
        record_count: int,
        out: bytearray,
        used: int,
        ends: array[int],
        ends_used: int,
    ) -> Gathered:
        """Copy records into ``out[used:]`` and their ends into ``ends[ends_used:]``.

        ``entries`` is ``record_count`` u32 batch offsets; see ``csrc/gather.h``.
        """
        assert len(ends) - ends_used >= record_count
        result = _scratch.gathered
        from_buffer = ffi.from_buffer
        lib.tr_gather(
            self.pointer,
            self.length,
            base_position,
            stream_id,
            ordinal,
            from_buffer(_U32S, entries),
            record_count,
            from_buffer(_U8S, out) + used,
            len(out) - used,
            from_buffer(_U32S, ends) + ends_used,
            used,
            result,
        )
        return Gathered(
            result.status, result.records, result.bytes, result.next_bytes, result.bad_offset
        )

    def pieces(
        self,
        base_position: int,
        stream_id: int,
        ordinal: int,
        entries: Buffer | array[int],
        record_count: int,
        *,
        max_bytes: int,
        one_at_least: bool,
        min_mapped: int,
        out: bytearray,
        checked: int,
        near: Near | None,
    ) -> Pieces:
        """Where records stand; see ``tr_gather_pieces`` in ``csrc/gather.h``."""
        assert len(out) >= min_mapped
        found, result = _scratch.found, _scratch.taken
        result.checked = checked
        lib.tr_gather_pieces(
            self.pointer,
            self.length,
            base_position,
            stream_id,
            ordinal,
            ffi.from_buffer(_U32S, entries),
            record_count,
            max_bytes,
            one_at_least,
            min_mapped,
            ffi.from_buffer(_U8S, out),
            len(out),
            found,
            _PIECES_CAPACITY,
            ffi.NULL if near is None else near.pointer,
            result,
        )
        return Pieces(
            result.status,
            result.records,
            result.bytes,
            _PIECE.iter_unpack(ffi.buffer(found, result.pieces * _PIECE.size)[:]),
            result.end_offset,
            result.bad_offset,
            result.checked,
        )


class Near:
    """What a read by :meth:`View.pieces` may do that is not to take long.

    It verifies no more than ``verified_max`` bytes of batches, all of them in memory:
    ``trusting``, without asking.
    """

    __slots__ = ("pointer",)

    def __init__(self, verified_max: int, *, trusting: bool) -> None:
        self.pointer: Any = ffi.new(_NEAR)
        self.pointer.verified_max = verified_max
        self.pointer.trusting = trusting

    def leave_segment(self) -> None:
        """What is left of it is for another segment."""
        self.pointer.begin = self.pointer.end = 0


class Pieces(NamedTuple):
    """What one :meth:`View.pieces` found.

    ``pieces`` are offset, length, and 1 if they are copied: consecutive bytes in the buffer
    that was given, else in the segment. ``end_offset`` is behind the last batch taken from.
    ``checked`` spares the next call the checksum of the batch that this one stopped at.
    """

    status: int
    records: int
    bytes: int
    pieces: Iterator[tuple[Any, ...]]
    end_offset: int
    bad_offset: int
    checked: int


class Gathered(NamedTuple):
    """What one :meth:`View.gather` did; ``status`` is one of the ``GATHER_`` values."""

    status: int
    records: int
    bytes: int
    next_bytes: int
    bad_offset: int


GATHER_DONE: Final[int] = lib.TR_GATHER_DONE
GATHER_FULL: Final[int] = lib.TR_GATHER_FULL
GATHER_BAD: Final[int] = lib.TR_GATHER_BAD
GATHER_ROOM: Final[int] = lib.TR_GATHER_ROOM
GATHER_FAR: Final[int] = lib.TR_GATHER_FAR


_BAD_COLUMNS: Final = {
    lib.TR_BUILD_BAD_COUNTS: ("counts", "must be 1 at least, and as many together as lengths"),
    lib.TR_BUILD_BAD_LENGTHS: ("lengths", "must add up to the payload"),
    lib.TR_BUILD_BAD_COMMA: ("payload", "a JSON record must not be empty, and a comma follows it"),
}


class ProducerColumns(NamedTuple):
    """Whose appends batches are; 0, 0 and no fields for one without a producer."""

    epochs: array[int]
    seqs: array[int]
    fields: list[bytes]


def build_batches(
    stream_ids: array[int],
    bases: array[int],
    created_at_ms: array[int],
    flags: bytes,
    counts: array[int],
    lengths: array[int],
    payload: Buffer,
    position: int,
    watermark: int,
    capacity: int,
    producers: ProducerColumns | None = None,
) -> tuple[memoryview, array[int]]:
    """APPEND batches without checksums, and where each stands; see ``csrc/batch_build.h``.

    ``capacity`` must do for them. Raises :class:`InvalidArgument`, which names the column.
    """
    batches = len(stream_ids)
    assert len(bases) == len(created_at_ms) == len(flags) == len(counts) == batches
    from_buffer = ffi.from_buffer
    whose = ffi.NULL
    if producers is not None:
        epochs, seqs, fields = producers
        assert len(epochs) == len(seqs) == len(fields) == batches
        columns = (  # alive until the call is over
            from_buffer("uint64_t[]", epochs),
            from_buffer("uint64_t[]", seqs),
            from_buffer("uint32_t[]", array("I", map(len, fields))),
            from_buffer("uint8_t[]", b"".join(fields)),
        )
        whose = ffi.new("struct tr_build_producers *", (*columns, len(columns[-1])))
    out = bytearray(capacity)
    offsets = array("I", counts)
    used = lib.tr_batch_build(
        from_buffer("uint64_t[]", stream_ids),
        from_buffer("uint64_t[]", bases),
        from_buffer("uint64_t[]", created_at_ms),
        flags,
        from_buffer("uint32_t[]", counts),
        batches,
        whose,
        from_buffer("uint32_t[]", lengths),
        len(lengths),
        from_buffer("uint8_t[]", payload),
        memoryview(payload).nbytes,
        position,
        watermark,
        from_buffer("uint8_t[]", out),
        capacity,
        from_buffer("uint32_t[]", offsets),
    )
    if used < 0:
        assert used != lib.TR_BUILD_NO_ROOM
        raise InvalidArgument(*_BAD_COLUMNS[used])
    return memoryview(out)[:used], offsets
