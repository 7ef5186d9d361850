"""What a caller of the store reads: a stream found by its name, checked, renewed and read.

The docstrings are those of :class:`tailrace.store.Store`, whose methods have the same names.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tailrace import limits, validate
from tailrace.core import Core
from tailrace.errors import Rejected, StoreClosed
from tailrace.operation import StreamKey
from tailrace.outcome import Rejection
from tailrace.plan import live_stream
from tailrace.read_result import ReadPieces, ReadResult
from tailrace.scope import scope_of
from tailrace.snapshot import SnapshotReader, open_visible
from tailrace.stream import StreamState, is_expired
from tailrace.touch import Toucher
from tailrace.views import SearchResult

Key = StreamKey | tuple[str, str]


class Reads:
    """Safe from any thread. All that is seen is durable."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._toucher = Toucher(core.committer)

    def state(self, key: Key) -> StreamState:
        """A stream as it is. Renews nothing. Raises Rejected, StoreClosed."""
        core = self._core
        if core.closed:
            raise StoreClosed("the store is closed")
        named = key if type(key) is StreamKey else validate.named(key)
        try:
            found = live_stream(core.durable, named, core.now_ms())
        except TypeError:  # of what is no string there may be no hash
            validate.named(key)
            raise
        if isinstance(found, Rejection):
            raise Rejected(found)
        return found

    def version(self, key: Key) -> object | None:
        """A state is a value, and each change makes another one."""
        core = self._core
        state = None if core.closed else core.durable.find(validate.named(key))
        if state is None or state.deleted or state.config.ends_with_time:
            return None
        return state

    def read(
        self, key: Key, ordinal: int, stop: int | None, max_bytes: int, max_records: int | None
    ) -> ReadResult:
        state = self._readable(key, ordinal, max_bytes, stop, max_records)
        return self._core.reader.read(state, ordinal, stop, max_bytes, max_records)

    def read_near(
        self, key: Key, ordinal: int, max_bytes: int, max_records: int | None
    ) -> ReadResult | None:
        state = self._readable(key, ordinal, max_bytes, None, max_records)
        if not self._is_near(state, ordinal):
            return None
        return self._core.reader.read(state, ordinal, None, max_bytes, max_records)

    def read_pieces(self, key: Key, ordinal: int, max_bytes: int) -> ReadPieces:
        state = self._readable(key, ordinal, max_bytes)
        return self._core.reader.read_pieces(state, ordinal, max_bytes)

    def pieces_near(self, key: Key, ordinal: int, max_bytes: int) -> ReadPieces | None:
        state = self._readable(key, ordinal, max_bytes)
        trusting = self._is_near(state, ordinal)
        return self._core.reader.pieces_near(state, ordinal, max_bytes, trusting=trusting)

    def pieces_small(
        self, asked: Sequence[tuple[StreamKey, int]], max_bytes: int
    ) -> list[ReadPieces | None]:
        core = self._core
        if core.closed:
            return [None] * len(asked)
        newest = core.log.segment_at(core.committer.durable_position)
        return core.small_reads.read(asked, max_bytes, newest)

    def _readable(
        self,
        key: Key,
        ordinal: int,
        max_bytes: int,
        stop: int | None = None,
        max_records: int | None = None,
    ) -> StreamState:
        validate.read_bounds(ordinal, max_bytes, stop, max_records)
        state = self.state(key)
        if state.config.ttl_ms is not None:
            self._toucher.touch(state, self._core.now_ms())
        return state

    def is_resident(self, key: Key, ordinal: int) -> bool:
        validate.not_negative("ordinal", ordinal)
        return self._is_near(self.state(key), ordinal)

    def _is_near(self, state: StreamState, ordinal: int) -> bool:
        core = self._core
        newest = core.log.segment_at(core.committer.durable_position)
        return core.reader.is_resident(state, ordinal, newest)

    def open_snapshot(self, key: Key, ordinal: int | None) -> SnapshotReader:
        if ordinal is not None:
            validate.ordinal("ordinal", ordinal)
        self._toucher.touch(self.state(key), self._core.now_ms())
        return open_visible(self._core.storage, lambda: self.state(key), ordinal)

    def wait(self, key: Key, ordinal: int, timeout_s: float) -> bool:
        validate.not_negative("ordinal", ordinal)
        timeout_s = validate.seconds("timeout_s", timeout_s)
        core, state = self._core, self.state(key)
        self._toucher.touch(state, core.now_ms())
        stream_id = state.config.stream_id

        def is_over() -> bool:
            now = core.durable.streams.get(stream_id)
            if now is None or now.deleted or now.closed or now.tail > ordinal:
                return True
            return core.closed or is_expired(now, core.now_ms())

        return core.waiters.wait_until(stream_id, is_over, timeout_s)

    def search(
        self,
        query: str,
        keys: Sequence[Key] | None,
        bucket: str | None,
        types: Collection[str],
        limit: int,
        created: tuple[int | None, int | None],
        *,
        count_streams: bool,
    ) -> SearchResult:
        """``created``: the bounds of the time, from (inclusive) and until (exclusive)."""
        core = self._core
        validate.page("limit", limit, limits.SEARCH_LIMIT_MAX)
        validate.words("query", (query,))
        validate.words("types", types)
        validate.time_range(*created)
        if bucket is not None:
            validate.words("bucket", (bucket,))
        if keys is not None:
            validate.sequence("keys", keys)
        wanted = None if keys is None else [validate.named(key) for key in keys]
        if core.closed:
            raise StoreClosed("the store is closed")
        core.indexer.catch_up(core.committer.durable_position)
        scope = scope_of(core.durable, core.indexer.searchable, wanted, bucket, core.now_ms())
        found = core.indexer.index.search(
            query,
            scope=scope.items,
            types=types,
            limit=limit,
            created_from_ms=created[0],
            created_until_ms=created[1],
            count_streams=count_streams,
        )
        # Asked for after the search: it knows of each hole that the search did not see into.
        return scope.named(found, core.indexer.index.holes, core.log.segment_bytes)
