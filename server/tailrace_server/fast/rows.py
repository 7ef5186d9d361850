"""Plain appends of a turn, and producers': staged in groups, and answered with one call.

The reactor has put their records together by lane (``csrc/front/collect.h``), and the engine
takes them as they are (:class:`tailrace.rows.Rows`). What either is not certain of goes the
general way, which knows the reasons. Python runs once for each turn, and once for each append of
a producer.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Any

import structlog

import tailrace
from tailrace.errors import TailraceError
from tailrace.operation import Producer
from tailrace.outcome import Appended
from tailrace.rows import AppendedRows, Rows
from tailrace_server.engine_bridge import RowsContext
from tailrace_server.fast.answers import Answers, Batch, started
from tailrace_server.fast.append_answer import STATUS, appended
from tailrace_server.fast.heads import Leader
from tailrace_server.fast.reactor import Reactor
from tailrace_server.fast.shared import Shared
from tailrace_server.fast.turn import Columns
from tailrace_server.front import InSteps
from tailrace_server.protocol import render
from tailrace_server.service import Known

_log = structlog.get_logger("tailrace.front")


class RowsPending(RowsContext):
    """The rows of one turn while they are staged; see :class:`Columns`.

    ``producers`` has the producer of each group, or None; it is empty if no group has one.
    """

    __slots__ = (
        "content_types", "counts", "ends", "epochs", "handles", "kinds", "known", "producers",
        "records", "seqs",
    )  # fmt: skip
    content_types: tuple[str, ...]
    kinds: tuple[tuple[str, bool], ...]
    known: tuple[Known, ...]

    def __init__(
        self,
        tell: Callable[[list[tailrace.Ticket]], None],
        columns: Columns,
        leaders: list[Leader],
    ) -> None:
        self.tell = tell
        whose: tuple[tuple[str, int] | None, ...]
        of_leaders: Iterator[Any] = zip(*leaders, strict=True)
        self.keys, self.content_types, self.kinds, self.known, whose = of_leaders
        self.requests = len(columns.ends)
        self.counts = columns.counts
        self.records = columns.records
        self.handles = columns.handles
        self.ends = columns.ends
        self.seqs = columns.seqs
        self.producers: list[Producer | None] = []
        if any(whose):
            self.producers = [
                None if one is None else Producer(*one, seq)
                for one, seq in zip(whose, columns.seqs, strict=True)
            ]
            self.epochs = array("Q", [0 if one is None else one[1] for one in whose])
        else:
            self.epochs = columns.seqs  # zeros

    def taken(self, outcome: AppendedRows) -> dict[tuple[str, bool], int]:
        """How many rows of each kind were taken."""
        kinds, stream_ids = self.kinds, outcome.stream_ids
        if len(set(kinds)) == 1 and 0 not in stream_ids:
            return {kinds[0]: self.requests}
        counts: dict[tuple[str, bool], int] = {}
        for kind, count, stream_id in zip(kinds, self.counts, stream_ids, strict=True):
            if stream_id:
                counts[kind] = counts.get(kind, 0) + count
        return counts

    def outcome(self, group: int, stream_id: int, base: int, tail: int) -> Appended:
        """What one row of a group came to."""
        found = appended(stream_id, base, tail)
        producer = self.producers[group] if self.producers else None
        if producer is None:
            return found
        return found._replace(producer_epoch=producer.epoch, producer_seq=producer.seq)


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
        """One bound method for all contexts, which are told together if theirs are equal."""
        self.taken = 0

    @property
    def is_open(self) -> bool:
        """Whether rows may be taken: not while there is an access log, or clients are to leave."""
        return not (self._shared.access_log or self._shared.draining)

    def stage(self, columns: Columns, batch: Batch, began: float) -> list[int]:
        """Stage what the last poll took; indexes of the rows that must go the general way.

        What fails is answered into ``batch``.
        """
        leaders = self._reactor.heads.leaders(columns.lanes)
        pending = RowsPending(self._told, columns, leaders)
        rows = Rows(
            pending.keys,
            pending.content_types,
            columns.records,
            columns.lengths,
            columns.payload,
            pending.producers,
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
        for known, handle, _, _, _ in _rows(pending):
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
            for (route, by_producer), count in pending.taken(outcome).items():
                self._service.answered(route, STATUS[by_producer], count)
            if self.is_open:
                self._answer(batch, pending, outcome)
            else:
                self._answer_singly(batch, pending, outcome.stream_ids, outcome.firsts)
        self._answers.conclude(batch)

    def _answer(self, batch: Batch, pending: RowsPending, outcome: AppendedRows) -> None:
        stream_ids, firsts = outcome.stream_ids, outcome.firsts
        forms = self._forms.of_tail(1)
        if forms is not None and max(firsts) + max(pending.records) > forms.last:
            forms = None  # there are long streams
        if forms is not None and not pending.producers:
            self._fill(forms.plain_in_c, pending, stream_ids, firsts)
            return
        # Each kind of answer by itself; 0: none, for what is to be answered the general way.
        kinds: dict[tuple[int, bool], array[int]] = {}
        for group, stream_id in enumerate(stream_ids):
            kind = 1 if forms is not None else self._class_of(pending, group, firsts[group])
            key = kind, bool(pending.producers) and pending.producers[group] is not None
            if key not in kinds:
                kinds[key] = array("Q", bytes(8 * len(stream_ids)))
            kinds[key][group] = stream_id
        for (kind, by_producer), those in kinds.items():
            forms = self._forms.of_tail(kind) if kind else None
            if forms is None:
                self._answer_singly(batch, pending, those, firsts)
            else:
                form = forms.of_producer_in_c if by_producer else forms.plain_in_c
                self._fill(form, pending, those, firsts)

    def _class_of(self, pending: RowsPending, group: int, first: int) -> int:
        """A tail in the class of all tails that the group's answers tell; 0 if there is none."""
        forms = self._forms.of_tail(first + 1)
        if forms is None or first + pending.records[group] > forms.last:
            return 0
        return forms.first

    def _fill(
        self, form: Any, pending: RowsPending, stream_ids: array[int], firsts: array[int]
    ) -> None:
        self._reactor.answer_rows(
            form,
            pending.handles,
            pending.ends,
            stream_ids,
            firsts,
            pending.epochs,
            pending.seqs,
            pending.counts,
        )

    def _answer_singly(
        self,
        batch: Batch,
        pending: RowsPending,
        stream_ids: Sequence[int],
        firsts: Sequence[int],
    ) -> None:
        """Answer the general way those whose stream id is not 0."""
        began = started(self._shared)
        for known, handle, group, begin, end in _rows(pending):
            if stream_ids[group]:
                first = firsts[group]
                outcome = pending.outcome(group, stream_ids[group], first + begin, first + end)
                response = render.appended(outcome)
                self._answers.add(batch, handle, known.request, response, False, began)


def _rows(pending: RowsPending) -> Iterator[tuple[Known, int, int, int, int]]:
    """Each row: what its head means, its handle, its group, its records there."""
    rows = zip(_handles(pending.handles), pending.ends, strict=True)
    for group, (known, count) in enumerate(zip(pending.known, pending.counts, strict=True)):
        begin = 0
        for handle, end in islice(rows, count):
            yield known, handle, group, begin, end
            begin = end


def _handles(handles: bytes) -> array[int]:
    found = array("Q")
    found.frombytes(handles)
    return found
