"""Stage, write, sync, publish, acknowledge: the one way anything gets into the log.

``submit`` decides and stages under one lock. Whoever holds the commit lock then takes all
that is staged, writes it with one ``pwrite`` a segment, syncs, publishes and answers: the
committer thread, or a blocking caller that finds nobody at it and so spares two hops
between threads. Groups form by themselves while the sync before them runs.

Blocking callers do not stage: they leave their operation in an inbox, and whoever commits
stages them all (flat combining; Hendler and others, SPAA 2010). With many threads on few
cores, deciding in one place runs several times faster than in each thread in turn, whose
every step would find the caches full of another's. They are woken in turn (see
:mod:`tailrace.turns`), and while that goes on the committer thread commits for all of them,
each time that as many have come back as still sleep: half of them are on their way while the
sync for the other half runs.

A failed write or sync is final (``fdatasync`` may report a lost page only once): the log is
poisoned, every waiter gets the error, and only reads go on. A segment that cannot be made,
because the disk is full, is not: nothing was written yet, so what was staged is let go, its
callers are told to try again, and staging begins anew from the durable state.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from tailrace import validate
from tailrace.batch import Batch, Kind, batch_parts, padded_bytes
from tailrace.catalog import NO_CHANGE, Catalog, apply
from tailrace.decide import decide
from tailrace.errors import InvalidArgument, LogPoisoned, Overloaded, StoreClosed, TailraceError
from tailrace.limits import OPERATIONS_PER_SUBMIT_MAX, SEAL_BYTES
from tailrace.log import Cursor, Log
from tailrace.native import seal_batches
from tailrace.operation import Append, Operation
from tailrace.outcome import Outcome
from tailrace.plain_append import plain_append
from tailrace.plain_rows import plain_rows
from tailrace.plan import Context, Partial, Plan
from tailrace.rows import Rows
from tailrace.staged import Publish, Staged, bytes_of, runs_of
from tailrace.ticket import Group, RowsTaken, Ticket
from tailrace.turns import Turns

_logger = logging.getLogger("tailrace")
_RETRY_AFTER_S = 1.0
_SYNCS_AVERAGED = 16
_SYNC_S_ASSUMED = 0.01
_TURN_S_MAX = 0.005  # how long an operation may wait for callers to come back


class _NoSegment(Exception):
    """The next segment could not be made; nothing of the group was written."""


class Committer:
    """The write path of one store."""

    def __init__(
        self,
        log: Log,
        durable: Catalog,
        position: int,
        now_ms: Callable[[], int],
        *,
        batch_bytes_max: int,
        staged_bytes_max: int,
        mark_idle_s: float | None,
        publish: Callable[[Publish], set[int]],
        on_group: Callable[[Group], None],
        background: bool,
    ) -> None:
        self._log = log
        self._durable = durable
        self._staged = durable.copy()
        self._now_ms = now_ms
        self._batch_bytes_max = batch_bytes_max
        self._staged_bytes_max = staged_bytes_max
        self._mark_idle_s = mark_idle_s
        self._publish = publish
        self._on_group = on_group
        self._background = background
        self._lock = threading.Lock()
        self._queue: list[Staged] = []
        self._inbox: deque[tuple[Operation, Partial | None, Ticket]] = deque()
        self._cursor = Cursor(position, log.segment_bytes)
        self._in_flight = False
        self._closing = False
        self._marked_position = position
        self.poison: BaseException | None = None  # what made the log refuse writes
        self.durable_position = position
        self.staged_bytes = 0
        self.sync_s = _SYNC_S_ASSUMED  # how long the sync of a group takes, of late
        self.groups = 0
        self.batches = 0
        self.bytes_written = 0
        self.commit_lock = threading.Lock()
        # Not a Semaphore, which is made of Python and wakes its waiter twice.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._awake = False
        self._turns = Turns(self._turn_moved)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._background:
            self._thread = threading.Thread(target=self._run, name="tailrace-commit", daemon=True)
            self._thread.start()

    def submit(
        self,
        operations: Sequence[Operation],
        tickets: Sequence[Ticket],
        partials: Sequence[Partial | None],
        *,
        apart: bool = False,
        patience_s: float = 0.0,
    ) -> None:
        """Decide and stage. ``apart``: one that is invalid fails its own ticket, not them all.

        If nobody is at it and a sync takes less than ``patience_s`` these days, commit as well.
        """
        if len(operations) > OPERATIONS_PER_SUBMIT_MAX:
            raise InvalidArgument("operations", f"at most {OPERATIONS_PER_SUBMIT_MAX} at once")
        settled: list[tuple[Ticket, Outcome | None, BaseException | None]] = []
        valid: list[tuple[Operation, Ticket, Partial | None]] = []
        for operation, ticket, partial in zip(operations, tickets, partials, strict=True):
            try:
                validate.operation(operation)
            except InvalidArgument as error:
                if not apart:
                    raise
                settled.append((ticket, None, error))
            else:
                valid.append((operation, ticket, partial))
        plain = Context(self._now_ms(), self._batch_bytes_max)
        with self._lock:
            if (refusal := self._unwritable()) is not None:
                raise refusal
            for operation, ticket, partial in valid:
                context = plain if partial is None else plain._replace(partial=partial)
                outcome, fault = self._decide(operation, context, ticket)
                if outcome is None and fault is None:
                    continue
                if self._queue or self._in_flight:
                    self._queue.append(Staged(0, (), None, NO_CHANGE, ticket, outcome, fault))
                else:
                    settled.append((ticket, outcome, fault))
        if settled:
            for ticket, outcome, fault in settled:
                ticket.answer(outcome, fault)
            told = [ticket for ticket, _, _ in settled if not ticket.internal]
            if told:
                self._on_group(Group(told, set()))
        self._see_to_commit(patience_s)

    def submit_rows(self, rows: Rows, context: object, *, patience_s: float) -> RowsTaken:
        """Decide and stage what is plain of ``rows``; commit as :meth:`submit` does."""
        validate.rows(rows)
        now_ms = self._now_ms()
        with self._lock:
            if (refusal := self._unwritable()) is not None:
                raise refusal
            cursor = self._cursor
            position = cursor.position
            room = min(cursor.room, self._batch_bytes_max + SEAL_BYTES)
            plain = plain_rows(self._staged, rows, now_ms, position, room, self.durable_position)
            if not plain.states:
                return RowsTaken(None, plain.left)
            ticket = Ticket(None, context)
            length = len(plain.data)
            cursor.position = position + length
            self._staged.streams.update(plain.states)
            self.staged_bytes += length
            self._queue.append(
                Staged(
                    position, (plain.data,), None, NO_CHANGE, ticket, plain.appended, None, plain
                )
            )
        self._see_to_commit(patience_s)
        return RowsTaken(ticket, plain.left)

    def _see_to_commit(self, patience_s: float) -> None:
        if not self._background:
            with self.commit_lock:
                self.commit()
        elif self.sync_s < patience_s and self.commit_lock.acquire(blocking=False):
            try:
                self.commit()
            finally:
                self.commit_lock.release()
        else:
            self._kick()

    def check_writable(self) -> None:
        """Raise what keeps anything from being written now, if something does."""
        with self._lock:
            refusal = self._unwritable()
        if refusal is not None:
            raise refusal

    def perform(
        self, operation: Operation, partial: Partial | None, *, patient: bool = False
    ) -> Ticket:
        """Hand one operation over and, unless somebody is at it, commit.

        ``patient``: this thread is going to wait for the ticket, without a timeout.
        """
        validate.operation(operation)
        in_turn = patient and self._background and not self._closing
        ticket = Ticket(None, None, turns=self._turns if in_turn else None)
        self._inbox.append((operation, partial, ticket))
        # While closing the committer thread may have had its last look already.
        wait = self._closing or not self._background
        if self._turns.busy and not wait:
            return ticket  # whose turn it is will look, and ours was there before
        if self.commit_lock.acquire(blocking=wait):
            try:
                self.commit(ticket)
            finally:
                self.commit_lock.release()
        else:
            self._kick()
        return ticket

    def _kick(self) -> None:
        """Have the committer thread look at what is staged and in the inbox."""
        # Without the lock: it says that it goes to sleep before it looks for the last time, and
        # ours was there before we looked whether it sleeps.
        if not self._awake and (self._queue or self._inbox):
            self._rouse()

    def _rouse(self) -> None:
        with self._lock:
            wake = not self._awake
            self._awake = True
        if wake:
            self._wake.put(None)

    def _turn_moved(self) -> None:
        if not self._awake and self._due():
            self._kick()

    def _due(self) -> bool:
        """Whether there is something to commit that need not wait for more."""
        if self._queue or self._closing:
            return bool(self._queue or self._inbox)
        came = len(self._inbox)
        return came > 0 and (came >= len(self._turns.waiting) or not self._turns.busy)

    def _empty_inbox(self) -> None:
        """Stage what blocking callers left. Under the lock."""
        count = len(self._inbox)
        if not count:
            return
        plain = Context(self._now_ms(), self._batch_bytes_max)
        for _ in range(count):
            operation, partial, ticket = self._inbox.popleft()
            context = plain if partial is None else plain._replace(partial=partial)
            outcome, error = None, self._unwritable()
            if error is None:
                outcome, error = self._decide(operation, context, ticket)
            if outcome is not None or error is not None:
                self._queue.append(Staged(0, (), None, NO_CHANGE, ticket, outcome, error))

    def _unwritable(self) -> BaseException | None:
        """Why nothing can be staged now."""
        if self.poison is not None:
            return self._poisoned()
        if self._closing:
            return StoreClosed("the store is closed")
        if self.staged_bytes >= self._staged_bytes_max:
            return Overloaded(
                f"{self.staged_bytes} bytes wait to become durable; try again later",
                retry_after_s=_RETRY_AFTER_S,
            )
        return None

    def _decide(
        self, operation: Operation, context: Context, ticket: Ticket
    ) -> tuple[Outcome | None, BaseException | None]:
        """Stage the operation's batch, or return what to answer at once."""
        try:
            if type(operation) is Append and self._stage_plain(operation, context.now_ms, ticket):
                return None, None
            decision = decide(self._staged, operation, context)
        except Exception as error:
            # A record that is not bytes, or a stamp that raised: this operation's fault alone.
            return None, error
        if type(decision) is not Plan:
            return decision, None  # type: ignore[return-value]
        self._stage(decision.batch, ticket, decision.outcome)
        return None, None

    def _stage_plain(self, operation: Append, now_ms: int, ticket: Ticket) -> bool:
        """Stage the append the short way, if it is plain."""
        cursor = self._cursor
        position = cursor.position
        room = min(cursor.room, self._batch_bytes_max + SEAL_BYTES)
        plain = plain_append(self._staged, operation, now_ms, position, room, self.durable_position)
        if plain is None:
            return False
        length, parts, state, outcome = plain
        cursor.position = position + length
        self._staged.streams[outcome.stream_id] = state
        self.staged_bytes += length
        self._queue.append(
            Staged(position, parts, None, NO_CHANGE, ticket, outcome, None, None, state)
        )
        return True

    def _stage(self, batch: Batch, ticket: Ticket | None, outcome: Outcome | None) -> None:
        length = padded_bytes(len(batch.ends), len(batch.fields), len(batch.payload))
        place = self._cursor.place(length)
        change = apply(self._staged, batch)
        parts = batch_parts(batch, place.position, self.durable_position)
        # What could raise is behind us: the log gets no hole, the catalog no half change.
        if place.seal_at is not None:
            self._stage_seal(place.seal_at, batch.created_at_ms)
        self._cursor.position = place.end
        self._staged.install(change)
        self.staged_bytes += length
        self._queue.append(Staged(place.position, parts, batch, change, ticket, outcome))

    def _stage_seal(self, position: int, now_ms: int) -> None:
        batch = Batch.bare(Kind.SEAL, now_ms)
        parts = batch_parts(batch, position, self.durable_position)
        self._queue.append(Staged(position, parts, batch, NO_CHANGE, None, None))
        self.staged_bytes += SEAL_BYTES

    def commit(self, own: Ticket | None = None) -> bool:
        """Make everything staged durable and known. False: nothing was staged.

        The caller holds ``commit_lock``; ``own`` is the ticket it would wait for.
        """
        with self._lock:
            self._empty_inbox()
            if not self._queue:
                return False
            if self.poison is not None:
                group, self._queue = self._queue, []
                self._fail(group, self._poisoned)
                return True
            group, self._queue = self._queue, []
            self._in_flight = True
            end = self._cursor.position
        try:
            runs = runs_of(group, self._log.segment_bytes)
            written = self._write(runs)
            changed = self._publish(Publish(group, end))
        except _NoSegment as error:
            self._shed(group, error)
            return True
        except BaseException as error:
            self._poison(group, error)
            if not isinstance(error, (OSError, TailraceError)):
                raise
            return True
        with self._lock:
            self.durable_position = end
            self.staged_bytes -= written
            self._in_flight = False
        self.groups += 1
        self.bytes_written += written
        self._answer(group, changed, own)
        return True

    def _answer(self, group: list[Staged], changed: set[int], own: Ticket | None) -> None:
        tickets: list[Ticket] = []
        in_turn: list[Ticket] = []
        for entry in group:
            ticket = entry.ticket
            if ticket is None:
                continue
            if ticket.turns is None:
                ticket.answer(entry.outcome, entry.error)
            else:
                ticket.settle(entry.outcome, entry.error)
                if ticket is own:
                    ticket.turns = None
                else:
                    in_turn.append(ticket)
            if not ticket.internal:
                tickets.append(ticket)
        if in_turn and self._turns.add(in_turn):
            self._rouse()  # the committer thread sees that the turns go on
        self._on_group(Group(tickets, changed))

    def _write(self, runs: list[list[Staged]]) -> int:
        """Write and sync; the number of bytes."""
        log = self._log
        try:
            segments = [log.ensure(log.segment_at(run[0].position)) for run in runs]
        except OSError as error:
            raise _NoSegment(str(error)) from error
        total = 0
        for run, segment in zip(runs, segments, strict=True):
            data = bytes_of(run)
            sealed = seal_batches(data)
            batches = sum([1 if entry.rows is None else entry.rows.batches for entry in run])
            assert sealed == batches, "a batch's length is not the one it was placed with"
            total += len(data)
            segment.write(run[0].position, data)
            self.batches += sealed
        began = time.perf_counter()
        for segment in segments:
            segment.file.sync()
        self.sync_s += (time.perf_counter() - began - self.sync_s) / _SYNCS_AVERAGED
        return total

    def _shed(self, group: list[Staged], error: _NoSegment) -> None:
        """Let go of all that is staged, and begin again from the durable state."""
        _logger.error("the next log segment cannot be made: %s", error)
        with self._lock:
            group = [*group, *self._queue]
            self._queue = []
            self._staged = self._durable.copy()
            self._cursor.position = self.durable_position
            self._marked_position = min(self._marked_position, self.durable_position)
            self.staged_bytes = 0
            self._in_flight = False
        message = f"no room for the next log segment ({error}); nothing was stored"
        self._fail(group, lambda: Overloaded(message, retry_after_s=_RETRY_AFTER_S))

    def _poison(self, group: list[Staged], error: BaseException) -> None:
        _logger.critical("the log is poisoned, writes are refused from now on: %r", error)
        with self._lock:
            self.poison = error
            group = [*group, *self._queue]
            self._queue = []
            self._in_flight = False
        self._fail(group, self._poisoned)

    def _poisoned(self) -> LogPoisoned:
        """An exception of its own for each who is told: raising one changes it."""
        assert self.poison is not None
        error = LogPoisoned(
            f"writing to the log failed ({self.poison}); writes are refused until the store is "
            "opened again, reads go on"
        )
        error.__cause__ = self.poison
        return error

    def _fail(self, group: list[Staged], error: Callable[[], TailraceError]) -> None:
        tickets = [entry.ticket for entry in group if entry.ticket is not None]
        for ticket in tickets:
            ticket.answer(None, error())
        self._on_group(Group([ticket for ticket in tickets if not ticket.internal], set()))

    def _run(self) -> None:
        while True:
            late = False
            try:
                self._wake.get(timeout=_TURN_S_MAX if self._turns.busy else self._mark_idle_s)
            except Empty:
                late = self._turns.busy
                if late:
                    self._turns.hurry()
                else:
                    self.mark()
            with self.commit_lock:
                while late or self._due():
                    late = False
                    self.commit()
                with self._lock:
                    self._awake = False
                while self._due():  # what came while we fell asleep; see _kick
                    self.commit()
            if self._closing and not self._queue and not self._inbox:
                return

    def mark(self) -> None:
        """Record how much is durable, if any batch since the last record does not say so yet."""
        with self._lock:
            idle = not self._queue and not self._in_flight and self.poison is None
            if not idle or self._closing or self._marked_position >= self.durable_position:
                return
            self._stage(Batch.bare(Kind.MARK, self._now_ms()), None, None)
            self._marked_position = self._cursor.position

    def close(self) -> None:
        """Refuse new operations, make what is staged durable, stop the thread."""
        with self._lock:
            self._closing = True
            self._awake = True
        if self._thread is not None:
            self._wake.put(None)
            self._thread.join()
        with self.commit_lock:
            while self.commit():
                pass
            self._turns.close()
