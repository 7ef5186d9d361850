"""What every handler gets: the server's parts, and the call at hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

import trio

import tailrace
from tailrace.limits import KIB
from tailrace.operation import Append, Producer, StreamKey
from tailrace.outcome import Outcome
from tailrace_server.config import SESSIONS_BUCKET, ServiceConfig
from tailrace_server.engine_bridge import EngineBridge
from tailrace_server.keys import Grant, KeyRing
from tailrace_server.live import Hub, LiveResponse
from tailrace_server.metrics import Metrics
from tailrace_server.protocol import stream_response
from tailrace_server.protocol.errors import NOT_FOUND, RequestError
from tailrace_server.protocol.message import BodyStream, Request, Response
from tailrace_server.protocol.target import Query
from tailrace_server.subscriptions.manager import Subscriptions

Answer = Response | LiveResponse


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of a running server."""

    bridge: EngineBridge
    config: ServiceConfig
    keys: KeyRing
    hub: Hub
    metrics: Metrics
    subscriptions: Subscriptions
    # The table of routes, whose handlers get this, is what the document is made from.
    openapi: Callable[[], bytes]
    # Changing metadata reads, merges and writes; one at a time, so that none is lost.
    metadata_lock: trio.Lock = field(default_factory=trio.Lock)

    @property
    def store(self) -> tailrace.Store:
        return self.bridge.store


@dataclass(slots=True)
class Call:
    """One authenticated, routed request. ``params`` are the decoded parts of its path."""

    request: Request
    params: Mapping[str, str]
    query: Query
    grant: Grant


class WholeBody(BodyStream):
    """The stream of a body that has come already."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def receive(self) -> bytes:
        data, self._data = self._data, b""
        return data


Handler = Callable[[Context, Call], Awaitable[Answer]]


class Plan(NamedTuple):
    """An append to stage. ``answer`` makes the response to its outcome, on any thread.

    ``plain``: the answer to an :class:`~tailrace.outcome.Appended` is ``render.appended``'s.
    """

    operation: Append
    answer: Callable[[Outcome], Response]
    plain: bool


class PlainPage(NamedTuple):
    """Records for a GET without conditions, of a stream that does not expire.

    They do not reach the end of a closed stream, so the response says where they end and no more.
    """

    result: tailrace.ReadPieces
    private: bool

    def response(self) -> Response:
        return stream_response.page(
            self.result, if_none_match=None, private=self.private, expires_in_ms=None
        )


class Lasting(NamedTuple):
    """A response that every request with an equal head, and no body, gets for some time.

    It holds as long as ``key`` has this ``version``; see :meth:`tailrace.Store.version`.
    """

    response: Response
    key: StreamKey
    version: object


Found = Callable[[int], Response]
"""The answer to a long-poll, given the cursor that it is to tell."""


class Wait(NamedTuple):
    """A long-poll of the stream that ``head`` shows, from ``start`` on (protocol section 5.7).

    ``look(over, revoked)`` says what there is to answer now, None if nothing. ``over``: the time
    to wait is over; ``revoked``: the request's key is. If what came is not for this client, it is
    another wait from further on, which is to be looked at once. It reads from ``start``, so it may
    block unless that is near (:meth:`EngineBridge.is_near`). Raises as a handler does.

    Waits for one stream that are equal in ``same`` get the same answers. ``cursor`` is the
    client's.
    """

    hub: Hub
    head: tailrace.Head
    start: int
    same: Hashable
    cursor: int | None
    look: Callable[[bool, bool], Found | Wait | None]


Planned = Plan | Wait | Response | PlainPage | Lasting

Step = Callable[[bytes], Planned | None]
"""What to do for a request with this body, decided without waiting for anything.

None if that takes waiting: then the route's handler answers. Raises as the handler does.
"""


StepWithSeq = Callable[[bytes, int], Planned | None]
"""The same, given the number (0 to 2^53 - 1) in ``Producer-Seq`` as well."""


class Lane(NamedTuple):
    """Appends that say nothing but their records: to one stream, and of one producer or nobody.

    A body of at most ``body_bytes_max`` bytes that is one record, or JSON (``is_json``) with 1 to
    ``records_max`` records, needs no step: the records are appended, and ``render.appended`` is
    the answer. All other bodies need the step. ``producer`` is an id and its epoch.
    """

    key: StreamKey
    content_type: str
    is_json: bool
    body_bytes_max: int
    records_max: int
    producer: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class LaneStep:
    """A step that most bodies of a lane do without; of a producer's lane, a :class:`SeqStep`."""

    step: Step
    lane: Lane

    def __call__(self, body: bytes) -> Planned | None:
        return self.step(body)


@dataclass(frozen=True, slots=True)
class SeqStep:
    """The step of all heads that differ in the number of ``Producer-Seq`` alone: ``with_seq``.

    ``step`` is that with the number of the head that it was prepared for.
    """

    step: Step
    with_seq: StepWithSeq

    def __call__(self, body: bytes) -> Planned | None:
        return self.step(body)


Siblings = Callable[[str, str], tuple[StreamKey, int] | None]
"""Path and query of a GET, whose other bytes are those of a known one → the records it asks for.

That is a stream and the first ordinal. None if it asks for anything else, or its key may not.
"""


@dataclass(frozen=True, slots=True)
class PageStep:
    """The step of a catch-up read without conditions, and what heads like its own ask for."""

    step: Step
    siblings: Siblings

    def __call__(self, body: bytes) -> Planned | None:
        return self.step(body)


AppendStep = Callable[[Producer | None, bytes], Plan]
"""The step of an append whose producer is still to be filled in."""


def producer_step(step: AppendStep, producer: Producer | None) -> Step:
    """``step`` for the producer that a head names, if it names one."""
    if producer is None:
        return partial(step, None)
    identity, epoch, _ = producer
    return SeqStep(
        partial(step, producer), lambda body, seq: step(Producer(identity, epoch, seq), body)
    )


Prepare = Callable[[Context, Call], Step | None]
"""The part of a handler that needs no body. None: the handler has to do it all."""


def staged(prepare: Callable[[Context, Call], Callable[[bytes], Plan]]) -> Handler:
    """The handler that does what ``prepare`` and its step say."""

    async def handler(context: Context, call: Call) -> Answer:
        plan = prepare(context, call)(call.request.body)
        return plan.answer(await context.bridge.perform(plan.operation))

    return handler


LASTING_BYTES_MAX: Final = 16 * KIB
"""Larger responses are not kept."""


class LastingStep:
    """A step that gives what ``look`` does, which depends on the head and the stream alone.

    From the second time on that is said to be :class:`Lasting`: most reads are asked only once.
    """

    __slots__ = ("_key", "_look", "_version", "again")

    def __init__(
        self, context: Context, key: StreamKey, look: Callable[[], Response | PlainPage | None]
    ) -> None:
        self._version = context.store.version
        self._key = key
        self._look = look
        self.again = False

    def __call__(self, _body: bytes) -> Response | PlainPage | Lasting | None:
        if not self.again:
            self.again = True
            return self._look()
        version = self._version(self._key)
        found = self._look()
        if found is None or version is None:
            return found
        if isinstance(found, PlainPage):
            if sum(map(len, found.result.pieces)) > LASTING_BYTES_MAX:
                return found
            response = found.response()
        else:
            response = found
        return Lasting(response, self._key, version)


async def wait_for(wait: Wait, grant: Grant) -> Response:
    """The answer to a long-poll that waits in a task. Raises as its handler does."""
    hub, head = wait.hub, wait.head
    deadline = trio.current_time() + hub.patience_s
    with hub.reader(head.stream_id) as subscription:
        while True:
            look = partial(wait.look, trio.current_time() >= deadline, grant.revoked)
            found = await hub.bridge.near(head.key, wait.start, look)
            if isinstance(found, Wait):
                wait = found
                await trio.lowlevel.checkpoint()
            elif found is not None:
                return found(hub.cursor(wait.cursor))
            else:
                await hub.wait(subscription, head, deadline)


def session_key(session: str) -> StreamKey:
    return StreamKey(SESSIONS_BUCKET, session)


def no_session(session: str) -> RequestError:
    """The one 404 for a session that is not there and for one that is not the caller's."""
    return RequestError(
        404,
        NOT_FOUND,
        f"there is no session {session!r} for this key; a session begins with its first event",
    )
