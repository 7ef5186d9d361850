"""The durable stream names of each bucket in order, for listing."""

from __future__ import annotations

import threading
from itertools import islice
from typing import Final

from sortedcontainers import SortedSet

from tailrace.catalog import Catalog, Change
from tailrace.operation import StreamKey

_LAST_CODE_POINT: Final = 0x10FFFF
_SURROGATES: Final = range(0xD800, 0xE000)


class SortedNames:
    """Written by the committing thread, read by any. Code point order is the order of UTF-8."""

    def __init__(self, catalog: Catalog) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[str, SortedSet[str]] = {}
        names: dict[str, list[str]] = {}
        for key in catalog.names:
            names.setdefault(key.bucket, []).append(key.stream)
        for bucket, streams in names.items():
            self._buckets[bucket] = SortedSet(streams)

    def install(self, change: Change) -> None:
        """Follow a change of the catalog."""
        if not change.names:
            return
        with self._lock:
            for key, stream_id in change.names:
                self._set(key, present=stream_id is not None)

    def _set(self, key: StreamKey, *, present: bool) -> None:
        names = self._buckets.get(key.bucket)
        if names is None:
            names = self._buckets[key.bucket] = SortedSet()
        if present:
            names.add(key.stream)
        else:
            names.discard(key.stream)

    def page(
        self, bucket: str, prefix: str, after: str | None, count: int, *, descending: bool
    ) -> list[str]:
        """At most ``count`` names that begin with ``prefix`` and follow ``after``, in order."""
        low, high = prefix, _successor(prefix)
        inclusive = (True, False)
        if after is not None and descending and (high is None or after < high):
            high = after
        elif after is not None and not descending and after >= low:
            low, inclusive = after, (False, False)
        if high is not None and high <= low:
            return []
        with self._lock:
            names = self._buckets.get(bucket)
            if names is None:
                return []
            return list(islice(names.irange(low, high, inclusive, descending), count))


def _successor(prefix: str) -> str | None:
    """The least string above all that begin with ``prefix``; None if there is none."""
    while prefix:
        point = ord(prefix[-1]) + 1
        if point in _SURROGATES:
            point = _SURROGATES.stop
        if point <= _LAST_CODE_POINT:
            return prefix[:-1] + chr(point)
        prefix = prefix[:-1]
    return None
