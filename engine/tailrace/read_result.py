"""What a read of a stream gives: consecutive records, and where in the stream they are."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from tailrace.operation import StreamKey


@dataclass(slots=True)
class ReadRange:
    """Which records of one stream were read, as one durable moment had it.

    ``first`` is the first record's ordinal, ``next`` the one after the last; ``tail``,
    ``closed`` and ``expires_at_ms`` (if nobody touches it; None: never) are the stream's.
    """

    key: StreamKey
    stream_id: int
    content_type: str
    is_json: bool
    first: int
    next: int
    tail: int
    closed: bool
    expires_at_ms: int | None

    @property
    def count(self) -> int:
        return self.next - self.first

    @property
    def up_to_date(self) -> bool:
        """Nothing stands behind these records. With ``closed``: nothing ever will."""
        return self.next == self.tail


@dataclass(slots=True)
class ReadPieces(ReadRange):
    """Consecutive records, not copied if large: ``pieces``, joined, are their wire bytes.

    A piece keeps its segment mapped for as long as it lives, so it is for sending, not for
    keeping.
    """

    pieces: tuple[memoryview, ...]


@dataclass(slots=True)
class ReadResult(ReadRange):
    """Consecutive records of one stream, in one piece.

    ``payload`` is the records' wire bytes: in a JSON stream each is followed by one comma (so
    ``b"[" + payload[:-1] + b"]"`` is the array), in others they are simply joined. ``ends[i]``
    is where record i ends in it, its comma included.
    """

    payload: memoryview
    ends: array[int]

    @property
    def pieces(self) -> tuple[memoryview, ...]:
        """As of :class:`ReadPieces`."""
        return (self.payload,) if self.count else ()

    def records(self) -> Iterator[memoryview]:
        """Each record, without its separator."""
        separator = 1 if self.is_json else 0
        begin = 0
        for end in self.ends:
            yield self.payload[begin : end - separator]
            begin = end
