"""Answers to requests that the reactor read: rendered here, sent many with one call.

What a disk sync made known is answered on the committing thread: rendering touches nothing
but values, and the client need not wait until the Trio thread has its turn.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import trio

import tailrace
from tailrace.limits import KIB
from tailrace.outcome import Appended
from tailrace_server.context import Plan
from tailrace_server.engine_bridge import GroupContext
from tailrace_server.fast import writer
from tailrace_server.fast.append_answer import AppendForms, plain_status
from tailrace_server.fast.reactor import Reactor
from tailrace_server.fast.shared import Shared
from tailrace_server.fast.turn import CLOSE
from tailrace_server.front import InSteps, failed
from tailrace_server.protocol.message import Chunk, Request, Response
from tailrace_server.service import Known

JOINED_BYTES_MAX: Final = 32 * KIB
"""The body of a larger answer is sent from where it stands, by a call of its own."""


class Pending(GroupContext):
    """A request whose operation is staged."""

    __slots__ = ("close", "handle", "known", "plan", "started")

    def __init__(
        self,
        tell: Callable[[list[tailrace.Ticket]], None],
        handle: int,
        known: Known,
        plan: Plan,
        close: bool,
        started: float,
    ) -> None:
        self.tell = tell
        self.key = plan.operation.key
        self.handle = handle
        self.known = known
        self.plan = plan
        self.close = close
        self.started = started


@dataclass(slots=True)
class Line:
    """What the access log will say."""

    request: Request
    status: int
    sent: int
    started: float
    peer: str


@dataclass(slots=True)
class Batch:
    """Answers for one call; and ``large`` ones, each a handle, what to send, and its flags."""

    handles: list[int] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    flags: bytearray = field(default_factory=bytearray)
    large: list[tuple[int, tuple[Chunk, ...], int]] = field(default_factory=list)
    large_bytes: int = 0
    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    lines: list[Line] = field(default_factory=list)


class Answers:
    """Renders and sends. For any thread, but each batch for one."""

    def __init__(self, reactor: Reactor, service: InSteps, shared: Shared) -> None:
        self._reactor = reactor
        self._service = service
        self._shared = shared
        self.forms = AppendForms()
        self._token = trio.lowlevel.current_trio_token()
        self.tell = self._tell
        """One bound method for all contexts, which are told together if theirs are equal."""
        self.on_sent: Callable[[], None] | None = None
        """Called in the Trio thread after a batch was sent while the front drains."""

    def add(
        self,
        batch: Batch,
        handle: int,
        request: Request,
        response: Response,
        close: bool,
        started: float,
    ) -> bytes | None:
        """Put one answer into the batch. The bytes that will be sent; None if it is large."""
        close = close or self._shared.draining
        start, body, length = writer.whole_or_500(
            response, request.method, close=close, http_10=False
        )
        data = self.put(batch, handle, start, body, length, CLOSE if close else 0)
        if self._shared.access_log:
            length = sum(len(piece) for piece in response.body)
            self.note(batch, handle, request, response.status, length, started)
        return data

    def put(
        self,
        batch: Batch,
        handle: int,
        start: bytes,
        body: tuple[Chunk, ...],
        length: int,
        flags: int,
    ) -> bytes | None:
        """The same for a head and a body of ``length``, which goes without a line in the log."""
        if length > JOINED_BYTES_MAX:
            batch.large_bytes += length
            batch.large.append((handle, (start, *body), flags))
            return None
        data = b"".join((start, *body)) if body else start
        batch.handles.append(handle)
        batch.pieces.append(data)
        batch.flags.append(flags)
        return data

    def note(
        self, batch: Batch, handle: int, request: Request, status: int, sent: int, started: float
    ) -> None:
        """Put a line for the access log into the batch."""
        batch.lines.append(Line(request, status, sent, started, self._reactor.peer(handle)))

    def fail(self, batch: Batch, handle: int) -> None:
        """Put the answer to a request that could not even be looked at into the batch."""
        batch.handles.append(handle)
        batch.pieces.append(writer.joined(failed().response(), "GET", close=True))
        batch.flags.append(CLOSE)

    def send(self, batch: Batch) -> None:
        """Tell of what is in the batch, so that who is answered has been counted, and send it."""
        for (route, status), count in batch.counts.items():
            self._service.answered(route, status, count)
        if batch.handles:
            self._reactor.answer(batch.handles, batch.pieces, bytes(batch.flags))
        for handle, pieces, flags in batch.large:
            self._reactor.answer_pieces(handle, pieces, flags)

    def _tell(self, tickets: list[tailrace.Ticket]) -> None:
        """A group is durable, or has failed. On the committing thread."""
        batch = Batch()
        handles, pieces, flags, counts = batch.handles, batch.pieces, batch.flags, batch.counts
        answer = self.forms.answer
        short = not (self._shared.access_log or self._shared.draining)
        for ticket in tickets:
            pending, outcome = ticket.context, ticket.outcome
            assert isinstance(pending, Pending)
            plan = pending.plan
            if (
                short
                and type(outcome) is Appended
                and plan.plain
                and not pending.close
                and (status := plain_status(outcome))
                and (data := answer(outcome)) is not None
            ):
                handles.append(pending.handle)
                pieces.append(data)
                flags.append(0)
                counts[(pending.known.route, status)] += 1
                continue
            response = self._response(pending, ticket)
            counts[(pending.known.route, response.status)] += 1
            self.add(
                batch,
                pending.handle,
                pending.known.request,
                response,
                pending.close,
                pending.started,
            )
        self.conclude(batch)

    def conclude(self, batch: Batch) -> None:
        """Send a batch from the committing thread."""
        self.send(batch)
        if batch.lines or self._shared.draining:
            try:
                self._token.run_sync_soon(self._sent, batch)
            except trio.RunFinishedError:
                pass  # nobody reads that log any more

    def _response(self, pending: Pending, ticket: tailrace.Ticket) -> Response:
        try:
            if ticket.error is not None:
                raise ticket.error
            assert ticket.outcome is not None
            return pending.plan.answer(ticket.outcome)
        except Exception as error:
            return self._service.fault(pending.known, error)

    def _sent(self, batch: Batch) -> None:
        self.log(batch)
        if self.on_sent is not None:
            self.on_sent()

    def log(self, batch: Batch) -> None:
        """Write the batch's lines. In the Trio thread."""
        for line in batch.lines:
            self._shared.log_request(line.request, line.status, line.sent, line.started, line.peer)


def started(shared: Shared) -> float:
    return time.perf_counter() if shared.access_log else 0.0
