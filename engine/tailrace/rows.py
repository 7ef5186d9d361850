"""Appends of many callers as columns: what is asked and answered for a stream, not for each.

Whoever has many appends at once that ask for nothing but their records, as a server has after
each look at its sockets, hands them over put together by stream, and is answered the same way:
no object is made for any of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from tailrace.operation import Producer, StreamKey


class Rows(NamedTuple):
    """The records of appends without conditions, put together in groups.

    A group is what one batch of the log can hold: appends to one stream, or one append of an
    idempotent producer. ``keys`` has the stream of each, ``content_types`` the type its appends
    were sent with, ``counts`` (typecode ``I``) how many records they have, one at least, and
    ``producers`` whose append it is, None for nobody's; it may be empty if all are that.
    ``lengths`` (``I``) has the bytes of every record, group after group, and ``payload`` the
    records, back to back. A record sent as JSON is followed by one comma, which its length
    counts. Where one append ends and the next begins is not said: all of a group have one fate.
    """

    keys: Sequence[StreamKey]
    content_types: Sequence[str]
    counts: array[int]
    lengths: array[int]
    payload: bytes | bytearray | memoryview
    producers: Sequence[Producer | None] = ()


class AppendedRows(NamedTuple):
    """What :class:`Rows` came to: columns (typecode ``Q``) with a value for each group of it.

    Record ``j`` of group ``i`` has the ordinal ``firsts[i] + j``; the tail behind it is one
    more. ``created_at_ms`` is the time of all records of a group. ``stream_ids`` is 0 where the
    appends were not taken; the other two mean nothing there.
    """

    stream_ids: array[int]
    firsts: array[int]
    created_at_ms: array[int]
