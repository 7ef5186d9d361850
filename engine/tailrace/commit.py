"""Stage, write, sync, publish, acknowledge: the one way anything gets into the log.

``submit`` decides and stages under one lock. Whoever holds the commit lock then takes all
that is staged, writes it with one ``pwrite`` a segment, syncs, publishes and answers: the
committer thread, or a blocking caller that finds nobody at it and so spares two hops
between threads. Groups form by themselves while the sync before them runs.

Blocking callers do not stage: they leave their operation in an inbox, and whoever commits
stages them all. They are woken in turn (see :mod:`tailrace.turns`), and nothing is committed
for them while that goes on, but for one that takes long: those that come back at once are one
group again. To commit for half of them meanwhile gains nothing, and costs a sync more.

A failed write or sync is final (``fdatasync`` may report a lost page only once): the log is
poisoned, every waiter gets the error, and only reads go on. A segment that cannot be made,
because the disk is full, is not: nothing was written yet, so what was staged is let go, its
callers are told to try again, and staging begins anew from the durable state.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from tailrace import threads, validate
from tailrace.answers import Answers, Settled, poisoned
from tailrace.batch import Batch, Kind
from tailrace.catalog import Catalog
from tailrace.errors import InvalidArgument, Overloaded, StoreClosed, TailraceError
from tailrace.inbox import Inbox
from tailrace.limits import OPERATIONS_PER_SUBMIT_MAX
from tailrace.log import Log
from tailrace.native import seal_batches
from tailrace.operation import Operation
from tailrace.plain_inbox import Waiting
from tailrace.plan import Context, Partial
from tailrace.rows import Rows
from tailrace.staged import Publish, Staged, bytes_of, fills_log, runs_of, tickets_of
from tailrace.staging import Staging
from tailrace.ticket import Group, RowsTaken, Ticket
from tailrace.turns import Turns

_logger = logging.getLogger("tailrace")
_RETRY_AFTER_S = 1.0
_SYNCS_AVERAGED = 16
_SYNC_S_ASSUMED = 0.01
_TURN_S_MAX = 0.005  # how long an operation may wait for callers to come back


class _NotWritten(Exception):
    """Nothing of the group was: the next segment cannot be made, or what was staged has a gap."""


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
        self._now_ms = now_ms
        self._mark_idle_s = mark_idle_s
        self._publish = publish
        self._background = background
        self._lock = threading.Lock()
        bounds = batch_bytes_max, staged_bytes_max
        self._staging = Staging(durable, position, log.segment_bytes, *bounds)
        self._inbox = Inbox(staged_bytes_max)
        self._in_flight = False
        self._closing = False
        self._marked_position = position
        self.poison: BaseException | None = None  # what made the log refuse writes
        self.sync_s = _SYNC_S_ASSUMED  # how long the sync of a group takes, of late
        self.groups = self.batches = self.bytes_written = 0
        self.commit_lock = threading.Lock()
        self._wake: SimpleQueue[None] = SimpleQueue()  # a Semaphore would wake its waiter twice
        self._awake = False
        self._turns = Turns(self._kick)
        self._answers = Answers(self._turns, on_group)
        self._thread: threading.Thread | None = None

    @property
    def durable_position(self) -> int:
        """Up to here the log is durable and known."""
        return self._staging.durable_position

    @property
    def staged_bytes(self) -> int:
        """How much waits to become durable, or to be decided."""
        return self._staging.staged_bytes + self._inbox.bytes

    def start(self) -> None:
        """Raises :class:`~tailrace.threads.NoThread`."""
        if self._background:
            self._thread = threads.start("tailrace-commit", self._run)

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
        settled: list[Settled] = []
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
        plain = Context(self._now_ms(), self._staging.batch_bytes_max)
        with self._lock:
            if (refusal := self._unwritable()) is not None:
                raise refusal
            for operation, ticket, partial in valid:
                context = plain if partial is None else plain._replace(partial=partial)
                outcome, fault = self._staging.decide(operation, context, ticket)
                if outcome is None and fault is None:
                    continue
                if self._staging.queue or self._in_flight:
                    self._staging.answer(ticket, outcome, fault)
                else:
                    settled.append((ticket, outcome, fault))
        if settled:
            self._answers.give_at_once(settled)
        self._see_to_commit(patience_s)

    def submit_rows(self, rows: Rows, context: object, *, patience_s: float) -> RowsTaken:
        """Decide and stage what is plain of ``rows``; commit as :meth:`submit` does."""
        validate.rows(rows)
        now_ms = self._now_ms()
        with self._lock:
            if (refusal := self._unwritable()) is not None:
                raise refusal
            ticket, left = self._staging.rows(rows, now_ms, context)
        if ticket is None:
            return RowsTaken(None, left)
        self._see_to_commit(patience_s)
        return RowsTaken(ticket, left)

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
        if not self._inbox.put((operation, partial, ticket)):
            self._see_to_commit(0.0)  # who filled it may have been interrupted right after
            raise self._overloaded()
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
        if not self._awake and (self._staging.queue or self._inbox):
            self._rouse()

    def _rouse(self) -> None:
        with self._lock:
            wake = not self._awake
            self._awake = True
        if wake:
            self._wake.put(None)

    def _due(self) -> bool:
        """Whether there is something to commit that need not wait for more."""
        if self._staging.queue or self._closing:
            return bool(self._staging.queue or self._inbox)
        return bool(self._inbox) and not self._turns.busy

    def _unwritable(self) -> BaseException | None:
        """Why nothing can be staged now."""
        if self.poison is not None:
            return poisoned(self.poison)
        if self._closing:
            return StoreClosed("the store is closed")
        if self._staging.staged_bytes >= self._staging.staged_bytes_max:
            return self._overloaded()
        return None

    def _overloaded(self) -> Overloaded:
        message = f"{self.staged_bytes} bytes wait to become durable; try again later"
        return Overloaded(message, retry_after_s=_RETRY_AFTER_S)

    def commit(self, own: Ticket | None = None) -> bool:
        """Make everything staged durable and known. False: nothing was staged.

        The caller holds ``commit_lock``; ``own`` is the ticket it would wait for.
        """
        waiting = self._inbox.look()
        # A signal may interrupt between any two calls: whoever waits is told in the end.
        try:
            with self._lock:
                if waiting:
                    self._staging.decide_each(waiting, self._now_ms(), self._unwritable)
                    self._inbox.take(waiting)
                group = self._staging.take()
                if group and self.poison is None:
                    self._in_flight = True
                    end = self._staging.cursor.position
            if not group:
                return False
            if self.poison is not None:
                cause = self.poison
                self._answers.refuse(tickets_of(group), lambda: poisoned(cause))
                return True
            runs = runs_of(group, self._log.segment_bytes)
        except BaseException as error:
            self._let_go(waiting, f"interrupted ({error!r})")
            raise
        try:
            written = self._write(runs, end)
            changed = self._publish(Publish(group, end))
            with self._lock:
                self._staging.durable_position = end
                self._staging.staged_bytes -= written
                self._in_flight = False
        except _NotWritten as error:
            _logger.error("what is staged cannot be written: %s", error)
            self._let_go([], str(error))
            return True
        except BaseException as error:
            self._poison(error)
            if not isinstance(error, (OSError, TailraceError)):
                raise
            return True
        try:
            self._staging.taken = []
            self.groups += 1
            self.bytes_written += written
            if self._answers.give(group, changed, own):
                self._rouse()  # the committer thread sees that the turns go on
        except BaseException:
            self._answers.give_rest(group, changed)
            raise
        return True

    def _write(self, runs: list[list[Staged]], end: int) -> int:
        """Write and sync what fills the log up to ``end``; the number of bytes."""
        log = self._log
        joined = [bytes_of(run) for run in runs]
        if not fills_log(runs, joined, self.durable_position, end, log.segment_bytes):
            raise _NotWritten("interrupted while something was staged")
        try:
            segments = [log.ensure(log.segment_at(run[0].position)) for run in runs]
        except OSError as error:
            raise _NotWritten(f"no room for the next log segment ({error})") from error
        total = 0
        for run, data, segment in zip(runs, joined, segments, strict=True):
            sealed = seal_batches(data)
            batches = sum([1 if entry.rows is None else entry.rows.batches for entry in run])
            assert sealed == batches, "a batch's length is not the one it was placed with"
            total += len(data)
            segment.write(run[0].position, data)
            self.batches += sealed
        began = time.perf_counter()
        for segment in segments:
            segment.file.sync()
        if segments:  # to sync nothing takes no time
            self.sync_s += (time.perf_counter() - began - self.sync_s) / _SYNCS_AVERAGED
        return total

    def _let_go(self, waiting: list[Waiting], why: str) -> None:
        """Forget all that is staged, or was about to be, and begin with the durable state again."""
        with self._lock:
            self._inbox.take(waiting)
            staged = [*self._staging.taken, *self._staging.queue]
            self._staging.begin_again(self._durable)
            self._marked_position = min(self._marked_position, self.durable_position)
            self._in_flight = False
        # Once each: staging may have been interrupted between the two.
        tickets = dict.fromkeys([*tickets_of(staged), *(ticket for _, _, ticket in waiting)])
        message = f"{why}; nothing was stored"
        self._answers.refuse(tickets, lambda: Overloaded(message, retry_after_s=_RETRY_AFTER_S))

    def _poison(self, error: BaseException) -> None:
        _logger.critical("the log is poisoned, writes are refused from now on: %r", error)
        with self._lock:
            self.poison = error
            group = [*self._staging.taken, *self._staging.take()]
            self._staging.taken = []
            self._in_flight = False
        self._answers.refuse(tickets_of(group), lambda: poisoned(error))

    def _run(self) -> None:
        looked_s = time.perf_counter()
        while True:
            busy = self._turns.busy
            try:
                self._wake.get(timeout=_TURN_S_MAX if busy or self._closing else self._mark_idle_s)
            except Empty:
                if not busy:
                    self.mark()
            # By the clock: where many submit, we are roused before any nap is over.
            late = busy and time.perf_counter() - looked_s >= _TURN_S_MAX
            if late:
                self._turns.hurry()
            if late or not busy:
                looked_s = time.perf_counter()
            with self.commit_lock:
                while late or self._due():
                    late = False
                    self._commit_and_live()
                with self._lock:
                    self._awake = False
                while self._due():  # what came while we fell asleep; see _kick
                    self._commit_and_live()
            if self._closing and not self._staging.queue and not self._inbox:
                return

    def _commit_and_live(self) -> None:
        """Who waits was told what went wrong; this thread goes on, for those to come."""
        try:
            self.commit()
        except BaseException:
            _logger.exception("a group was not committed")

    def mark(self) -> None:
        """Record how much is durable, if any batch since the last record does not say so yet."""
        with self._lock:
            idle = not self._staging.queue and not self._in_flight and self.poison is None
            if not idle or self._closing or self._marked_position >= self.durable_position:
                return
            self._staging.batch(Batch.bare(Kind.MARK, self._now_ms()), None, None)
            self._marked_position = self._staging.cursor.position

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
