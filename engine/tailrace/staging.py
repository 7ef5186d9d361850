"""What is decided but not durable yet: the staged catalog, the queue for the next sync, its place.

Nothing here locks, writes or answers: :mod:`tailrace.commit` does, and calls this under its lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from tailrace import validate
from tailrace.batch import Batch, Kind, batch_parts, padded_bytes
from tailrace.catalog import NO_CHANGE, Catalog, apply
from tailrace.decide import decide
from tailrace.limits import SEAL_BYTES
from tailrace.log import Cursor
from tailrace.operation import Append, Operation
from tailrace.outcome import Outcome
from tailrace.plain_append import plain_append
from tailrace.plain_inbox import FEWEST, Answer, Room, Waiting, plain_run
from tailrace.plain_rows import PlainRows, plain_rows
from tailrace.plan import Context, Plan
from tailrace.rows import Rows
from tailrace.staged import Staged
from tailrace.ticket import Ticket


class Staging:
    """The next group, while it is put together. ``durable_position`` is each batch's watermark.

    ``taken`` is what was queued for the last one, until that is known to be durable.
    """

    def __init__(
        self,
        durable: Catalog,
        position: int,
        segment_bytes: int,
        batch_bytes_max: int,
        staged_bytes_max: int,
    ) -> None:
        self.catalog = durable.copy()
        self.queue: list[Staged] = []
        self.taken: list[Staged] = []
        self.cursor = Cursor(position, segment_bytes)
        self.durable_position = position
        self.staged_bytes = 0
        self.batch_bytes_max = batch_bytes_max
        self.staged_bytes_max = staged_bytes_max

    def take(self) -> list[Staged]:
        """All that is queued, which is the caller's from now on."""
        self.taken, self.queue = self.queue, []
        return self.taken

    def begin_again(self, durable: Catalog) -> None:
        """Forget what is staged and go on from the durable state."""
        self.taken, self.queue = [], []
        self.catalog = durable.copy()
        self.cursor.position = self.durable_position
        self.staged_bytes = 0

    def answer(self, ticket: Ticket, outcome: Outcome | None, error: BaseException | None) -> None:
        """Stage an answer that waits for the batches before it."""
        self.queue.append(Staged(0, (), None, NO_CHANGE, ticket, outcome, error))

    def decide(
        self, operation: Operation, context: Context, ticket: Ticket
    ) -> tuple[Outcome | None, BaseException | None]:
        """Stage the operation's batch, or return what to answer at once."""
        try:
            if type(operation) is Append and self._plain(operation, context.now_ms, ticket):
                return None, None
            decision = decide(self.catalog, operation, context)
        except Exception as error:
            # A record that is not bytes, or a stamp that raised: this operation's fault alone.
            return None, validate.fault(operation, error)
        if type(decision) is not Plan:
            return decision, None  # type: ignore[return-value]
        self.batch(decision.batch, ticket, decision.outcome)
        return None, None

    def decide_each(
        self,
        waiting: Sequence[Waiting],
        now_ms: int,
        unwritable: Callable[[], BaseException | None],
    ) -> None:
        """Stage the operations' batches, or what to answer."""
        plain = Context(now_ms, self.batch_bytes_max)
        at = 0
        while at < len(waiting):
            if unwritable() is None:
                at += self._run(islice(waiting, at, None), now_ms)
            for operation, partial, ticket in waiting[at : at + FEWEST]:
                context = plain if partial is None else plain._replace(partial=partial)
                outcome, error = None, unwritable()
                if error is None:
                    outcome, error = self.decide(operation, context, ticket)
                if outcome is not None or error is not None:
                    self.answer(ticket, outcome, error)
            at += FEWEST

    def rows(self, rows: Rows, now_ms: int, context: object) -> tuple[Ticket | None, list[int]]:
        """Stage what is plain of ``rows``: its ticket, if there is any, and the groups left."""
        position = self.cursor.position
        room = min(self.cursor.room, self.batch_bytes_max + SEAL_BYTES)
        try:
            plain = plain_rows(self.catalog, rows, now_ms, position, room, self.durable_position)
        except TypeError:  # of what is no string there may be no hash
            for key in rows.keys:
                validate.named(key)
            raise
        if not plain.states:
            return None, plain.left
        ticket = Ticket(None, context)
        self._queue_rows(plain, ticket, plain.appended, ())
        return ticket, plain.left

    def _run(self, waiting: Iterable[Waiting], now_ms: int) -> int:
        """Stage the plain appends that ``waiting`` begins with, unless few. How many it took."""
        room = Room(
            self.cursor.room, self.batch_bytes_max, self.staged_bytes_max - self.staged_bytes
        )
        run = plain_run(
            self.catalog, waiting, now_ms, self.cursor.position, room, self.durable_position
        )
        if run is None:
            return 0
        self._queue_rows(run.rows, None, None, run.answers)
        return len(run.answers)

    def _queue_rows(
        self,
        rows: PlainRows,
        ticket: Ticket | None,
        outcome: Outcome | None,
        answers: Sequence[Answer],
    ) -> None:
        position, length = self.cursor.position, len(rows.data)
        self.cursor.position = position + length
        self.catalog.streams.update(rows.states)
        self.staged_bytes += length
        self.queue.append(
            Staged(
                position, (rows.data,), None, NO_CHANGE, ticket, outcome, None, rows, None, answers
            )
        )

    def _plain(self, operation: Append, now_ms: int, ticket: Ticket) -> bool:
        """Stage the append the short way, if it is plain."""
        cursor = self.cursor
        position = cursor.position
        room = min(cursor.room, self.batch_bytes_max + SEAL_BYTES)
        plain = plain_append(self.catalog, operation, now_ms, position, room, self.durable_position)
        if plain is None:
            return False
        length, parts, state, outcome = plain
        cursor.position = position + length
        self.catalog.streams[outcome.stream_id] = state
        self.staged_bytes += length
        self.queue.append(
            Staged(position, parts, None, NO_CHANGE, ticket, outcome, None, None, state)
        )
        return True

    def batch(self, batch: Batch, ticket: Ticket | None, outcome: Outcome | None) -> None:
        """Stage a batch that was decided, and before it the segment's seal if it is full."""
        length = padded_bytes(len(batch.ends), len(batch.fields), len(batch.payload))
        place = self.cursor.place(length)
        change = apply(self.catalog, batch)
        parts = batch_parts(batch, place.position, self.durable_position)
        # Nothing below can raise: the log gets no gap, the catalog no half change.
        if place.seal_at is not None:
            self._seal(place.seal_at, batch.created_at_ms)
        self.cursor.position = place.end
        self.catalog.install(change)
        self.staged_bytes += length
        self.queue.append(Staged(place.position, parts, batch, change, ticket, outcome))

    def _seal(self, position: int, now_ms: int) -> None:
        batch = Batch.bare(Kind.SEAL, now_ms)
        parts = batch_parts(batch, position, self.durable_position)
        self.queue.append(Staged(position, parts, batch, NO_CHANGE, None, None))
        self.staged_bytes += SEAL_BYTES
