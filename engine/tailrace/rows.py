"""Appends of many callers as columns: what is asked and answered for a stream, not for each.

Whoever has many appends at once that ask for nothing but their records, as a server has after
each look at its sockets, hands them over put together by stream, and is answered the same way:
no object is made for any of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from tailrace.operation import StreamKey


class Rows(NamedTuple):
    """The records of appends without conditions, put together by stream.

    ``keys`` has each stream once, ``content_types`` for each the type its appends were sent
    with, ``counts`` (typecode ``I``) how many records they have, one at least. ``lengths``
    (``I``) has the bytes of every record, stream after stream, and ``payload`` the records, back
    to back. A record sent as JSON is followed by one comma, which its length counts. Where one
    append ends and the next begins is not said: all of a stream's have one fate.
    """

    keys: Sequence[StreamKey]
    content_types: Sequence[str]
    counts: array[int]
    lengths: array[int]
    payload: bytes | bytearray | memoryview


class AppendedRows(NamedTuple):
    """What :class:`Rows` came to: columns (typecode ``Q``) with a value for each stream of it.

    Record ``j`` of stream ``i`` has the ordinal ``firsts[i] + j``; the tail behind it is one
    more. ``created_at_ms`` is the time of all records of a stream. ``stream_ids`` is 0 where the
    appends were not taken; the other two mean nothing there.
    """

    stream_ids: array[int]
    firsts: array[int]
    created_at_ms: array[int]
