"""Threads that wait for one stream's durable state to move."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class Waiters:
    """One event for each waiting call, by stream id. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_stream: dict[int, list[threading.Event]] = {}

    def add(self, stream_id: int) -> threading.Event:
        """An event that the next change of the stream sets. Give it back by :meth:`remove`."""
        event = threading.Event()
        with self._lock:
            self._by_stream.setdefault(stream_id, []).append(event)
        return event

    def remove(self, stream_id: int, event: threading.Event) -> None:
        with self._lock:
            events = self._by_stream[stream_id]
            events.remove(event)
            if not events:
                del self._by_stream[stream_id]

    def wake(self, stream_ids: Iterable[int]) -> None:
        """Called after a change is durable and visible."""
        if not self._by_stream:
            return
        with self._lock:
            for stream_id in stream_ids:
                for event in self._by_stream.get(stream_id, ()):
                    event.set()

    def wake_all(self) -> None:
        with self._lock:
            for events in self._by_stream.values():
                for event in events:
                    event.set()
