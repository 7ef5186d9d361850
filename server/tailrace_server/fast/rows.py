"""Plain appends of a turn: staged stream by stream, and answered with one call.

The reactor has put their records together (``csrc/front/collect.h``), the engine takes them as
they are (:class:`tailrace.rows.Rows`). What either does not take for certain goes the general
way, which gives the reasons. Python runs once for each stream of a turn, never for a request.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Final

import structlog

import tailrace
from tailrace.errors import TailraceError
from tailrace.rows import AppendedRows, Rows
from tailrace_server.engine_bridge import RowsContext
from tailrace_server.fast.answers import Answers, Batch, started
from tailrace_server.fast.append_answer import appended
from tailrace_server.fast.heads import Leader
from tailrace_server.fast.reactor import Columns, Reactor
from tailrace_server.fast.shared import Shared
from tailrace_server.front import InSteps
from tailrace_server.protocol import render

_STATUS: Final = render.appended(appended(1, 0, 1)).status

_log = structlog.get_logger("tailrace.front")


class RowsPending(RowsContext):
    """The rows of one turn while they are staged; see :class:`Columns`."""

    __slots__ = ("counts", "ends", "handles", "leaders", "records")

    def __init__(
        self,
        tell: Callable[[list[tailrace.Ticket]], None],
        columns: Columns,
        leaders: list[Leader],
    ) -> None:
        self.tell = tell
        self.keys = [leader.key for leader in leaders]
        self.requests = len(columns.ends)
        self.counts = columns.counts
        self.records = columns.records
        self.handles = columns.handles
        self.ends = columns.ends
        self.leaders = leaders


class RowsPath:
    """``taken``: how many requests went this way."""

    def __init__(
        self, reactor: Reactor, service: InSteps, shared: Shared, answers: Answers
    ) -> None:
        self._reactor = reactor
        self._service = service
        self._shared = shared
        self._answers = answers
        self._forms = answers.forms
        self._told = self._tell
        """The one bound method, so that contexts have equal ones at no cost."""
        self.taken = 0

    @property
    def is_open(self) -> bool:
        """Whether rows may be taken: nothing is logged of them, and every client stays."""
        return not (self._shared.access_log or self._shared.draining)

    def stage(self, columns: Columns, batch: Batch, began: float) -> list[int]:
        """Stage what the last poll took; indexes of the rows that must go the general way.

        What fails is answered into ``batch``.
        """
        leaders = self._reactor.heads.leaders(columns.lanes)
        pending = RowsPending(self._told, columns, leaders)
        rows = Rows(
            pending.keys,
            [leader.content_type for leader in leaders],
            columns.records,
            columns.lengths,
            columns.payload,
        )
        indexes: list[int] = []
        try:
            left = self._service.stage_rows(rows, pending).left
        except TailraceError as error:
            self._refuse(batch, pending, error, began)
        except Exception:
            # A defect: nobody else of this turn is to wait for ever for it.
            _log.exception("appends failed")
            for handle in _handles(columns.handles):
                self._answers.fail(batch, handle)
        else:
            starts = list(accumulate(columns.counts, initial=0)) if left else []
            for index in left:
                indexes += self._reactor.taken_rows(starts[index], columns.counts[index])
        count = pending.requests - len(indexes)
        counters = self._shared.counters
        counters.requests += count
        counters.body_bytes += columns.body_bytes
        for index in indexes:
            counters.body_bytes -= self._reactor.body_length(index)
        self.taken += count
        return indexes

    def _refuse(self, batch: Batch, pending: RowsPending, error: Exception, began: float) -> None:
        for leader, handle, _, _, _ in _rows(pending):
            known = leader.known
            response = self._service.fault(known, error)
            batch.counts[(known.route, response.status)] += 1
            self._answers.add(batch, handle, known.request, response, False, began)

    def _tell(self, tickets: list[tailrace.Ticket]) -> None:
        """A group is durable, or has failed. On the committing thread."""
        batch = Batch()
        began = started(self._shared)
        for ticket in tickets:
            pending, outcome = ticket.context, ticket.outcome
            assert isinstance(pending, RowsPending)
            if not isinstance(outcome, AppendedRows):
                assert isinstance(ticket.error, Exception)
                self._refuse(batch, pending, ticket.error, began)
                continue
            routes: dict[str, int] = {}
            for leader, count, stream_id in zip(
                pending.leaders, pending.counts, outcome.stream_ids, strict=True
            ):
                if stream_id:
                    route = leader.route
                    routes[route] = routes.get(route, 0) + count
            for route, count in routes.items():
                batch.counts[(route, _STATUS)] += count
            if self.is_open:
                self._answer(batch, pending, outcome)
            else:
                self._answer_singly(batch, pending, outcome.stream_ids, outcome.firsts)
        self._answers.conclude(batch)

    def _answer(self, batch: Batch, pending: RowsPending, outcome: AppendedRows) -> None:
        handles, ends, counts = pending.handles, pending.ends, pending.counts
        stream_ids, firsts = outcome.stream_ids, outcome.firsts
        form = self._forms.of_tail(1)
        if form is not None and max(firsts) + max(pending.records) <= form.last:
            self._reactor.answer_rows(form.form, handles, ends, stream_ids, firsts, counts)
            return
        # Long streams, or no form: each class of tails by itself, and what crosses a border.
        classes: dict[int, array[int]] = {}
        for index, stream_id in enumerate(stream_ids):
            first, last = firsts[index] + 1, firsts[index] + pending.records[index]
            form = self._forms.of_tail(first)
            key = 0 if form is None or last > form.last else form.first
            if key not in classes:
                classes[key] = array("Q", bytes(8 * len(stream_ids)))
            classes[key][index] = stream_id
        for key, those in classes.items():
            form = self._forms.of_tail(key) if key else None
            if form is None:
                self._answer_singly(batch, pending, those, firsts)
            else:
                self._reactor.answer_rows(form.form, handles, ends, those, firsts, counts)

    def _answer_singly(
        self,
        batch: Batch,
        pending: RowsPending,
        stream_ids: Sequence[int],
        firsts: Sequence[int],
    ) -> None:
        """Answer the general way those whose stream id is not 0."""
        began = started(self._shared)
        for leader, handle, stream, begin, end in _rows(pending):
            if stream_ids[stream]:
                first = firsts[stream]
                outcome = appended(stream_ids[stream], first + begin, first + end)
                response = render.appended(outcome)
                self._answers.add(batch, handle, leader.known.request, response, False, began)


def _rows(pending: RowsPending) -> Iterator[tuple[Leader, int, int, int, int]]:
    """Each row: who speaks for its lane, its handle, its stream's index, its records there."""
    rows = zip(_handles(pending.handles), pending.ends, strict=True)
    for stream, (leader, count) in enumerate(zip(pending.leaders, pending.counts, strict=True)):
        begin = 0
        for handle, end in islice(rows, count):
            yield leader, handle, stream, begin, end
            begin = end


def _handles(handles: bytes) -> array[int]:
    found = array("Q")
    found.frombytes(handles)
    return found
