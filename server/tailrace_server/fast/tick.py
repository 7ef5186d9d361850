"""One turn of the vectorized front: read all that has come, decide on it, stage it, answer it.

Everything is decided by the service, in the same steps as a single request's. What the
service cannot tell without waiting, and what the reactor does not take for certain, is
handed over: the connection, with its bytes, to a task that can do everything.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import Any, Final, NamedTuple

import structlog

from tailrace.errors import TailraceError
from tailrace.limits import MIB
from tailrace_server.context import Lasting, PlainPage, Plan, Planned, Wait
from tailrace_server.fast.answers import Answers, Batch, Pending, started
from tailrace_server.fast.heads import HEAD_BYTES_MAX, key_of
from tailrace_server.fast.kept import KeptAnswers
from tailrace_server.fast.pages import PagesPath
from tailrace_server.fast.parked import Parked
from tailrace_server.fast.reactor import METHODS, Reactor
from tailrace_server.fast.rows import RowsPath
from tailrace_server.fast.shared import Shared
from tailrace_server.fast.turn import HANDOVER, HEAD, REFUSED, REQUEST, Row, Taken
from tailrace_server.front import InSteps, Refusal, refuse_host, split_target
from tailrace_server.protocol import headers
from tailrace_server.protocol.message import HeaderList, Request, Response
from tailrace_server.service import Known

_HOST: Final = headers.HOST.lower()
_NUMBER: Final = Row._fields.index("number")
_FIELDS_MAX: Final = 256
"""How many lists of header fields are kept, each of at most as many bytes as a kept head."""

LARGE_BYTES_MAX: Final = 4 * MIB
"""With so much in large answers a turn leaves other reads to the next; small ones go out first."""

_log = structlog.get_logger("tailrace.front")


class _Later(NamedTuple):
    """A read that was left to a later turn. ``data`` is all of its request."""

    handle: int
    known: Known
    data: bytes
    close: bool
    began: float


class Tick:
    """``hand_over`` gets a connection and the bytes it begins with, ``refuse`` a descriptor."""

    def __init__(
        self,
        reactor: Reactor,
        service: InSteps,
        shared: Shared,
        answers: Answers,
        parked: Parked,
        *,
        hand_over: Callable[[Taken, bytes], None],
        refuse: Callable[[int], None],
    ) -> None:
        self._reactor = reactor
        self._service = service
        self._shared = shared
        self._answers = answers
        self._parked = parked
        self._hand_over = hand_over
        self._refuse = refuse
        # Equal bytes mean the same: what is kept follows from the head alone.
        self._heads = reactor.heads
        self._generation = service.generation
        self._rows = RowsPath(reactor, service, shared, answers)
        self._kept = KeptAnswers(service, shared, answers)
        self._heads_kept = 0
        self._pages = PagesPath(service, shared, answers)
        # A client says the same fields of all that it asks for.
        self._fields: dict[bytes, HeaderList] = {}
        self._later: deque[_Later] = deque()

    @property
    def heads_kept(self) -> int:
        """How many requests came with a head that was known already."""
        return self._heads_kept + self._rows.taken

    @property
    def rows_taken(self) -> int:
        """How many requests were staged as rows."""
        return self._rows.taken

    def figures(self) -> dict[str, int]:
        """What is remembered of requests, and how often that was of use."""
        return {
            "heads_kept": self.heads_kept,
            "rows_taken": self.rows_taken,
            "pages_taken": self._pages.taken,
            "kept_answers": len(self._kept),
            "kept_bytes": self._kept.bytes,
        }

    def run(self, room: int) -> bool:
        """Do what there is to do; whether something was left to the next turn.

        ``room`` is for how many connections there are places.
        """
        if self._generation != self._service.generation:
            self._generation = self._service.generation
            self._heads.forget_all()
            self._pages.forget_all()
        arena, rows, accept_error = self._reactor.poll(room, take=self._rows.is_open)
        if accept_error:
            _log.error("cannot accept", reason=os.strerror(accept_error), code=accept_error)
        batch = Batch()
        contexts: list[Pending] = []
        began = started(self._shared)
        self._kept.begin()
        self._go_on(batch)
        columns = self._reactor.columns()
        if columns is not None:
            left = self._rows.stage(columns, batch, began)
            if left:
                arena = self._reactor.arena()
                rows = chain(rows, map(self._reactor.row, left))
        for fields in rows:
            handle, kind = fields[0], fields[1]
            if kind == REQUEST:
                self._safely(fields, arena, batch, contexts, began)
            elif kind == HANDOVER:
                self._give(handle, b"")
            elif kind == HEAD:
                if self._needs_no_body(Row._make(fields), arena):
                    self._give(handle, b"")
            elif kind == REFUSED:
                self._refuse(handle)
            else:
                self._parked.left(handle, kind)
        for fields in self._pages.answer(batch):
            self._safely(fields, arena, batch, contexts, began, alone=True)
        self._parked.settle()
        if contexts:
            self._stage(batch, contexts)
        if batch.handles or batch.large:
            self._answers.send(batch)
            self._answers.log(batch)
        self._heads.settle()
        return bool(self._later)

    def _safely(
        self,
        fields: tuple[Any, ...],
        arena: bytes,
        batch: Batch,
        contexts: list[Pending],
        began: float,
        *,
        alone: bool = False,
    ) -> None:
        """See :meth:`_request`: one request's failure must not become everybody's.

        Unless it is to go ``alone``, a read may be put aside to be answered with others.
        """
        try:
            if alone or fields[_NUMBER] or not self._pages.take(fields, arena):
                self._request(fields, arena, batch, contexts, began)
        except Exception:
            _log.exception("request failed")
            self._answers.fail(batch, fields[0])

    def _request(
        self,
        fields: tuple[Any, ...],
        arena: bytes,
        batch: Batch,
        contexts: list[Pending],
        began: float,
    ) -> None:
        """Answer one request, park it, give it away, or put what it stages into ``contexts``."""
        handle, _, _, keep_alive, head, head_length, body_length = fields[:7]
        length_at, length_size, seq_at, seq_size, number = fields[11:16]
        counters = self._shared.counters
        body_at = head + head_length
        end = body_at + body_length
        known: Known | None
        if number:
            known = self._heads.by_number(number)
            self._heads_kept += 1
        else:
            holes = (length_at, length_size), (seq_at, seq_size)
            key = key_of(arena[head:body_at], holes)
            known = self._heads.fresh(key)
            if known is None:
                learned = self._learn(key, arena, Row._make(fields))
                if learned is None:
                    self._give(handle, arena[head:end])
                    return
                if not isinstance(learned, Known):
                    request, response = learned
                    counters.requests += 1
                    self._answers.add(batch, handle, request, response, not keep_alive, began)
                    return
                known = learned
            else:
                self._heads_kept += 1
        if keep_alive and not body_length and self._kept.answer(batch, handle, known, began):
            counters.requests += 1
            return
        method = known.request.method
        if batch.large_bytes >= LARGE_BYTES_MAX and method == "GET" and not body_length:
            self._later.append(_Later(handle, known, arena[head:end], not keep_alive, began))
            return
        if seq_size:
            seq_at += head
            seq = int(arena[seq_at : seq_at + seq_size])
            plan = self._service.plan(known, arena[body_at:end], seq)
        else:
            plan = self._service.plan(known, arena[body_at:end])
        if plan is None:
            self._give(handle, arena[head:end])
            return
        counters.requests += 1
        counters.body_bytes += body_length
        if type(plan) is Plan:
            contexts.append(Pending(self._answers.tell, handle, known, plan, not keep_alive, began))
        else:
            self._answer(batch, handle, known, plan, not keep_alive, began, lone=not body_length)

    def _go_on(self, batch: Batch) -> None:
        """Answer what the last turn left."""
        while self._later and batch.large_bytes < LARGE_BYTES_MAX:
            handle, known, data, close, began = self._later.popleft()
            try:
                plan = self._service.plan(known, b"")
                if plan is None:
                    self._give(handle, data)
                    continue
                self._shared.counters.requests += 1
                self._answer(batch, handle, known, plan, close, began, lone=True)
            except Exception:
                _log.exception("request failed")
                self._answers.fail(batch, handle)

    def _answer(
        self,
        batch: Batch,
        handle: int,
        known: Known,
        plan: Planned,
        close: bool,
        began: float,
        *,
        lone: bool,
    ) -> None:
        """Answer what stages nothing, or park it. ``lone``: the request has no body."""
        if type(plan) is PlainPage:
            short = not (close or self._shared.access_log or self._shared.draining)
            if short and (found := self._pages.forms.answer(plan)) is not None:
                self._answers.put(batch, handle, *found, 0)
                batch.counts[(known.route, 200)] += 1
            else:
                self._respond(batch, handle, known, plan.response(), close, began)
        elif isinstance(plan, Lasting):
            data = self._respond(batch, handle, known, plan.response, close, began)
            if lone and not close and data is not None:
                self._kept.keep(known, plan, data)
        elif type(plan) is Wait:
            self._parked.add(handle, known, plan, close, began)
        else:
            assert isinstance(plan, Response)
            self._respond(batch, handle, known, plan, close, began)

    def _respond(
        self,
        batch: Batch,
        handle: int,
        known: Known,
        response: Response,
        close: bool,
        began: float,
    ) -> bytes | None:
        batch.counts[(known.route, response.status)] += 1
        return self._answers.add(batch, handle, known.request, response, close, began)

    def _stage(self, batch: Batch, contexts: list[Pending]) -> None:
        try:
            self._service.stage([context.plan.operation for context in contexts], contexts)
        except TailraceError as error:
            for context in contexts:
                response = self._service.fault(context.known, error)
                self._respond(
                    batch, context.handle, context.known, response, context.close, context.started
                )

    def _give(self, handle: int, data: bytes) -> None:
        taken = self._reactor.take(handle)
        if taken is not None:  # else its client has left
            self._hand_over(taken, data)

    def _needs_no_body(self, row: Row, arena: bytes) -> bool:
        """Whether a request may be answered before all of its body is there."""
        service = self._service
        try:
            request = self._request_of(row, arena)
            return (
                request is None
                or service.check_head(request) is not None
                or service.streams(request)
            )
        except Exception:
            # As in run(). Whoever gets the connection fails with it alone.
            _log.exception("request failed")
            return True

    def _learn(self, key: bytes, arena: bytes, row: Row) -> Known | tuple[Request, Response] | None:
        """What a head means; None if it is for another to say."""
        request = self._request_of(row, arena)
        if request is None:
            return None
        found = self._service.know(request)
        if found is None:
            return None
        if isinstance(found, Response):
            return request, found
        if not row.seq_value_length or found.with_seq is not None:
            self._heads.learn(key, found)
            head = arena[row.head : row.head + row.head_length]
            self._pages.lead(head, head[row.target + row.target_length :], found)
        return found

    def _request_of(self, row: Row, arena: bytes) -> Request | None:
        """A head as a request without a body; None if it is one to refuse."""
        begin = row.head + row.target
        end = begin + row.target_length
        behind = arena[end : row.head + row.head_length]
        fields = self._fields.get(behind)
        if fields is None:
            fields = self._read_fields(arena, row)
            if fields is None:
                return None
            if len(behind) <= HEAD_BYTES_MAX:
                if len(self._fields) >= _FIELDS_MAX:
                    self._fields.clear()
                self._fields[behind] = fields
        method = METHODS[row.method]
        place = split_target(method, arena[begin:end].decode("ascii"), self._shared.limits)
        return None if isinstance(place, Refusal) else Request(method, *place, fields, b"")

    def _read_fields(self, arena: bytes, row: Row) -> HeaderList | None:
        """A head's fields, which follow from the bytes behind its target; None for a bad Host."""
        fields = []
        hosts = []
        head = arena[row.head : row.head + row.head_length].decode("ascii")
        for name_at, name_length, value_at, value_length in self._reactor.fields(row):
            name = head[name_at : name_at + name_length].lower()
            value = head[value_at : value_at + value_length]
            fields.append((name, value))
            if name == _HOST:
                hosts.append(value)
        return None if refuse_host(hosts, required=True) is not None else tuple(fields)
