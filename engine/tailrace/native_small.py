"""Many small reads with one call of C: the typed face of ``csrc/gather_small.h``."""

from __future__ import annotations

from array import array

from tailrace._native import ffi, lib
from tailrace.native import View


class SmallGather:
    """Reads of one segment, to be made together: those that :meth:`add` noted.

    ``trusting``: all that they touch is in memory.
    """

    def __init__(self, view: View, base_position: int, *, trusting: bool) -> None:
        self._view = view
        self._base_position = base_position
        self._trusting = trusting
        self._stream_ids = array("Q")
        self._ordinals = array("Q")
        self._counts = array("I")
        self._entries = array("I")

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, stream_id: int, ordinal: int, entries: array[int] | memoryview[int]) -> None:
        """``entries`` has the batch offset (u32) of each record that is to be read."""
        self._stream_ids.append(stream_id)
        self._ordinals.append(ordinal)
        self._counts.append(len(entries))
        self._entries.extend(entries)

    def read(self, bytes_max: int, out: bytearray) -> array[int]:
        """Where each read's bytes end in ``out``, behind those of the one before.

        A read takes none if it is not one of at most ``bytes_max`` bytes that is done in no time.
        """
        reads = len(self)
        ends = array("Q", bytes(8 * reads))
        from_buffer = ffi.from_buffer
        lib.tr_gather_small(
            self._view.pointer,
            self._view.length,
            self._base_position,
            from_buffer("uint64_t[]", self._stream_ids),
            from_buffer("uint64_t[]", self._ordinals),
            from_buffer("uint32_t[]", self._counts),
            from_buffer("uint32_t[]", self._entries),
            reads,
            self._trusting,
            bytes_max,
            from_buffer("uint8_t[]", out),
            len(out),
            from_buffer("uint64_t[]", ends),
        )
        return ends
