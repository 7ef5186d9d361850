"""Stream names → the ranges of the search index that stand for them.

A fork's inherited records are indexed once, under its source: its scope is the source's
range below the fork point and its own from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tailrace import filenames
from tailrace.catalog import Catalog
from tailrace.limits import ORDINAL_MAX
from tailrace.operation import StreamKey
from tailrace.search.hits import ScopeItem, SearchHits
from tailrace.search.part_list import Hole
from tailrace.stream import StreamState, is_expired
from tailrace.views import DamagedRange, Hit, SearchResult


class Scope:
    """What to search (``items``; None: the whole index), and which stream each hit belongs to."""

    def __init__(
        self, catalog: Catalog, items: Sequence[ScopeItem] | None, keys: dict[int, StreamKey]
    ) -> None:
        self._catalog = catalog
        self._keys = keys
        self.items = items

    def key_of(self, stream_id: int) -> StreamKey | None:
        """The searched stream that a hit under ``stream_id`` belongs to; None if just deleted."""
        key = self._keys.get(stream_id)
        if key is not None:
            return key
        state = self._catalog.streams.get(stream_id)
        return None if state is None or state.deleted else state.config.key

    def named(self, found: SearchHits, holes: Sequence[Hole], segment_bytes: int) -> SearchResult:
        """What the index found, and what of the scope is in ``holes``, with streams' names."""
        hits = [
            Hit(key, hit.ordinal, hit.score)
            for hit in found.hits
            if (key := self.key_of(hit.stream_id)) is not None
        ]
        per_stream: dict[StreamKey, int] = {}
        for stream_id, count in found.per_stream.items():
            if (key := self.key_of(stream_id)) is not None:
                per_stream[key] = per_stream.get(key, 0) + count
        damaged = [part for hole in holes for part in self._damaged(hole, segment_bytes)]
        return SearchResult(hits, found.total, per_stream, damaged)

    def _damaged(self, hole: Hole, segment_bytes: int) -> Iterator[DamagedRange]:
        searched = None if self.items is None else {item.stream_id: item for item in self.items}
        file = filenames.segment(hole.position // segment_bytes)
        for stream_id, first, stop in hole.lost:
            if searched is not None:
                item = searched.get(stream_id)
                if item is None:
                    continue
                first, stop = max(first, item.start_ordinal), min(stop, item.stop_ordinal)
            key = self.key_of(stream_id)
            if first < stop and key is not None:
                yield DamagedRange(key, first, stop, file, hole.position)


def scope_of(
    catalog: Catalog,
    searchable: set[int],
    keys: Iterable[StreamKey] | None,
    bucket: str | None,
    now_ms: int,
) -> Scope:
    """The scope of the streams that exist among ``keys``.

    None: of every searchable stream of ``bucket`` (None: of the store).
    """
    if keys is None:
        return _scope_of_bucket(catalog, searchable, bucket, now_ms)
    states = (catalog.find(key) for key in dict.fromkeys(keys))
    return _scope(catalog, [s for s in states if s is not None and _is_live(s, now_ms)])


def _scope_of_bucket(
    catalog: Catalog, searchable: set[int], bucket: str | None, now_ms: int
) -> Scope:
    states: list[StreamState] = []
    whole = True
    for stream_id in list(searchable):
        state = catalog.streams.get(stream_id)
        if (
            state is None
            or not _is_live(state, now_ms)
            or (bucket is not None and state.config.key.bucket != bucket)
        ):
            whole = False
            continue
        if state.start or state.config.source_id is not None:
            whole = False
        states.append(state)
    return Scope(catalog, None, {}) if whole else _scope(catalog, states)


def _is_live(state: StreamState, now_ms: int) -> bool:
    return not state.deleted and not is_expired(state, now_ms)


def _scope(catalog: Catalog, states: list[StreamState]) -> Scope:
    ranges: dict[int, tuple[int, int]] = {}
    keys: dict[int, StreamKey] = {state.config.stream_id: state.config.key for state in states}
    for state in states:
        key, start, stop = state.config.key, state.start, ORDINAL_MAX
        owner: StreamState | None = state
        while owner is not None:
            stream_id, base = owner.config.stream_id, owner.config.base
            low, high = ranges.get(stream_id, (max(start, base), stop))
            ranges[stream_id] = (min(low, max(start, base)), max(high, stop))
            keys.setdefault(stream_id, key)
            if start >= base or owner.config.source_id is None:
                break
            stop = min(stop, base)
            owner = catalog.streams.get(owner.config.source_id)
    items = [ScopeItem(stream_id, *bounds) for stream_id, bounds in ranges.items()]
    return Scope(catalog, items, keys)
