"""The public class: what can be done with an open store, and what each thing promises."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from types import TracebackType

from tailrace import limits, validate
from tailrace.core import open_core, wall_clock_ms
from tailrace.manifest import need_store
from tailrace.operation import (
    Append,
    Create,
    Delete,
    DeleteBucket,
    ForkPoint,
    Operation,
    Producer,
    Records,
    SetMetadata,
    StreamKey,
    StreamOptions,
    Trim,
)
from tailrace.options import Options
from tailrace.outcome import Appended, BucketDone, Created, Deleted, Outcome, Updated
from tailrace.read_result import ReadPieces, ReadResult
from tailrace.reads import Key, Reads
from tailrace.rows import Rows
from tailrace.snapshot import SnapshotReader, SnapshotWriter
from tailrace.storage import OsStorage, Storage
from tailrace.stream import DEFAULT_CONTENT_TYPE
from tailrace.ticket import Group, RowsTaken, Ticket
from tailrace.views import BucketInfo, Head, SearchResult, StreamPage, head_of
from tailrace.writes import Writes


class Store:
    """An open data directory. Every method may be called from any thread.

    Get one from :func:`tailrace.open`. Writes return when they are durable; reads see
    durable records only and never wait for a writer.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        options: Options = Options(),
        storage: Storage | None = None,
        now_ms: Callable[[], int] | None = None,
        must_exist: bool = False,
    ) -> None:
        """Make the store if it is not there; ``must_exist``: raise :class:`NoStore` instead."""
        storage = storage or OsStorage(directory, create=not must_exist)
        if must_exist:
            need_store(storage)
        self._core = open_core(storage, options, now_ms or wall_clock_ms)
        self._reads = Reads(self._core)
        self._writes = Writes(self._core, self._reads, background=options.background)

    @property
    def on_group(self) -> Callable[[Group], None] | None:
        """Called once per durable group, on the committing thread: must be quick and not raise."""
        return self._core.on_group

    @on_group.setter
    def on_group(self, callback: Callable[[Group], None] | None) -> None:
        self._core.on_group = callback

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
        self._core.close()

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
        return self._writes.submit(operations, on_done, context)

    def submit_each(
        self,
        operations: Sequence[Operation],
        contexts: Sequence[object],
        *,
        patience_s: float = 0.0,
    ) -> list[Ticket]:
        """As :meth:`submit`, for operations of many callers: each ticket has its own context.

        An operation that is invalid fails its own ticket (whose ``error`` is InvalidArgument)
        and no other. Tickets are told to :attr:`on_group` alone.

        The committer thread sees to the sync; but if it sleeps, and a sync took less than
        ``patience_s`` of late, this call does it, which spares a lone caller two hops
        between threads.

        Raises Overloaded, StoreClosed, LogPoisoned, or InvalidArgument if there are not as many
        contexts as operations; then nothing was staged.
        """
        return self._writes.submit_each(operations, contexts, patience_s)

    def submit_rows(self, rows: Rows, context: object, *, patience_s: float = 0.0) -> RowsTaken:
        """As :meth:`submit_each`, for plain appends of many callers put together in groups.

        The result is that of the appends one after the other, but all of a group are one batch of
        the log, and :attr:`on_group` is told of one ticket, with ``context``, for all of them.
        These are left, for the caller to submit one by one: appends to a stream that is not
        there, is closed or may expire, or has (to the letter) another content type; those of a
        producer that is not known in its epoch, or whose number is not the next one; and all of
        them if the log's segment, or a batch, might not hold them.

        Raises Overloaded, StoreClosed, LogPoisoned, or InvalidArgument for columns that do not
        fit together; then nothing was staged.
        """
        return self._writes.submit_rows(rows, context, patience_s)

    def perform(self, operation: Operation, timeout_s: float | None = None) -> Outcome:
        """Do one operation; the outcome, a rejection included, once it is durable.

        Raises as :meth:`submit`, and TimeoutError: then the operation may still become durable.
        A ``timeout_s`` below 0 is 0.
        """
        return self._writes.perform(operation, timeout_s)

    def create_bucket(self, bucket: str, *, exist_ok: bool = False) -> None:
        """Create a bucket. Rejected if it exists, unless that is ``exist_ok``."""
        self._writes.create_bucket(bucket, exist_ok=exist_ok)

    def delete_bucket(self, bucket: str) -> None:
        """Delete a bucket that holds no stream; Rejected otherwise."""
        self._writes.do(DeleteBucket(bucket), BucketDone)

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
        return self._writes.do(Create(validate.named(key), options, records, closed), Created)

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
        expected_stream_id: int | None = None,
    ) -> Appended:
        """Append records as one unit; see :class:`tailrace.operation.Append`."""
        named = key if type(key) is StreamKey else validate.named(key)
        rest = stream_seq, expected_ordinal, create, expected_stream_id
        operation = Append(named, records, content_type, close, producer, *rest)
        return self._writes.do(operation, Appended)

    def close_stream(self, key: Key) -> Appended:
        """Close a stream for good; closing it again is fine."""
        return self._writes.do(Append(validate.named(key), close=True), Appended)

    def delete(self, key: Key) -> Deleted:
        """Delete a stream. While forks read through it, its data stays and its name is blocked."""
        return self._writes.do(Delete(validate.named(key)), Deleted)

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
        point = ForkPoint(validate.named(source), ordinal, sub_offset)
        return self._writes.do(
            Create(validate.named(key), options, records, closed, point), Created
        )

    def set_metadata(self, key: Key, metadata: bytes) -> Updated:
        """Replace a stream's metadata."""
        return self._writes.do(SetMetadata(validate.named(key), metadata), Updated)

    def trim(self, key: Key, ordinal: int) -> Updated:
        """Drop the records before ``ordinal``; see :class:`tailrace.operation.Trim`."""
        return self._writes.do(Trim(validate.named(key), ordinal), Updated)

    def begin_snapshot(
        self,
        key: Key,
        ordinal: int,
        *,
        content_type: str = DEFAULT_CONTENT_TYPE,
        match: bytes | None = None,
    ) -> SnapshotWriter:
        """Begin to write a folding of the records before ``ordinal``; see SnapshotWriter.

        ``match`` is the digest that the visible one must have. Raises at once what is certain
        whatever the bytes will be: Rejected, InvalidArgument, Overloaded, LogPoisoned.
        """
        return self._writes.begin_snapshot(key, ordinal, content_type, match)

    # --- reads

    def head(self, key: Key) -> Head:
        """A stream's metadata; does not renew its TTL. Rejected if there is no such stream."""
        return head_of(self._reads.state(key))

    def version(self, key: Key) -> object | None:
        """What is durable of a stream, as a token to be compared with ``is``.

        While it is the same, so is what :meth:`head` tells, and what reads gave that were begun
        after it was asked for. Renews nothing. None where nothing lasts: there is no such
        stream, it ends with time alone (TTL, expiry), or the store is closed.
        """
        return self._reads.version(key)

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
        return self._reads.read(key, ordinal, stop, max_bytes, max_records)

    def read_near(
        self, key: Key, ordinal: int, *, max_bytes: int, max_records: int | None = None
    ) -> ReadResult | None:
        """What :meth:`read` gives where :meth:`is_resident` is true of it, else None."""
        return self._reads.read_near(key, ordinal, max_bytes, max_records)

    def read_pieces(
        self, key: Key, ordinal: int, *, max_bytes: int = limits.READ_BYTES_DEFAULT
    ) -> ReadPieces:
        """As :meth:`read`, for sending: large runs of records are not copied.

        Hold on to the result no longer than it takes to send it.
        """
        return self._reads.read_pieces(key, ordinal, max_bytes)

    def pieces_near(
        self, key: Key, ordinal: int, *, max_bytes: int = limits.READ_BYTES_DEFAULT
    ) -> ReadPieces | None:
        """What :meth:`read_pieces` gives; None if that would take long.

        That is if some of it is not in memory, or if it is in batches of more than
        ``limits.READ_NEAR_BYTES_MAX`` bytes.
        """
        return self._reads.pieces_near(key, ordinal, max_bytes)

    def pieces_small(
        self, asked: Sequence[tuple[StreamKey, int]], *, max_bytes: int = limits.READ_BYTES_DEFAULT
    ) -> list[ReadPieces | None]:
        """What :meth:`pieces_near` gives for each stream and ordinal, where that is little.

        None where it is not, where there is nothing to read or to renew, or where the reason
        why not is to be asked for: all that is to be read by itself. Raises nothing.
        """
        return self._reads.pieces_small(asked, max_bytes)

    def open_snapshot(self, key: Key, ordinal: int | None = None) -> SnapshotReader:
        """The visible snapshot, to be read in pieces; with ``ordinal`` only if it stands there.

        Renews a sliding TTL. Raises Rejected (no such stream or snapshot), Corrupted, OSError.
        """
        return self._reads.open_snapshot(key, ordinal)

    def is_resident(self, key: Key, ordinal: int) -> bool:
        """Whether a read there touches only the newest segments, so that it need not wait."""
        return self._reads.is_resident(key, ordinal)

    def wait(self, key: Key, ordinal: int, timeout_s: float) -> bool:
        """Block until there is a record at ``ordinal``, or the stream is closed or gone.

        False if ``timeout_s`` (0 if it is less) went by first. Rejected if there is no such stream
        to begin with.
        """
        return self._reads.wait(key, ordinal, timeout_s)

    def bucket(self, bucket: str) -> BucketInfo:
        """Rejected if there is no such bucket."""
        return self._core.listing.bucket(bucket)

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
        return self._core.listing.by_name(bucket, prefix, after, limit, descending=descending)

    def list_created(
        self,
        bucket: str,
        *,
        prefix: str = "",
        after: tuple[int, str] | None = None,
        created_from_ms: int | None = None,
        created_until_ms: int | None = None,
        limit: int = limits.LIST_LIMIT_MAX,
        descending: bool = False,
    ) -> StreamPage:
        """Streams of a bucket, oldest (or newest) first; those of one millisecond by name.

        ``after`` is ``created_at_ms`` and name of the last one of the page before. The times
        bound what is listed, from inclusive, until exclusive.
        """
        created, by_creation = (created_from_ms, created_until_ms), self._core.listing.by_creation
        return by_creation(bucket, prefix, after, created, limit, descending=descending)

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
        Records that damage keeps from being looked at are named in the answer, if they are
        among what is searched: see :class:`tailrace.views.SearchResult`.
        """
        created, search = (created_from_ms, created_until_ms), self._reads.search
        return search(query, keys, bucket, types, limit, created, count_streams=count_streams)

    def counters(self) -> dict[str, int]:
        """Numbers for monitoring, since this store was opened."""
        return self._core.counters()
