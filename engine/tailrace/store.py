"""The public class: everything wired together."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from types import TracebackType

from tailrace import filenames, limits
from tailrace.batch import Batch, Kind
from tailrace.catalog import Change
from tailrace.commit import Committer, Publish
from tailrace.decide import Partial, live_stream
from tailrace.errors import InvalidArgument, Rejected, StoreClosed, TailraceError
from tailrace.indexer import Indexer
from tailrace.operation import (
    Append,
    Create,
    CreateBucket,
    Delete,
    DeleteBucket,
    ForkPoint,
    Operation,
    Producer,
    Records,
    SetMetadata,
    StreamKey,
    StreamOptions,
    Touch,
    Trim,
)
from tailrace.options import Options
from tailrace.outcome import Appended, Created, Deleted, Outcome, Reason, Rejection, Updated
from tailrace.reader import Reader, ReadResult
from tailrace.recovery import recover
from tailrace.scope import scope_of_bucket, scope_of_streams
from tailrace.search.index import SearchIndex
from tailrace.sorted_names import SortedNames
from tailrace.storage import OsStorage, Storage
from tailrace.stream import StreamState, is_expired, needs_touch
from tailrace.ticket import Group, Ticket
from tailrace.upkeep import Upkeep
from tailrace.views import BucketInfo, Head, Hit, SearchResult, StreamPage, head_of
from tailrace.waiters import Waiters

_logger = logging.getLogger("tailrace")

Key = StreamKey | tuple[str, str]


def wall_clock_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class Store:
    """An open data directory. Every method may be called from any thread.

    Get one from :func:`tailrace.open`. Writes return when they are durable; reads see
    durable records only and never wait for a writer.
    """

    on_group: Callable[[Group], None] | None
    """Called once per durable group, on the committing thread: must be quick and not raise."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        options: Options = Options(),
        storage: Storage | None = None,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self.on_group = None
        self._now_ms = now_ms or wall_clock_ms
        self._options = options
        self._closed = False
        self._close_lock = threading.Lock()
        self._storage = storage or OsStorage(directory)
        self._storage.lock()
        try:
            self._open(options)
        except BaseException:
            self._storage.close()
            raise

    def _open(self, options: Options) -> None:
        recovered = recover(self._storage, options.segment_bytes)
        self._log = recovered.log
        self._durable = recovered.catalog
        self._names = SortedNames(self._durable)
        self._waiters = Waiters()
        self._reader = Reader(self._log, self._durable)
        self._touching: set[int] = set()
        batch_bytes_max = min(
            limits.BATCH_BYTES_MAX,
            self._log.segment_bytes - limits.SEGMENT_HEADER_BYTES - limits.SEAL_BYTES,
        )
        self._committer = Committer(
            self._log,
            self._durable.copy(),
            recovered.position,
            self._now_ms,
            batch_bytes_max=batch_bytes_max,
            staged_bytes_max=options.staged_bytes_max,
            mark_idle_s=options.mark_idle_s,
            publish=self._publish,
            on_group=self._on_group,
            background=options.background,
        )
        index = SearchIndex.open(self._storage, filenames.SEARCH_DIRECTORY)
        self._indexer = Indexer(
            index,
            self._log,
            self._durable,
            lambda: self._committer.durable_position,
            options.index_lag_bytes_max,
        )
        self._upkeep = Upkeep(
            self._storage,
            recovered.live,
            self._log,
            self._durable,
            self._committer,
            self._now_ms,
            checkpoint=recovered.checkpoint,
            checkpoint_every_bytes=options.checkpoint_every_bytes,
            sweep_s=options.expiry_sweep_s,
            extra=self._indexer.upkeep,
        )
        self._indexer.reconcile()
        self._committer.start()
        if options.background:
            self._indexer.start()
            self._upkeep.start()
            self._indexer.poke(recovered.position)

    # --- lifetime

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Make everything staged durable, write a checkpoint, give up the directory.

        Later calls do nothing. Reads in progress in other threads end as they were.
        """
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
            self._waiters.wake_all()
            try:
                self._upkeep.stop()
                self._committer.close()
                self._indexer.stop()
                if self._committer.poison is None:
                    self._upkeep.run_once()
                    self._upkeep.checkpoint()
                    self._indexer.close()
                else:
                    self._indexer.index.abandon()
            except OSError:
                # All that was acknowledged is durable: the next start only has more to replay.
                _logger.exception("the store could not be closed tidily")
            finally:
                self._log.close()
                self._storage.close()

    # --- writes

    def submit(
        self,
        operations: Sequence[Operation],
        on_done: Callable[[Ticket], None] | None = None,
        context: object = None,
    ) -> list[Ticket]:
        """Stage operations, in order, under one lock; returns at once with a ticket for each.

        ``on_done`` is called for each ticket on the committing thread (or on this one, if the
        answer reveals only what is durable already): it must be quick, must not raise and must
        not call the store. Each operation stands for itself; they share a group, not a fate.

        Raises Overloaded, StoreClosed, LogPoisoned or InvalidArgument; then nothing was staged.
        """
        partial = None
        if len(operations) == 1:
            partial = self._partial(operations[0])
        tickets = self._committer.submit(operations, on_done, context, partial)
        if not self._options.background:
            self._upkeep.run_due()
        return tickets

    def perform(self, operation: Operation, timeout_s: float | None = None) -> Outcome:
        """Do one operation; the outcome, a rejection included, once it is durable.

        Raises as :meth:`submit`, and TimeoutError: then the operation may still become durable.
        """
        partial = self._partial(operation)
        lead = self._options.background
        ticket = self._committer.submit([operation], None, None, partial, lead=lead)[0]
        if lead:
            self._committer.lead(ticket)
        else:
            self._upkeep.run_due()
        return ticket.wait(timeout_s)

    def _partial(self, operation: Operation) -> Partial | None:
        """The source record that a fork with a byte sub-offset cuts."""
        if not isinstance(operation, Create) or operation.fork is None:
            return None
        fork = operation.fork
        source = self._durable.find(fork.source)
        if fork.ordinal is None or fork.sub_offset <= 0 or source is None:
            return None
        if source.config.is_json or not source.start <= fork.ordinal < source.tail:
            return None
        result = self._reader.read(source, fork.ordinal, None, 1, 1)
        return Partial(source.config.stream_id, fork.ordinal, bytes(result.payload))

    def create_bucket(self, bucket: str) -> None:
        """Create a bucket; Rejected if it exists."""
        self._do(CreateBucket(bucket))

    def delete_bucket(self, bucket: str) -> None:
        """Delete a bucket that holds no stream; Rejected otherwise."""
        self._do(DeleteBucket(bucket))

    def create(
        self,
        key: Key,
        *,
        content_type: str | None = None,
        ttl_ms: int | None = None,
        expires_at_ms: int | None = None,
        searchable: bool = False,
        metadata: bytes = b"",
        records: Records = (),
        closed: bool = False,
    ) -> Created:
        """Create a stream, with first records if given, or confirm one just like it."""
        options = StreamOptions(content_type, ttl_ms, expires_at_ms, searchable, metadata)
        outcome = self._do(Create(StreamKey(*key), options, records, closed))
        assert isinstance(outcome, Created)
        return outcome

    def append(
        self,
        key: Key,
        records: Records,
        *,
        content_type: str | None = None,
        producer: Producer | None = None,
        stream_seq: str | None = None,
        close: bool = False,
        expected_ordinal: int | None = None,
        create: StreamOptions | None = None,
    ) -> Appended:
        """Append records as one unit; see :class:`tailrace.operation.Append`."""
        operation = Append(
            StreamKey(*key),
            records,
            content_type,
            close,
            producer,
            stream_seq,
            expected_ordinal,
            create,
        )
        outcome = self._do(operation)
        assert isinstance(outcome, Appended)
        return outcome

    def close_stream(self, key: Key) -> Appended:
        """Close a stream for good; closing it again is fine."""
        outcome = self._do(Append(StreamKey(*key), close=True))
        assert isinstance(outcome, Appended)
        return outcome

    def delete(self, key: Key) -> Deleted:
        """Delete a stream. While forks read through it, its data stays and its name is blocked."""
        outcome = self._do(Delete(StreamKey(*key)))
        assert isinstance(outcome, Deleted)
        return outcome

    def fork(
        self,
        key: Key,
        source: Key,
        *,
        ordinal: int | None = None,
        sub_offset: int = 0,
        options: StreamOptions = StreamOptions(),
        records: Records = (),
        closed: bool = False,
    ) -> Created:
        """Create ``key`` as a fork of ``source`` at ``ordinal`` (None: its tail)."""
        point = ForkPoint(StreamKey(*source), ordinal, sub_offset)
        outcome = self._do(Create(StreamKey(*key), options, records, closed, point))
        assert isinstance(outcome, Created)
        return outcome

    def set_metadata(self, key: Key, metadata: bytes) -> Updated:
        """Replace a stream's metadata."""
        outcome = self._do(SetMetadata(StreamKey(*key), metadata))
        assert isinstance(outcome, Updated)
        return outcome

    def trim(self, key: Key, ordinal: int) -> Updated:
        """Drop the records before ``ordinal``."""
        outcome = self._do(Trim(StreamKey(*key), ordinal))
        assert isinstance(outcome, Updated)
        return outcome

    def _do(self, operation: Operation) -> Outcome:
        outcome = self.perform(operation)
        if isinstance(outcome, Rejection):
            raise Rejected(outcome)
        return outcome

    # --- what the committer calls

    def _publish(self, publish: Publish) -> set[int]:
        """Make a durable group visible; the ids of the streams it changed."""
        changed: set[int] = set()
        durable, note = self._durable, self._log.note
        for entry in publish.entries:
            batch, change = entry.batch, entry.change
            if batch is None:
                continue
            if batch.ends:
                note(batch.stream_id, batch.base_ordinal, len(batch.ends), entry.position)
            durable.install(change)
            changed.add(batch.stream_id)
            if batch.kind != Kind.APPEND:
                self._publish_rare(batch, change, changed)
        changed.discard(0)
        self._upkeep.poke(publish.end)
        self._indexer.poke(publish.end)
        return changed

    def _publish_rare(self, batch: Batch, change: Change, changed: set[int]) -> None:
        self._names.install(change)
        for stream_id in change.removed:
            changed.add(stream_id)
            self._log.extents.remove(stream_id)
            self._indexer.removed(stream_id)
            self._upkeep.reclaimable = True
        if batch.kind == Kind.CREATE:
            self._indexer.created(self._durable.streams[batch.stream_id])
        elif batch.kind == Kind.TRIM:
            state = change.streams[0]
            self._indexer.trimmed(batch.stream_id, state.start)
            if state.forks == 0:
                self._log.extents.trim(batch.stream_id, state.start)
                self._upkeep.reclaimable = True

    def _on_group(self, group: Group) -> None:
        if group.stream_ids:
            self._waiters.wake(group.stream_ids)
        if self.on_group is not None:
            self.on_group(group)

    # --- reads

    def _state(self, key: Key) -> StreamState:
        if self._closed:
            raise StoreClosed("the store is closed")
        found = live_stream(self._durable, StreamKey(*key), self._now_ms())
        if isinstance(found, Rejection):
            raise Rejected(found)
        return found

    def head(self, key: Key) -> Head:
        """A stream's metadata; does not renew its TTL. Rejected if there is no such stream."""
        return head_of(self._state(key))

    def read(
        self,
        key: Key,
        ordinal: int,
        *,
        max_bytes: int = limits.READ_BYTES_DEFAULT,
        max_records: int | None = None,
        stop: int | None = None,
    ) -> ReadResult:
        """The stream's records from ``ordinal`` on (to ``stop``, exclusive), checksums verified.

        At most ``max_bytes`` and ``max_records``, but one record at least if there is any.
        From the tail on the result is empty. Renews a sliding TTL.

        Raises Rejected (no such stream; trimmed), Corrupted, InvalidArgument.
        """
        if not 0 < max_bytes <= limits.READ_BYTES_MAX:
            raise InvalidArgument("max_bytes", f"must be from 1 to {limits.READ_BYTES_MAX}")
        if ordinal < 0:
            raise InvalidArgument("ordinal", "must not be negative")
        state = self._state(key)
        self._touch(state)
        records = limits.ORDINAL_MAX if max_records is None else max_records
        return self._reader.read(state, ordinal, stop, max_bytes, records)

    def is_resident(self, key: Key, ordinal: int) -> bool:
        """Whether a read there touches only the newest segments, so that it need not wait."""
        newest = self._log.segment_at(self._committer.durable_position)
        return self._reader.is_resident(self._state(key), ordinal, newest)

    def wait(self, key: Key, ordinal: int, timeout_s: float) -> bool:
        """Block until there is a record at ``ordinal``, or the stream is closed or gone.

        False if ``timeout_s`` went by first. Rejected if there is no such stream to begin with.
        """
        state = self._state(key)
        self._touch(state)
        stream_id = state.config.stream_id
        deadline = time.monotonic() + timeout_s
        while True:
            event = self._waiters.add(stream_id)
            try:
                current = self._durable.streams.get(stream_id)
                if current is None or current.deleted or current.closed or current.tail > ordinal:
                    return True
                if is_expired(current, self._now_ms()) or self._closed:
                    return True
                if not event.wait(max(0.0, deadline - time.monotonic())):
                    return False
            finally:
                self._waiters.remove(stream_id, event)

    def _touch(self, state: StreamState) -> None:
        """Renew a sliding TTL, without waiting for it."""
        if not needs_touch(state, self._now_ms()):
            return
        stream_id = state.config.stream_id
        if stream_id in self._touching or self._committer.poison is not None:
            return
        self._touching.add(stream_id)
        try:
            self._committer.submit([Touch(state.config.key)], self._touched, stream_id)
        except TailraceError:
            # The read is still good; the next one tries again.
            self._touching.discard(stream_id)

    def _touched(self, ticket: Ticket) -> None:
        assert isinstance(ticket.context, int)
        self._touching.discard(ticket.context)

    def bucket(self, bucket: str) -> BucketInfo:
        """Rejected if there is no such bucket."""
        state = self._durable.buckets.get(bucket)
        if state is None:
            raise Rejected(Rejection(Reason.BUCKET_NOT_FOUND, f"bucket {bucket} does not exist"))
        return BucketInfo(*state)

    def list_streams(
        self,
        bucket: str,
        *,
        prefix: str = "",
        after: str | None = None,
        limit: int = limits.LIST_LIMIT_MAX,
        descending: bool = False,
    ) -> StreamPage:
        """Streams of a bucket in the order of their names (of their UTF-8), or backwards.

        ``after`` is the last name of the page before, in the direction of the listing.
        """
        if not 0 < limit <= limits.LIST_LIMIT_MAX:
            raise InvalidArgument("limit", f"must be from 1 to {limits.LIST_LIMIT_MAX}")
        self.bucket(bucket)
        now_ms = self._now_ms()
        heads: list[Head] = []
        while True:
            names = self._names.page(bucket, prefix, after, limit + 1, descending=descending)
            for name in names:
                found = live_stream(self._durable, StreamKey(bucket, name), now_ms)
                if isinstance(found, Rejection):
                    continue
                if len(heads) == limit:
                    return StreamPage(heads, has_more=True)
                heads.append(head_of(found))
            if len(names) <= limit:
                return StreamPage(heads, has_more=False)
            after = names[-1]

    # --- search

    def search(
        self,
        query: str,
        keys: Sequence[Key] | None = None,
        *,
        bucket: str | None = None,
        types: Collection[str] = (),
        limit: int = 20,
        created_from_ms: int | None = None,
        created_until_ms: int | None = None,
        count_streams: bool = False,
    ) -> SearchResult:
        """The best records for ``query`` by BM25, among the searchable streams ``keys``.

        ``keys`` None means every one in ``bucket`` (None: in the store). The statistics that
        weigh a word are those of the streams searched; ``types`` and the times (from inclusive,
        until exclusive) only filter. Every record acknowledged before the call is considered.
        Streams that do not exist or are not searchable have no hits; no query is an error.
        """
        if not 0 < limit <= limits.SEARCH_LIMIT_MAX:
            raise InvalidArgument("limit", f"must be from 1 to {limits.SEARCH_LIMIT_MAX}")
        if self._closed:
            raise StoreClosed("the store is closed")
        self._indexer.catch_up(self._committer.durable_position)
        now_ms = self._now_ms()
        if keys is None:
            scope = scope_of_bucket(self._durable, self._indexer.searchable, bucket, now_ms)
        else:
            wanted = [StreamKey(*key) for key in keys]
            scope = scope_of_streams(self._durable, wanted, now_ms)
        found = self._indexer.index.search(
            query,
            scope=scope.items,
            types=types,
            limit=limit,
            created_from_ms=created_from_ms,
            created_until_ms=created_until_ms,
            count_streams=count_streams,
        )
        hits = [
            Hit(key, hit.ordinal, hit.score)
            for hit in found.hits
            if (key := scope.key_of(hit.stream_id)) is not None
        ]
        per_stream: dict[StreamKey, int] = {}
        for stream_id, count in found.per_stream.items():
            if (key := scope.key_of(stream_id)) is not None:
                per_stream[key] = per_stream.get(key, 0) + count
        return SearchResult(hits, found.total, per_stream)

    def counters(self) -> dict[str, int]:
        """Numbers for monitoring, since this store was opened."""
        committer = self._committer
        return {
            "groups": committer.groups,
            "batches": committer.batches,
            "bytes_written": committer.bytes_written,
            "staged_bytes": committer.staged_bytes,
            "durable_position": committer.durable_position,
            "indexed_position": self._indexer.index.indexed_position,
            "streams": len(self._durable.streams),
            "buckets": len(self._durable.buckets),
            "segments": len(self._log.segments),
            "checkpoints": self._upkeep.checkpoints,
            "poisoned": int(committer.poison is not None),
        }
