"""Which streams' time may be over: a heap of due times, so that a sweep looks at no others.

A stream has one entry, put there when it is made. A TTL that is renewed moves its due time
later, never earlier, so the entry may lag behind and is corrected only when it comes up: a
stream in use is looked at once in each TTL, however often it is read and written.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Mapping
from typing import Final

from tailrace.operation import StreamKey
from tailrace.stream import StreamState, expires_at_ms

_COMPACT_ENTRIES_MIN: Final = 1024


class Expiry:
    """Follows ``streams``, the durable ones by id. Any thread may call."""

    def __init__(self, streams: Mapping[int, StreamState]) -> None:
        self._streams = streams
        self._lock = threading.Lock()
        self._heap: list[tuple[int, int]] = []
        for state in list(streams.values()):
            if (due_ms := _due_ms(state)) is not None:
                self._heap.append((due_ms, state.config.stream_id))
        heapq.heapify(self._heap)
        self._compact_at = self._twice()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, state: StreamState) -> None:
        """A stream was made; it is among ``streams`` already."""
        due_ms = _due_ms(state)
        if due_ms is None:
            return
        with self._lock:
            heapq.heappush(self._heap, (due_ms, state.config.stream_id))
            if len(self._heap) > self._compact_at:
                self._compact()

    def due(self, now_ms: int) -> list[StreamKey]:
        """The names of streams whose time is over: told again each time, until they are gone."""
        expired: list[StreamKey] = []
        with self._lock:
            heap, kept = self._heap, []
            while heap and heap[0][0] <= now_ms:
                _, stream_id = heapq.heappop(heap)
                state = self._streams.get(stream_id)
                if state is None or (due_ms := _due_ms(state)) is None:
                    continue
                if due_ms <= now_ms:
                    expired.append(state.config.key)
                kept.append((due_ms, stream_id))
            for entry in kept:
                heapq.heappush(heap, entry)
        return expired

    def _compact(self) -> None:
        """Forget the streams that were deleted before their time."""
        self._heap = [entry for entry in self._heap if entry[1] in self._streams]
        heapq.heapify(self._heap)
        self._compact_at = self._twice()

    def _twice(self) -> int:
        return max(_COMPACT_ENTRIES_MIN, 2 * len(self._heap))


def _due_ms(state: StreamState) -> int | None:
    """When to look at the stream; None: never. A detached one's name is free already."""
    return None if state.detached else expires_at_ms(state)
