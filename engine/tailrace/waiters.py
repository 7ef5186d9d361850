"""Threads that wait for one stream's durable state to move."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable


class Waiters:
    """One event for each waiting call, by stream id. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_stream: dict[int, list[threading.Event]] = {}

    def wait_until(self, stream_id: int, is_over: Callable[[], bool], timeout_s: float) -> bool:
        """Block until ``is_over``, asked at once and after each change of the stream.

        False if ``timeout_s`` went by first.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            # Before it is asked, lest a change between the two be missed.
            event = self._add(stream_id)
            try:
                if is_over():
                    return True
                if not event.wait(max(0.0, deadline - time.monotonic())):
                    return False
            finally:
                self._remove(stream_id, event)

    def _add(self, stream_id: int) -> threading.Event:
        event = threading.Event()
        with self._lock:
            self._by_stream.setdefault(stream_id, []).append(event)
        return event

    def _remove(self, stream_id: int, event: threading.Event) -> None:
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
