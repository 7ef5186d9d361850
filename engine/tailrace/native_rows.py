"""Plain appends of a turn decided by C, which walks Python's own lists, dicts and states.

As in :mod:`tailrace.native_records`, what C walks are objects, so the GIL is kept. The same loop in
Python takes a microsecond and a half for each group, and twice that if there are so many streams
that a turn finds none of theirs in the CPU's caches.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from immutables import Map

from tailrace._native import ffi, lib
from tailrace.batch import Flag
from tailrace.operation import StreamKey
from tailrace.producer import ProducerState
from tailrace.stream import Plain, StreamState

if TYPE_CHECKING:
    from tailrace.catalog import Catalog

Producers = Map[str, ProducerState]
ProducerOf = Callable[[int, Producers], Producers | None]

_PLACES: Final = {
    "tail": lib.TR_STATE_TAIL,
    "last_write_ms": lib.TR_STATE_LAST_WRITE,
    "producers": lib.TR_STATE_PRODUCERS,
    "plain": lib.TR_STATE_PLAIN,
}
assert all(StreamState._fields.index(name) == place for name, place in _PLACES.items())
assert len(StreamState._fields) == lib.TR_STATE_FIELDS
assert Plain._fields[lib.TR_PLAIN_TYPE] == "content_type"
assert Plain._fields[lib.TR_PLAIN_FLAGS] == "flags"

_prototype: Final = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, *[ctypes.py_object] * 7)
_address: Final = int(ffi.cast("uintptr_t", ffi.addressof(lib, "tr_decide_rows")))
_decide: Final[Any] = _prototype(_address)


_NOBODY: Final[dict[StreamKey, int]] = {}


class Decided(NamedTuple):
    """What groups came to, in columns with a value for each; see ``csrc/decide_rows.h``.

    ``states`` has each stream after its last group; ``left`` the indexes of those not taken.
    """

    stream_ids: array[int]
    firsts: array[int]
    created_at_ms: array[int]
    flags: bytearray
    states: dict[int, StreamState]
    left: list[int]


def decide_rows(
    catalog: Catalog | None,
    keys: Sequence[StreamKey],
    content_types: Sequence[str],
    counts: array[int],
    now_ms: int,
    producer_of: ProducerOf | None,
) -> Decided:
    """Decide groups of plain appends; without a catalog all of them are left.

    ``producer_of`` gets the index of a group and the producers that its stream knows, and gives
    those it knows after it; None leaves the group.
    """
    keys, content_types = list(keys), list(content_types)  # nobody else's
    assert len(keys) == len(content_types) == len(counts)
    zeros = bytes(8 * len(keys))
    ids, firsts, times = array("Q", zeros), array("Q", zeros), array("Q", zeros)
    flags = bytearray(len(keys))
    from_buffer = ffi.from_buffer
    columns = (  # held while C fills them in
        from_buffer("uint32_t[]", counts),
        from_buffer("uint64_t[]", ids),
        from_buffer("uint64_t[]", firsts),
        from_buffer("uint64_t[]", times),
        from_buffer("uint8_t[]", flags),
    )
    pointer = ffi.new("struct tr_decide_rows *", (*columns, now_ms, Flag.PRODUCER))
    names, streams = (_NOBODY, {}) if catalog is None else (catalog.names, catalog.streams)
    states: dict[int, StreamState] = {}
    left = _decide(
        int(ffi.cast("uintptr_t", pointer)),
        keys, content_types, names, streams, StreamState, producer_of, states,
    )  # fmt: skip
    return Decided(ids, firsts, times, flags, states, left)
