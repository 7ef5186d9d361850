"""What can go wrong in the engine, as exceptions.

A *rejection* (the stream is closed, the producer is fenced, ...) is an ordinary
answer and lives in :mod:`tailrace.outcome`; the blocking API raises it wrapped
in :class:`Rejected`. Everything else here is a fault of the caller, the disk or
the store itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailrace.outcome import Rejection


class TailraceError(Exception):
    """Base of every exception the engine raises on purpose."""


class InvalidArgument(TailraceError, ValueError):
    """A value handed to the API breaks a documented rule.

    ``field`` names the argument (``"bucket"``, ``"ttl_ms"``, ...).
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Rejected(TailraceError):
    """A blocking call got a rejection instead of what it asked for."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.message)
        self.rejection = rejection


class Overloaded(TailraceError):
    """There is no room for it now, and nothing was done; try again after ``retry_after_s``.

    Staged bytes are at their bound, the disk is full, or the system gives no more threads.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreClosed(TailraceError):
    """The store was closed; open it again."""


class NoStore(TailraceError):
    """The directory holds no store. Only tools say so: opening one makes it."""


class StoreLocked(TailraceError):
    """Another process (or another Store in this one) has the data directory open."""


class LogPoisoned(TailraceError):
    """A write or sync failed. Writes are refused until the store is opened again; reads go on."""


class UnsupportedFormat(TailraceError):
    """The data directory was written by a version of the format this build cannot read."""


class Corrupted(TailraceError):
    """Bytes on disk are not what was acknowledged.

    ``file`` is the file's name in the data directory, ``position`` the log position
    (or, for other files, the byte offset) of the damage, ``stream`` the stream's
    ``bucket/name`` where it is known, ``ordinal`` the first record that cannot be read.
    ``mendable``: ``tailrace repair`` can make the store usable again; else only a backup can.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str,
        position: int,
        stream: str | None = None,
        ordinal: int | None = None,
        mendable: bool = True,
    ) -> None:
        where = f"{file} at position {position}"
        if stream is not None:
            where += f", stream {stream}"
        super().__init__(f"{message} ({where})")
        self.file = file
        self.position = position
        self.stream = stream
        self.ordinal = ordinal
        self.mendable = mendable


class RecordsLost(Corrupted):
    """Records ``first`` to ``stop`` (exclusive) were damaged, and `tailrace repair` gave them up.

    The stream goes on at ``stop``, which may be its tail.
    """

    def __init__(self, first: int, stop: int, *, file: str, position: int, stream: str) -> None:
        super().__init__(
            f"records {first} to {stop - 1} were damaged and given up by `tailrace repair`; "
            f"the stream goes on at {stop}",
            file=file,
            position=position,
            stream=stream,
            ordinal=first,
        )
        self.first = first
        self.stop = stop
