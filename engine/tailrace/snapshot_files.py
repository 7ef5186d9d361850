"""The files that snapshots are in: how they are made, opened and removed.

A file gets its final name at once and is written once. It counts only when a durable batch
names it, so there is nothing to rename: what no stream's state names is a stray, of a crash or
of a snapshot that was replaced, and is removed at the next start.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import deque
from collections.abc import Iterable
from typing import Final

from tailrace import filenames
from tailrace.catalog import Catalog
from tailrace.errors import Corrupted
from tailrace.operation import Snapshot, StreamKey
from tailrace.storage import File, Storage

_logger = logging.getLogger("tailrace")
_NAMED_MAX: Final = 20
"""So many streams are named in one line of the log."""


class SnapshotFiles:
    """The snapshot files of an open store. Safe to use from any thread."""

    def __init__(self, storage: Storage, durable: Catalog) -> None:
        self._storage = storage
        self._durable = durable
        self._lock = threading.Lock()
        self._released: deque[int] = deque()

    def create(self) -> tuple[int, File]:
        """A new, empty file, open for writing.

        Its number is random: one that a damaged log still names must never come again.
        """
        number = secrets.randbits(64)
        return number, self._storage.open(filenames.snapshot(number), writable=True, create=True)

    def sync_directory(self) -> None:
        """Make the names of the files durable."""
        self._storage.sync_directory(filenames.SNAPSHOT_DIRECTORY)

    def discard(self, number: int) -> None:
        """Remove a file that never became visible."""
        try:
            self._storage.unlink(filenames.snapshot(number))
        except OSError as error:
            _logger.warning("a stray snapshot stays until the next start: %s", error)

    def refresh(self, number: int, stream_id: int, visible: int) -> None:
        """Put a durable file in the place of the visible one, which should hold the same bytes.

        A snapshot that was damaged on disk is whole again once its client sends it again.
        """
        with self._lock:  # else a rename could bring back a file that was just removed, for good
            state = self._durable.streams.get(stream_id)
            snapshot = None if state is None else state.snapshot
            if snapshot is not None and snapshot.file == visible:
                try:
                    self._storage.rename(filenames.snapshot(number), filenames.snapshot(visible))
                    return
                except OSError as error:
                    _logger.warning("a snapshot stored again keeps its old file: %s", error)
        self.discard(number)

    def release(self, numbers: Iterable[int]) -> None:
        """No durable state names these any more: :meth:`remove_released` may remove them."""
        self._released.extend(numbers)

    def remove_released(self) -> None:
        """Remove what was released. Whoever has such a file open can still read it.

        Not on the committing thread: to free a large file takes a disk its time.
        """
        with self._lock:
            while self._released:
                self._storage.unlink(filenames.snapshot(self._released[0]))
                self._released.popleft()


def open_file(storage: Storage, key: StreamKey, snapshot: Snapshot) -> File:
    """The snapshot's file; FileNotFoundError if there is none, Corrupted if it is not its size."""
    name = filenames.snapshot(snapshot.file)
    file = storage.open(name)
    try:
        size = file.size_bytes()
        if size != snapshot.length:
            message = f"a snapshot has {size} bytes instead of {snapshot.length}"
            raise Corrupted(message, file=name, position=0, stream=str(key))
    except BaseException:
        file.close()
        raise
    return file


def reconcile(storage: Storage, catalog: Catalog) -> None:
    """Remove the files that no stream names, and log which streams' files are not there.

    ``catalog`` is durable and the newest. One look at the directory: the files are not opened.
    """
    missing = {
        state.snapshot.file: state.config.key
        for state in catalog.streams.values()
        if state.snapshot is not None
    }
    strays = []
    for name in storage.list_directory(filenames.SNAPSHOT_DIRECTORY):
        number = filenames.snapshot_file(name)
        if number is not None and missing.pop(number, None) is None:
            strays.append(name)
    for name in strays:
        storage.unlink(f"{filenames.SNAPSHOT_DIRECTORY}/{name}")
    if missing:
        keys = sorted(map(str, missing.values()))
        more = "" if len(keys) <= _NAMED_MAX else f" and {len(keys) - _NAMED_MAX} more"
        _logger.error(
            "%d snapshots have no file in %s: those of %s%s. They cannot be read until they are "
            "stored again, or their files are put back; all else can",
            len(keys),
            filenames.SNAPSHOT_DIRECTORY,
            ", ".join(keys[:_NAMED_MAX]),
            more,
        )
