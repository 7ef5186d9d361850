"""The durable stream names of each bucket in two orders, for listing: by name, by creation."""

from __future__ import annotations

import threading
from itertools import islice
from typing import Final, NamedTuple

from sortedcontainers import SortedDict, SortedList

from tailrace.catalog import Catalog, Change

_LAST_CODE_POINT: Final = 0x10FFFF
_SURROGATES: Final = range(0xD800, 0xE000)


class CreationPlace(NamedTuple):
    """Where a stream stands in the order of creation."""

    created_at_ms: int
    name: str


class _Bucket:
    """The names of a bucket with their times of creation, by name and by time."""

    __slots__ = ("by_creation", "created")

    def __init__(self, created: dict[str, int]) -> None:
        self.created: SortedDict[str, int] = SortedDict(created)
        places = (CreationPlace(at_ms, name) for name, at_ms in created.items())
        self.by_creation: SortedList[CreationPlace] = SortedList(places)

    def remove(self, name: str) -> None:
        created_at_ms = self.created.pop(name, None)
        if created_at_ms is not None:
            self.by_creation.remove(CreationPlace(created_at_ms, name))

    def add(self, name: str, created_at_ms: int) -> None:
        self.remove(name)
        self.created[name] = created_at_ms
        self.by_creation.add(CreationPlace(created_at_ms, name))


class SortedNames:
    """Written by the committing thread, read by any. Code point order is the order of UTF-8."""

    def __init__(self, catalog: Catalog) -> None:
        self._lock = threading.Lock()
        created: dict[str, dict[str, int]] = {}
        for key, stream_id in catalog.names.items():
            created_at_ms = catalog.streams[stream_id].config.created_at_ms
            created.setdefault(key.bucket, {})[key.stream] = created_at_ms
        self._buckets = {bucket: _Bucket(streams) for bucket, streams in created.items()}

    def install(self, change: Change) -> None:
        """Follow a change of the catalog."""
        if not change.names:
            return
        configs = {state.config.stream_id: state.config for state in change.streams}
        with self._lock:
            for key, stream_id in change.names:
                bucket = self._buckets.get(key.bucket)
                if bucket is None:
                    bucket = self._buckets[key.bucket] = _Bucket({})
                if stream_id is None:
                    bucket.remove(key.stream)
                else:
                    bucket.add(key.stream, configs[stream_id].created_at_ms)

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
            return list(islice(names.created.irange(low, high, inclusive, descending), count))

    def created_page(
        self,
        bucket: str,
        after: CreationPlace | None,
        created: tuple[int | None, int | None],
        count: int,
        *,
        descending: bool,
    ) -> list[CreationPlace]:
        """At most ``count`` places that follow ``after``, by time, then name.

        ``created`` bounds the times, from inclusive, until exclusive; None: no bound.
        """
        from_ms, until_ms = created
        low = None if from_ms is None else CreationPlace(from_ms, "")
        high = None if until_ms is None else CreationPlace(until_ms, "")
        if after is not None and descending:
            high = after if high is None else min(after, high)
        elif after is not None:
            low = after if low is None else max(after, low)
        if low is not None and high is not None and low >= high:
            return []
        with self._lock:
            names = self._buckets.get(bucket)
            if names is None:
                return []
            # A bound's name is empty, as no stream's is: so it may be left out at either end.
            found = names.by_creation.irange(low, high, (False, False), descending)
            return list(islice(found, count))


def _successor(prefix: str) -> str | None:
    """The least string greater than all that begin with ``prefix``; None if there is none."""
    while prefix:
        point = ord(prefix[-1]) + 1
        if point in _SURROGATES:
            point = _SURROGATES.stop
        if point <= _LAST_CODE_POINT:
            return prefix[:-1] + chr(point)
        prefix = prefix[:-1]
    return None
