"""The typed face of ``csrc/front/reactor.h``: the sockets of many connections at once.

:meth:`Reactor.answer` and all that begins with that name, :meth:`~Reactor.peer` and
:meth:`~Reactor.counters` may be called from any thread, the others belong to the Trio thread.
Calls release the GIL.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

from tailrace.limits import KIB, MIB
from tailrace_server import front
from tailrace_server._reactor import ffi, lib
from tailrace_server.fast.heads import Heads
from tailrace_server.fast.lent import Lent
from tailrace_server.fast.turn import Columns, Polled, Row, Taken
from tailrace_server.front import FrontLimits
from tailrace_server.protocol.json_mode import NESTING_MAX
from tailrace_server.protocol.message import Chunk

HEAD_BYTES_MAX: Final = 8 * KIB
BODY_BYTES_MAX: Final = 64 * KIB
"""Larger heads and bodies are not the reactor's business."""
RECEIVE_BYTES: Final = 64 * KIB
_ARENA_BYTES: Final = MIB
_ROWS: Final = 256
_FIELDS_PER_REQUEST: Final[int] = lib.TR_HTTP_FIELDS_MAX
_FIELDS: Final = 16 * _ROWS
_PAYLOAD_BYTES: Final = _ARENA_BYTES + _ROWS  # a comma for each row: an array has its own
_RECORDS: Final = _ARENA_BYTES // 16  # of one poll; beyond, they are left
_COLUMNS: Final = (
    *("lanes", "counts", "records", "indexes", "ends", "left"),
    *("groups", "firsts", "places"),
)
_ADDRESS_BYTES: Final = 64

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
assert all(getattr(lib, f"TR_HTTP_{name}") == number for number, name in enumerate(METHODS))
assert frozenset(METHODS) == front.METHODS
assert max(HEAD_BYTES_MAX + BODY_BYTES_MAX, RECEIVE_BYTES) <= _ARENA_BYTES
assert _FIELDS_PER_REQUEST <= _FIELDS
assert NESTING_MAX <= lib.TR_JSON_NESTING_MAX
assert array("I").itemsize == 4

_ROW: Final = struct.Struct("=Q16I")
assert _ROW.size == ffi.sizeof("struct tr_row")
_FIELD: Final = struct.Struct("=4I")


class Reactor:
    """The sockets of one front. Close it; its memory goes with the last reference."""

    def __init__(self, limits: FrontLimits) -> None:
        # What is larger is refused, or served, by who takes the connection over.
        sizes = ffi.new(
            "struct tr_reactor_limits *",
            {
                "connections_max": limits.connections_max,
                "head_max": min(HEAD_BYTES_MAX, limits.head_bytes_max),
                "body_max": min(BODY_BYTES_MAX, limits.body_bytes_max),
                "fields_max": min(_FIELDS_PER_REQUEST, limits.head_fields_max),
                "receive_max": RECEIVE_BYTES,
            },
        )
        self._pointer: Any = lib.tr_reactor_new(sizes)
        if self._pointer == ffi.NULL:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        self._pointer = ffi.gc(self._pointer, lib.tr_reactor_free)
        assert lib.tr_reactor_arena_min(sizes) <= _ARENA_BYTES
        self.heads = Heads()
        self.lent = Lent(self._pointer)
        turn = self._turn = ffi.new("struct tr_turn *")
        self._arena = turn.arena = ffi.new("uint8_t[]", _ARENA_BYTES)
        turn.arena_capacity = _ARENA_BYTES
        self._rows = turn.rows = ffi.new("struct tr_row[]", _ROWS)
        turn.rows_capacity = _ROWS
        self._rows_bytes = memoryview(ffi.buffer(self._rows))
        self._fields = turn.fields = ffi.new("struct tr_row_field[]", _FIELDS)
        turn.fields_capacity = _FIELDS
        self._fields_bytes = memoryview(ffi.buffer(self._fields))
        self._payload = ffi.new("uint8_t[]", _PAYLOAD_BYTES)
        self._payload_bytes = memoryview(ffi.buffer(self._payload))
        turn.columns.payload = self._payload
        turn.columns.payload_capacity = _PAYLOAD_BYTES
        self._columns = ffi.new("uint32_t[]", len(_COLUMNS) * _ROWS)
        for index, name in enumerate(_COLUMNS):
            setattr(turn.columns, name, self._columns + index * _ROWS)
        self._lengths = turn.columns.lengths = ffi.new("uint32_t[]", _RECORDS)
        self._spans = turn.columns.spans = ffi.new("struct tr_json_span[]", _RECORDS)
        turn.columns.records_capacity = _RECORDS
        self._handles = turn.columns.handles = ffi.new("uint64_t[]", _ROWS)
        self._seqs = turn.columns.seqs = ffi.new("uint64_t[]", _ROWS)

    @property
    def descriptor(self) -> int:
        """Readable when :meth:`poll` has something to do."""
        return int(lib.tr_reactor_descriptor(self._pointer))

    def listen(self, descriptor: int) -> None:
        """Accept from a listening, non-blocking socket. OSError if it cannot be watched."""
        why = lib.tr_reactor_listen(self._pointer, descriptor)
        if why:
            raise OSError(why, os.strerror(why))

    def poll(self, room: int, *, take: bool = False) -> Polled:
        """Accept while fewer than ``room`` connections are open, read, parse; never waits.

        With ``take`` the rows of lanes (see :attr:`heads`) become :meth:`columns`. The rows, and
        what other methods tell of them, hold until the next poll.
        """
        turn = self._turn
        lib.tr_turn(self._pointer, max(0, room), self.heads.pointer, take, NESTING_MAX, turn)
        if turn.polled.released:
            self.lent.release()
        left = turn.collected.left
        if left == turn.polled.rows:
            rows = _ROW.iter_unpack(self._rows_bytes[: left * _ROW.size])
        else:
            rows = map(self.row, ffi.unpack(turn.columns.left, left))
        return Polled(self.arena() if left else b"", rows, turn.polled.accept_error)

    def limit_bodies(self, bytes_max: int) -> None:
        """Offer what does not find room beside the other requests' bodies, which are counted."""
        lib.tr_reactor_limit_bodies(self._pointer, bytes_max)

    def bodies_held(self) -> int:
        """Bytes of the bodies of requests that are out, or of which the head has come."""
        return self.counters()["bodies"]

    def arena(self) -> bytes:
        """The requests' bytes."""
        return bytes(ffi.buffer(self._arena, self._turn.polled.arena))

    def row(self, index: int) -> tuple[Any, ...]:
        """One of the poll's rows, in the form of :class:`Row`."""
        return _ROW.unpack_from(self._rows_bytes, index * _ROW.size)

    def body_length(self, index: int) -> int:
        """How long the body of one of the poll's rows is."""
        return int(self._rows[index].body_length)

    def columns(self) -> Columns | None:
        """What of the poll's rows was taken as columns; None if nothing was."""
        turn = self._turn
        columns, found = turn.columns, turn.collected
        if not found.taken:
            return None
        return Columns(
            ffi.unpack(columns.lanes, found.groups),
            _numbers("Q", columns.seqs, found.groups),
            _numbers("I", columns.counts, found.groups),
            _numbers("I", columns.records, found.groups),
            ffi.buffer(columns.handles, found.taken * 8)[:],
            _numbers("I", columns.ends, found.taken),
            _numbers("I", columns.lengths, found.records),
            self._payload_bytes[: found.payload],
            found.bodies,
        )

    def taken_rows(self, first: int, count: int) -> list[int]:
        """Indexes of rows that were taken, by their place in the columns."""
        return list(ffi.unpack(self._turn.columns.indexes + first, count))

    def fields(self, row: Row) -> list[tuple[int, int, int, int]]:
        """Each header field's name and value: offset from the head and length, twice."""
        begin = row.first_field * _FIELD.size
        end = begin + row.field_count * _FIELD.size
        return list(_FIELD.iter_unpack(self._fields_bytes[begin:end]))

    def answer(self, handles: Sequence[int], pieces: Sequence[Chunk], flags: bytes) -> int:
        """Send each handle its piece; how many handles were still good.

        ``flags`` has a byte for each: 0, or :data:`CLOSE`.
        """
        assert len(handles) == len(pieces) == len(flags)
        blob = b"".join(pieces)
        return int(
            lib.tr_reactor_answer(
                self._pointer,
                ffi.from_buffer("uint64_t[]", array("Q", handles)),
                ffi.from_buffer("uint64_t[]", array("Q", accumulate(map(len, pieces)))),
                ffi.from_buffer(flags),
                len(handles),
                ffi.from_buffer(blob),
                len(blob),
            )
        )

    def answer_rows(
        self,
        form: Any,
        handles: bytes,
        ends: array[int],
        stream_ids: array[int],
        firsts: array[int],
        epochs: array[int],
        seqs: array[int],
        counts: array[int],
    ) -> int:
        """Send every handle ``form`` (``struct tr_form``), filled with its numbers.

        Each of the ``counts[i]`` rows of group ``i`` is told ``stream_ids[i]``, ``epochs[i]``,
        ``seqs[i]``, and ``firsts[i]`` plus its own of ``ends``; rows whose stream id is 0 are
        told nothing. How many handles were still good.
        """
        assert len(stream_ids) == len(firsts) == len(epochs) == len(seqs) == len(counts)
        assert len(handles) == 8 * len(ends)
        return int(
            lib.tr_reactor_answer_rows(
                self._pointer,
                form,
                ffi.from_buffer("uint64_t[]", handles),
                ffi.from_buffer("uint32_t[]", ends),
                len(ends),
                ffi.from_buffer("uint64_t[]", stream_ids),
                ffi.from_buffer("uint64_t[]", firsts),
                ffi.from_buffer("uint64_t[]", epochs),
                ffi.from_buffer("uint64_t[]", seqs),
                ffi.from_buffer("uint32_t[]", counts),
                len(counts),
            )
        )

    def answer_alike(
        self,
        handles: Sequence[int],
        which: Sequence[int],
        pieces: Sequence[Chunk],
        flags: bytes,
    ) -> int:
        """Send each handle the piece whose index in ``pieces`` stands in ``which``.

        ``flags`` has a byte for each piece. Returns how many handles were still good.
        """
        assert len(handles) == len(which)
        assert len(pieces) == len(flags)
        blob = b"".join(pieces)
        return int(
            lib.tr_reactor_answer_alike(
                self._pointer,
                ffi.from_buffer("uint64_t[]", array("Q", handles)),
                ffi.from_buffer("uint32_t[]", array("I", which)),
                len(handles),
                ffi.from_buffer("uint64_t[]", array("Q", accumulate(map(len, pieces)))),
                ffi.from_buffer(flags),
                len(pieces),
                ffi.from_buffer(blob),
                len(blob),
            )
        )

    def answer_pieces(self, handle: int, pieces: Sequence[Chunk], flags: int) -> bool:
        """Send an answer that is not to be copied; whether the handle was still good.

        What the client does not take at once is kept, as it stands, and sent by :meth:`poll`, until
        it is sent or the connection has ended. ``flags``: as a byte of :meth:`answer`'s.
        """
        return self.lent.send(handle, pieces, flags)

    def park(self, handles: Sequence[int]) -> list[tuple[int, int]]:
        """From now on, tell of the clients of these requests, which are out, when they leave.

        Returns those that have left already: the handle, and :data:`LEAVING` or :data:`LEFT`,
        which are otherwise kinds of rows.
        """
        count = len(handles)
        left = ffi.new("uint32_t[]", count)
        lib.tr_reactor_park(
            self._pointer, ffi.from_buffer("uint64_t[]", array("Q", handles)), count, left
        )
        return [(handles[i], kind) for i, kind in enumerate(ffi.unpack(left, count)) if kind]

    def take(self, handle: int) -> Taken | None:
        """Take a connection out: one that was offered, told the head of, or whose request is out.

        The descriptor is then the caller's. None if the handle is stale.
        """
        taken = ffi.new("struct tr_taken *")
        room = 0
        while True:
            out = ffi.new("uint8_t[]", room)
            found = lib.tr_reactor_take(self._pointer, handle, out, room, taken)
            if found < 0:
                return None
            if found == 0:
                break
            room = taken.input + taken.output
        data = ffi.buffer(out, taken.input + taken.output)[:]
        return Taken(
            taken.descriptor,
            data[: taken.input],
            data[taken.input :],
            bool(taken.closing),
            taken.tag,
        )

    def adopt(self, descriptor: int, tag: int) -> bool:
        """Take a connected, non-blocking socket in, between two of its requests.

        False if that cannot be; then it stays the caller's.
        """
        return bool(lib.tr_reactor_adopt(self._pointer, descriptor, tag))

    def sweep(self, patience_s: float, idle_s: float, stall_s: float) -> None:
        """See to connections that were incomplete, idle, or took nothing, for too long."""
        lib.tr_reactor_sweep(self._pointer, _ms(patience_s), _ms(idle_s), _ms(stall_s))
        self.lent.release()

    def drain(self) -> None:
        """Accept no more; end each connection when its request has been answered."""
        lib.tr_reactor_drain(self._pointer)

    def close(self) -> None:
        """End every connection. Answers that come after go nowhere."""
        lib.tr_reactor_close(self._pointer)
        self.lent.release()

    def peer(self, handle: int) -> str:
        """The client's address; empty if it is not known any more."""
        text = ffi.new("char[]", _ADDRESS_BYTES)
        length = lib.tr_reactor_peer(self._pointer, handle, text, _ADDRESS_BYTES)
        return "" if length < 0 else ffi.string(text).decode("ascii")

    def counters(self) -> dict[str, int]:
        """Numbers since the start; ``open`` is how many connections there are now."""
        out = ffi.new("struct tr_reactor_counters *")
        lib.tr_reactor_counters(self._pointer, out)
        return {name: int(getattr(out, name)) for name, _ in ffi.typeof(out).item.fields}


def _numbers(typecode: str, pointer: Any, count: int) -> array[int]:
    """A column, copied."""
    found = array(typecode)
    found.frombytes(ffi.buffer(pointer, found.itemsize * count))
    return found


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
