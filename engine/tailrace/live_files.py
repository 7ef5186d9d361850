"""The manifest in force, and the one way to change it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from tailrace import filenames
from tailrace.manifest import FORMAT, Manifest, write_manifest
from tailrace.reserve import Reserve
from tailrace.segment import create_segment
from tailrace.storage import Storage

CHECKPOINTS_KEPT = 2


class LiveFiles:
    """Which segments and checkpoints exist, kept equal to the MANIFEST file.

    Safe to use from the committing thread and upkeep at once. Every method may raise OSError;
    then the manifest is as it was, and at most a file is left that no manifest names.
    """

    def __init__(self, storage: Storage, manifest: Manifest) -> None:
        self._storage = storage
        self._lock = threading.Lock()
        self.manifest = manifest
        self.reserve: Reserve | None = None  # zeroed files for the next segments

    def _replace(self, segments: tuple[int, ...], checkpoints: tuple[int, ...]) -> None:
        old = self.manifest
        manifest = Manifest(FORMAT, old.store_id, old.segment_bytes, segments, checkpoints)
        write_manifest(self._storage, manifest)
        self.manifest = manifest

    def upgrade(self) -> None:
        """Mark a store of an older format as one of this format, which older versions refuse."""
        with self._lock:
            if self.manifest.format != FORMAT:
                self._replace(self.manifest.segments, self.manifest.checkpoints)

    def ensure_segment(self, number: int) -> None:
        """Make segment ``number`` exist and count."""
        with self._lock:
            manifest = self.manifest
            if number in manifest.segments:
                return
            spare = None if self.reserve is None else self.reserve.take()
            create_segment(
                self._storage, manifest.store_id_bytes, number, manifest.segment_bytes, spare
            )
            self._replace((*manifest.segments, number), manifest.checkpoints)

    def drop_segments(self, numbers: set[int]) -> None:
        """Make segments no longer count, then remove their files."""
        with self._lock:
            kept = tuple(n for n in self.manifest.segments if n not in numbers)
            self._replace(kept, self.manifest.checkpoints)
            for number in numbers:
                self._storage.unlink(filenames.segment(number))
                self._storage.unlink(filenames.index(number))
            self._storage.sync_directory(filenames.LOG_DIRECTORY)

    def keep_newest_checkpoint(self) -> None:
        """Make only the newest checkpoint count, then remove the files of the others."""
        with self._lock:
            newest, *older = self.manifest.checkpoints
            if older:
                self._replace(self.manifest.segments, (newest,))
                self._remove_checkpoints(older)

    def _remove_checkpoints(self, positions: Sequence[int]) -> None:
        for position in positions:
            self._storage.unlink(filenames.checkpoint(position))
        self._storage.sync_directory("")

    def add_checkpoint(self, position: int) -> None:
        """Make the checkpoint file of ``position``, already durable, the one in use."""
        with self._lock:
            previous = [p for p in self.manifest.checkpoints if p != position]
            kept = (position, *previous[: CHECKPOINTS_KEPT - 1])
            self._replace(self.manifest.segments, kept)
            self._remove_checkpoints(previous[CHECKPOINTS_KEPT - 1 :])
