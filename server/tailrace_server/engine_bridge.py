"""The engine's threads ↔ Trio: one hop for each durable group, none for most reads.

The engine answers on its committing thread. :meth:`EngineBridge.attach` installs the one
group callback, which hands a whole group to the Trio thread with one ``run_sync_soon``;
there every request of the group is resumed and every live reader of a changed stream woken.
A thread hop for each append would cost more than the append.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Final, TypeVar

import trio

import tailrace
from tailrace.errors import Rejected, StoreClosed
from tailrace.limits import KIB, MIB
from tailrace.operation import Append, Create, Operation, StreamKey
from tailrace.outcome import Appended, Created, Outcome
from tailrace.rows import AppendedRows, Rows
from tailrace.ticket import RowsTaken
from tailrace_server.threads import in_thread, in_thread_or_here

T = TypeVar("T")

READ_THREADS: Final = 8
SEARCH_THREADS: Final = 2
DISK_THREADS: Final = 4
INLINE_READ_BYTES_MAX: Final = MIB
READ_NOW_BYTES_MAX: Final = 64 * KIB
SYNC_HERE_S_MAX: Final = 0.0005


class Completion(ABC):
    """A ticket's context that is told once, in the Trio thread, that the ticket is done.

    Tickets with any other context are not the server's (the store submits some itself).
    """

    __slots__ = ()

    @abstractmethod
    def complete(self, ticket: tailrace.Ticket) -> None:
        """Must not raise: it runs inside Trio's own loop."""


class GroupContext:
    """The context of tickets that are told a group at a time, on the committing thread.

    Tickets whose contexts have an equal ``tell`` are told with one call of it, which must be quick
    and must not raise. ``key`` is the stream that the operation appends to.
    """

    __slots__ = ("key", "tell")

    def __init__(self, tell: Callable[[list[tailrace.Ticket]], None], key: StreamKey) -> None:
        self.tell = tell
        self.key = key


class RowsContext:
    """The same for a ticket of rows, which has a stream for each of ``keys``.

    ``requests`` is how many brought them.
    """

    __slots__ = ("keys", "requests", "tell")

    def __init__(
        self,
        tell: Callable[[list[tailrace.Ticket]], None],
        keys: Sequence[StreamKey],
        requests: int,
    ) -> None:
        self.tell = tell
        self.keys = keys
        self.requests = requests


class _Request(Completion):
    """One request's wait for its ticket."""

    __slots__ = ("key", "task")

    def __init__(self, task: trio.lowlevel.Task, key: StreamKey | None) -> None:
        self.task: trio.lowlevel.Task | None = task
        self.key = key

    def complete(self, ticket: tailrace.Ticket) -> None:
        task, self.task = self.task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def abandon(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        # What is staged stays staged; only the wait for it ends.
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Listener(ABC):
    """Whoever is told that a stream has changed, in the Trio thread. Must not raise."""

    __slots__ = ()

    @abstractmethod
    def wake(self) -> None:
        """The stream was appended to, closed or deleted."""

    @abstractmethod
    def look_again(self) -> None:
        """Something other than the stream changed: keys did, or the server stops."""


class Subscription(Listener):
    """One reader's interest in one stream; use it as a context manager.

    Enter it *before* reading the tail: a change after that is remembered, so nothing is
    lost between the read and the wait.
    """

    __slots__ = ("_bridge", "_stream_id", "_task", "changed")

    def __init__(self, bridge: EngineBridge, stream_id: int) -> None:
        self._bridge = bridge
        self._stream_id = stream_id
        self.changed = False
        self._task: trio.lowlevel.Task | None = None

    def __enter__(self) -> Subscription:
        self._bridge.add(self._stream_id, self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bridge.remove(self._stream_id, self)

    def wake(self) -> None:
        self.changed = True
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def look_again(self) -> None:
        self.wake()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Not told of anything meanwhile; look at the stream afterwards, as on entering."""
        self._bridge.remove(self._stream_id, self)
        try:
            yield
        finally:
            self._bridge.add(self._stream_id, self)

    async def wait(self) -> None:
        """Return once the stream has changed since the last call, or since the start."""
        if self.changed:
            await trio.lowlevel.checkpoint()
        else:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abandon)
        self.changed = False

    def _abandon(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class EngineBridge:
    """The server's only way to the store."""

    def __init__(self, store: tailrace.Store) -> None:
        self.store: Final = store
        self.subscribers: Final[dict[int, set[Listener]]] = {}
        # Told, in the Trio thread, of every stream that was made (then True) or appended to.
        self.on_change: Callable[[StreamKey, bool], None] | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._read_limiter = trio.CapacityLimiter(READ_THREADS)
        self._disk_limiter = trio.CapacityLimiter(DISK_THREADS)
        self._search_limiter = trio.CapacityLimiter(SEARCH_THREADS)

    def attach(self) -> None:
        """Take over the store's group callback; call it inside ``trio.run``."""
        self._token = trio.lowlevel.current_trio_token()
        self.store.on_group = self._on_group

    def detach(self) -> None:
        self.store.on_group = None

    async def perform(self, operation: Operation) -> Outcome:
        """The operation's durable outcome, a rejection included.

        Raises what submitting does (:class:`~tailrace.errors.Overloaded`, ...) or
        :class:`~tailrace.errors.LogPoisoned`. Cancelling it cancels the wait alone.
        """
        key = operation.key if isinstance(operation, Append | Create) else None
        request = _Request(trio.lowlevel.current_task(), key)
        (ticket,) = self.store.submit([operation], context=request)
        if ticket.done:
            request.task = None
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await trio.lowlevel.wait_task_rescheduled(request.abandon)
        if ticket.error is not None:
            raise ticket.error
        assert ticket.outcome is not None
        return ticket.outcome

    def stage(self, operations: Sequence[Operation], contexts: Sequence[GroupContext]) -> None:
        """Submit many operations at once; see :meth:`tailrace.Store.submit_each`.

        One alone is from a client that nobody waits behind: if the disk is quick, waiting for
        it here costs less than waking another thread and being woken.
        """
        patience_s = SYNC_HERE_S_MAX if len(operations) == 1 else 0.0
        self.store.submit_each(operations, contexts, patience_s=patience_s)

    def stage_rows(self, rows: Rows, context: RowsContext) -> RowsTaken:
        """The same for appends put together by stream; see :meth:`tailrace.Store.submit_rows`."""
        patience_s = SYNC_HERE_S_MAX if context.requests == 1 else 0.0
        return self.store.submit_rows(rows, context, patience_s=patience_s)

    def read_now(
        self, key: StreamKey, ordinal: int, *, max_bytes: int, max_records: int | None = None
    ) -> tailrace.ReadResult | None:
        """What :meth:`read` gives, if it is little and in memory; else None."""
        little = min(max_bytes, READ_NOW_BYTES_MAX)
        result = self.store.read_near(key, ordinal, max_bytes=little, max_records=max_records)
        if result is None:
            return None
        # What more bytes would have brought is not known.
        if little < max_bytes and not result.up_to_date and result.count != max_records:
            return None
        return None if len(result.payload) > READ_NOW_BYTES_MAX else result

    def pieces_now(
        self, key: StreamKey, ordinal: int, *, max_bytes: int
    ) -> tailrace.ReadPieces | None:
        """What :meth:`read_pieces` gives, if it is in memory and no great work; else None."""
        bound = min(max_bytes, INLINE_READ_BYTES_MAX)
        result = self.store.pieces_near(key, ordinal, max_bytes=bound)
        # What more bytes would have brought is not known.
        unknown = result is not None and bound < max_bytes and not result.up_to_date
        return None if unknown else result

    def is_near(self, key: StreamKey, ordinal: int) -> bool:
        """Whether a read there need not wait: it is of memory, or there is nothing to read."""
        try:
            return self.store.is_resident(key, ordinal)
        except (Rejected, StoreClosed):
            return True

    async def read(
        self,
        key: StreamKey,
        ordinal: int,
        *,
        max_bytes: int,
        max_records: int | None = None,
        stop: int | None = None,
    ) -> tailrace.ReadResult:
        """Durable records from ``ordinal``; see :meth:`tailrace.Store.read`."""

        def read() -> tailrace.ReadResult:
            return self.store.read(
                key, ordinal, max_bytes=max_bytes, max_records=max_records, stop=stop
            )

        return await self.near(key, ordinal, read, inline=max_bytes <= INLINE_READ_BYTES_MAX)

    async def read_pieces(
        self, key: StreamKey, ordinal: int, *, max_bytes: int
    ) -> tailrace.ReadPieces:
        """Durable records to send; see :meth:`tailrace.Store.read_pieces`."""

        def read() -> tailrace.ReadPieces:
            return self.store.read_pieces(key, ordinal, max_bytes=max_bytes)

        return await self.near(key, ordinal, read, inline=max_bytes <= INLINE_READ_BYTES_MAX)

    async def near(
        self, key: StreamKey, ordinal: int, work: Callable[[], T], *, inline: bool = True
    ) -> T:
        """Run reading ``work`` here if its data is in memory, in a worker thread otherwise.

        Raises :class:`~tailrace.errors.Overloaded` if it needs a thread and there is none, as
        :meth:`search` and :meth:`on_disk` do.
        """
        if inline and self.is_near(key, ordinal):
            return work()
        return await in_thread(work, self._read_limiter)

    async def search(self, work: Callable[[], T]) -> T:
        """Run searching ``work`` in a worker thread; few at a time, they take whole cores."""
        return await in_thread(work, self._search_limiter)

    async def on_disk(self, work: Callable[[], T]) -> T:
        """Run ``work`` on files of its own, which may take its time, in a worker thread.

        Cancelling waits for it: half a write is none.
        """
        return await in_thread(work, self._disk_limiter)

    async def clean_up(self, work: Callable[[], T]) -> T:
        """The same for what must not be left undone, and is little. It cannot be cancelled."""
        return await in_thread_or_here(work, self._disk_limiter)

    def subscribe(self, stream_id: int) -> Subscription:
        return Subscription(self, stream_id)

    def head(self, key: StreamKey, stream_id: int) -> tailrace.Head | None:
        """The stream's head; None once this incarnation is gone."""
        try:
            head = self.store.head(key)
        except Rejected:
            return None
        return head if head.stream_id == stream_id else None

    def add(self, stream_id: int, listener: Listener) -> None:
        self.subscribers.setdefault(stream_id, set()).add(listener)

    def remove(self, stream_id: int, listener: Listener) -> None:
        others = self.subscribers[stream_id]
        others.discard(listener)
        if not others:
            del self.subscribers[stream_id]

    def wake_all(self) -> None:
        """Make every live reader look again: keys changed, or the server stops."""
        for listeners in list(self.subscribers.values()):
            for listener in tuple(listeners):
                listener.look_again()

    def _on_group(self, group: tailrace.Group) -> None:
        assert self._token is not None
        tickets = self._tell_groups(group.tickets)
        if self.on_change is not None:
            tickets = group.tickets
        elif not tickets and self.subscribers.keys().isdisjoint(group.stream_ids):
            return  # a reader that comes now looks at the tail, which is durable
        try:
            self._token.run_sync_soon(self._deliver, tickets, group.stream_ids)
        except trio.RunFinishedError:
            pass  # the server has stopped; nobody waits any more

    def _tell_groups(self, tickets: list[tailrace.Ticket]) -> list[tailrace.Ticket]:
        """Tell the contexts that want to hear at once; the tickets of all others."""
        others = []
        groups: dict[Callable[[list[tailrace.Ticket]], None], list[tailrace.Ticket]] = {}
        for ticket in tickets:
            context = ticket.context
            if isinstance(context, GroupContext | RowsContext):
                group = groups.get(context.tell)
                if group is None:
                    groups[context.tell] = [ticket]
                else:
                    group.append(ticket)
            else:
                others.append(ticket)
        for tell, group in groups.items():
            tell(group)
        return others

    def _deliver(self, tickets: Sequence[tailrace.Ticket], stream_ids: set[int]) -> None:
        for ticket in tickets:
            context = ticket.context
            if isinstance(context, Completion):
                context.complete(ticket)
        if self.on_change is not None:
            self._tell_changes(tickets, self.on_change)
        if self.subscribers:
            for stream_id in stream_ids:
                for listener in self.subscribers.get(stream_id, ()):
                    listener.wake()

    def _tell_changes(
        self, tickets: Sequence[tailrace.Ticket], on_change: Callable[[StreamKey, bool], None]
    ) -> None:
        for ticket in tickets:
            context, outcome = ticket.context, ticket.outcome
            if isinstance(context, RowsContext):
                if isinstance(outcome, AppendedRows):
                    for key, stream_id in zip(context.keys, outcome.stream_ids, strict=True):
                        if stream_id:
                            on_change(key, False)
                continue
            if not isinstance(context, _Request | GroupContext) or context.key is None:
                continue
            if isinstance(outcome, Created):
                on_change(context.key, True)
            elif isinstance(outcome, Appended) and not outcome.duplicate:
                on_change(context.key, outcome.created)
