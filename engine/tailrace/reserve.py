"""Zeroed files ahead of the log, so that a burst of writes does not share the disk with zeros.

Writing zeros takes as much of the disk as writing the log, so a segment that is made while the
log runs at full speed halves that speed. While it is quiet, spare files are zeroed instead: as
many as past bursts would have used. A spare becomes a segment by getting its header and its
name; until then nothing counts on it, and every start may use or remove it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from tailrace import filenames
from tailrace.limits import (
    RESERVE_BURST_S,
    RESERVE_DISK_FREE_BYTES_MIN,
    RESERVE_KEPT_S,
    RESERVE_SEGMENTS_MAX,
    RESERVE_STEP_BYTES,
)
from tailrace.storage import File, Storage

_logger = logging.getLogger("tailrace")
_AHEAD: Final = 2  # a burst that had to zero as it went would have used twice as much without


class Reserve:
    """The spare files of a store. One thread fills it; :meth:`take` may be called from any."""

    def __init__(
        self,
        storage: Storage,
        segment_bytes: int,
        bytes_max: int,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over the spares that are there. May raise OSError."""
        self._storage = storage
        self._segment_bytes = segment_bytes
        self._max = min(bytes_max // segment_bytes, RESERVE_SEGMENTS_MAX)
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._spares: deque[str] = deque()
        self._begun: deque[float] = deque()  # when the last few segments were, in clock_s
        self._last_used = clock_s()
        self._next_number = 0
        self._file: File | None = None  # the spare that is being zeroed
        self._name = ""
        self._filled = 0
        self.wanted = 0
        self._adopt()

    def _adopt(self) -> None:
        for name in self._storage.list_directory(filenames.LOG_DIRECTORY):
            number = filenames.spare_number(name)
            if number is None:
                continue
            self._next_number = max(self._next_number, number + 1)
            path = filenames.spare(number)
            file = self._storage.open(path)
            try:
                whole = file.size_bytes() == self._segment_bytes
            finally:
                file.close()
            if whole and len(self._spares) < self._max:
                self._spares.append(path)
            else:
                self._storage.unlink(path)
        self.wanted = len(self._spares)

    @property
    def ready(self) -> int:
        """How many spares there are."""
        return len(self._spares)

    @property
    def lacking(self) -> bool:
        """Whether there are fewer spares than past bursts would have used."""
        return len(self._spares) < self.wanted

    def counters(self) -> dict[str, int]:
        """For monitoring: how many spares there are, and how many there should be."""
        return {"reserve_segments": len(self._spares), "reserve_segments_wanted": self.wanted}

    def take(self) -> str | None:
        """Note that a segment is begun. The spare file to make it of, None if there is none."""
        with self._lock:
            now_s = self._last_used = self._clock_s()
            self._begun.append(now_s)
            while self._begun[0] < now_s - RESERVE_BURST_S:
                self._begun.popleft()
            burst = _AHEAD * (len(self._begun) - 1)
            self.wanted = min(max(self.wanted, burst), self._max)
            return self._spares.popleft() if self._spares else None

    def step(self) -> None:
        """Zero a piece of the next spare.

        Raises OSError if the disk refuses; then no spare is wanted until the next burst.
        """
        try:
            if self._file is None and not self._begin():
                return
            assert self._file is not None
            stop = min(self._filled + RESERVE_STEP_BYTES, self._segment_bytes)
            self._file.zero(self._filled, stop)
            self._filled = stop
            if stop == self._segment_bytes:
                self._finish()
        except OSError:
            self.wanted = 0
            self.drop_unfinished()
            raise

    def _begin(self) -> bool:
        if self._storage.free_bytes() < RESERVE_DISK_FREE_BYTES_MIN + self._segment_bytes:
            self.wanted = len(self._spares)
            return False
        self._name = filenames.spare(self._next_number)
        self._next_number += 1
        temporary = self._name + filenames.TEMPORARY_SUFFIX
        self._storage.unlink(temporary)
        self._file = self._storage.open(temporary, writable=True, create=True)
        self._filled = 0
        self._file.allocate(self._segment_bytes)
        return True

    def _finish(self) -> None:
        assert self._file is not None
        self._file.sync()
        self._file.close()
        self._file = None
        self._storage.rename(self._name + filenames.TEMPORARY_SUFFIX, self._name)
        with self._lock:
            self._spares.append(self._name)
        self._name = ""

    def give_back(self) -> None:
        """Remove the spares if the disk runs short or none was used for hours. Raises OSError."""
        idle = self._clock_s() - self._last_used > RESERVE_KEPT_S
        if not self._spares and not self._name:
            return
        if idle or self._storage.free_bytes() < RESERVE_DISK_FREE_BYTES_MIN:
            _logger.info("giving back %d spare log segments", len(self._spares))
            self.wanted = 0
            self.drop_unfinished()
            while True:
                with self._lock:
                    if not self._spares:
                        return
                    name = self._spares.pop()
                self._storage.unlink(name)

    def drop_unfinished(self) -> None:
        """Give up the spare that is being zeroed."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._name:
            self._storage.unlink(self._name + filenames.TEMPORARY_SUFFIX)
            self._name = ""
