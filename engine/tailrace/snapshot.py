"""One snapshot on its way in, or out: in pieces, never held whole.

Both block on the disk and belong to one thread at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import TracebackType

from tailrace import filenames, limits
from tailrace.errors import (
    Corrupted,
    InvalidArgument,
    LogPoisoned,
    Overloaded,
    Rejected,
    TailraceError,
)
from tailrace.offset import encode_offset
from tailrace.operation import PutSnapshot, Snapshot, StreamKey
from tailrace.outcome import Outcome, Reason, Rejection, SnapshotStored
from tailrace.snapshot_files import SnapshotFiles, open_file
from tailrace.storage import File, Storage
from tailrace.stream import StreamState
from tailrace.views import Head, head_of

_RETRY_AFTER_S = 1.0


class SnapshotWriter:
    """Takes a snapshot's bytes and makes them the visible snapshot of their stream.

    :meth:`write` in any number of pieces, then :meth:`commit`, or :meth:`abort`. As a context
    manager it aborts unless it was committed.
    """

    def __init__(
        self,
        files: SnapshotFiles,
        perform: Callable[[PutSnapshot], Outcome],
        key: StreamKey,
        ordinal: int,
        content_type: str,
        match: bytes | None,
    ) -> None:
        self._files = files
        self._perform = perform
        self._key = key
        self._ordinal = ordinal
        self._content_type = content_type
        self._match = match
        self._hash = hashlib.sha256()
        self._synced = 0
        self._file: File | None = None
        self.length = 0
        try:
            self._number, self._file = files.create()
        except OSError as error:
            raise _no_room(error) from error

    def __enter__(self) -> SnapshotWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abort()

    def write(self, piece: bytes) -> None:
        """Add ``piece``. Raises Overloaded if the disk does not take it: nothing is kept then.

        Now and then it syncs, lest the sync at the end holds up those of the log.
        """
        file = self._open()
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise InvalidArgument("piece", "must be bytes")
        try:
            file.pwrite(piece, self.length)
            self.length += len(piece)
            if self.length - self._synced >= limits.SNAPSHOT_SYNC_BYTES:
                file.sync()
                self._synced = self.length
        except OSError as error:
            self.abort()
            raise _no_room(error) from error
        self._hash.update(piece)

    def commit(self) -> SnapshotStored:
        """Make it the visible snapshot; durable on return.

        Raises Rejected, Overloaded, StoreClosed, LogPoisoned (then only the next start can tell
        whether it counts). Whatever happens, nothing more can be written.
        """
        file = self._open()
        try:
            file.sync()
            self._files.sync_directory()
        except OSError as error:
            self.abort()
            raise _no_room(error) from error
        self._file = None
        file.close()
        digest = self._hash.digest()
        snapshot = Snapshot(self._ordinal, digest, self.length, self._content_type, self._number)
        try:
            outcome = self._perform(PutSnapshot(self._key, snapshot, self._match))
        except LogPoisoned:
            raise  # its batch may be in the log all the same
        except TailraceError:
            self._files.discard(self._number)
            raise
        if isinstance(outcome, Rejection):
            self._files.discard(self._number)
            raise Rejected(outcome)
        assert isinstance(outcome, SnapshotStored)
        if outcome.existed:
            self._files.refresh(self._number, outcome.stream_id, outcome.snapshot.file)
        return outcome

    def abort(self) -> None:
        """Forget it, unless it was committed. May be called again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
            self._files.discard(self._number)

    def _open(self) -> File:
        if self._file is None:
            raise InvalidArgument("snapshot", "was committed or aborted already")
        return self._file


def _no_room(error: OSError) -> Overloaded:
    """A snapshot's file is its own: its trouble is not the log's, and nothing came of it."""
    message = f"the snapshot could not be written ({error}); nothing was stored"
    return Overloaded(message, retry_after_s=_RETRY_AFTER_S)


class SnapshotReader:
    """A snapshot as it was when it was opened: it can be read to its end whatever becomes of it.

    ``head`` is the stream at that moment, with this as its visible snapshot. Close it, or use
    it as a context manager.
    """

    def __init__(self, file: File, head: Head, snapshot: Snapshot) -> None:
        self._file: File | None = file
        self._hash = hashlib.sha256()
        self._position = 0
        self.head = head
        self.snapshot = snapshot

    def __enter__(self) -> SnapshotReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def read(self, max_bytes: int = limits.SNAPSHOT_READ_BYTES) -> bytes:
        """The next piece; ``b""`` behind the last.

        The last is given only if all of them have the digest they should have: else Corrupted.
        """
        if self._file is None:
            raise InvalidArgument("snapshot", "is closed")
        piece = self._file.pread(
            min(max_bytes, self.snapshot.length - self._position), self._position
        )
        self._position += len(piece)
        self._hash.update(piece)
        at_end = self._position == self.snapshot.length
        if (at_end and self._hash.digest() != self.snapshot.digest) or not (at_end or piece):
            raise Corrupted(
                "a snapshot is not what was stored",
                file=filenames.snapshot(self.snapshot.file),
                position=0,
                stream=str(self.head.key),
            )
        return piece

    def close(self) -> None:
        """May be called again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def open_visible(
    storage: Storage, state_of: Callable[[], StreamState], ordinal: int | None
) -> SnapshotReader:
    """The visible snapshot of the stream that ``state_of`` looks up, if it is at ``ordinal``."""
    while True:
        state = state_of()
        key, snapshot = state.config.key, state.snapshot
        if snapshot is None or ordinal not in (None, snapshot.ordinal):
            message = f"stream {key} has no snapshot" + (
                "" if ordinal is None else f" at {encode_offset(ordinal)}; it may have a newer one"
            )
            raise Rejected(Rejection(Reason.SNAPSHOT_NOT_FOUND, message, snapshot=snapshot))
        try:
            return SnapshotReader(open_file(storage, key, snapshot), head_of(state), snapshot)
        except FileNotFoundError:
            if state_of().snapshot == snapshot:
                name = filenames.snapshot(snapshot.file)
                message = "a snapshot's file is missing"
                raise Corrupted(message, file=name, position=0, stream=str(key)) from None
