"""The typed face of ``csrc/front/fanout.h``."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from tailrace_server._reactor import ffi, lib


class Short(NamedTuple):
    """One that did not take everything: its place, and the bytes it took.

    None if it has no room, or is broken, which its next own send tells.
    """

    place: int
    sent: int


def send_to_all(descriptors: array[int], data: bytes) -> list[Short]:
    """Send ``data`` to each socket, waiting for none; those that did not take all of it.

    ``descriptors`` is an array of C ints, which must not change meanwhile, nor may anyone
    else write to those sockets or close them. Releases the GIL.
    """
    count = len(descriptors)
    shorts = ffi.new("struct tr_fanout_short[]", count)
    found = lib.tr_fanout_send(
        ffi.from_buffer("int32_t[]", descriptors), count, ffi.from_buffer(data), len(data), shorts
    )
    return [Short(shorts[i].index, shorts[i].sent) for i in range(found)]
