"""The one function every front calls: a request value in, a response value out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
import trio

import tailrace
from tailrace.errors import (
    Corrupted,
    InvalidArgument,
    LogPoisoned,
    Overloaded,
    RecordsLost,
    Rejected,
    StoreClosed,
)
from tailrace.offset import encode_offset
from tailrace.operation import CreateBucket, Operation, StreamKey
from tailrace.outcome import Reason, Rejection
from tailrace.rows import Rows
from tailrace.ticket import RowsTaken
from tailrace_server.config import BUCKETS, ServiceConfig
from tailrace_server.context import (
    Answer,
    Call,
    Context,
    Found,
    Lane,
    LaneStep,
    PageStep,
    PlainPage,
    Planned,
    SeqStep,
    Siblings,
    Step,
    StepWithSeq,
    Wait,
    WholeBody,
    no_session,
)
from tailrace_server.engine_bridge import EngineBridge, GroupContext, RowsContext
from tailrace_server.keys import Grant, KeyRing
from tailrace_server.live import Hub, LiveResponse
from tailrace_server.metrics import Metrics
from tailrace_server.openapi.document import encoded
from tailrace_server.protocol import errors, headers, render
from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.loopback import check_loopback
from tailrace_server.protocol.message import BodyAborted, Request, Response
from tailrace_server.protocol.target import parse_query
from tailrace_server.routes import ROUTES, Match, Route, Router
from tailrace_server.streams.read import plain_pages
from tailrace_server.subscriptions.manager import Subscriptions

__all__ = ["LiveResponse", "Service", "ServiceConfig"]

_BODILESS: Final = frozenset({"GET", "HEAD", "DELETE"})
"""What they may have as a body is not looked at, and so is no coding of it."""

_log = structlog.get_logger("tailrace.service")


@dataclass(slots=True, eq=False)
class Known:
    """A request's head, routed, authorized and understood.

    What it says holds for every request with an equal head, as long as
    :attr:`Service.generation` stays what it is; and, if there is a ``with_seq``, for those with
    another number in ``Producer-Seq``. ``siblings`` tells of those with another target. Compared
    by identity.
    """

    request: Request
    route: str
    grant: Grant
    step: Step
    lane: Lane | None = None
    with_seq: StepWithSeq | None = None
    siblings: Siblings | None = None


class Service:
    """All of the server between request values and the engine."""

    def __init__(
        self,
        store: tailrace.Store,
        config: ServiceConfig,
        keys: KeyRing,
        routes: Sequence[Route] = ROUTES,
    ) -> None:
        bridge = EngineBridge(store)
        hub = Hub(bridge, config)
        metrics = Metrics(
            store.counters,
            lambda: {
                "live_readers": hub.readers,
                "draining": int(hub.draining),
                **subscriptions.figures(),
            },
        )
        subscriptions = Subscriptions(
            bridge,
            metrics.webhooks,
            local_allowed=lambda: config.webhooks_to_localhost or keys.is_open,
            webhook_timeout_s=config.webhook_timeout_s,
            base_url=config.base_url,
        )
        self.context = Context(bridge, config, keys, hub, metrics, subscriptions, encoded)
        self.version = store.version
        """Whether what is :class:`Lasting` still holds."""
        self._router = Router(routes)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect to the store, make the buckets the surfaces live in, and stay connected."""
        context = self.context
        context.bridge.attach()
        context.keys.on_change = context.bridge.wake_all
        try:
            for bucket in BUCKETS:
                outcome = await context.bridge.perform(CreateBucket(bucket))
                if isinstance(outcome, Rejection):
                    assert outcome.reason is Reason.BUCKET_EXISTS
            async with trio.open_nursery() as nursery:
                await nursery.start(context.hub.broadcast.run)
                await nursery.start(context.subscriptions.run)
                task_status.started()
        finally:
            context.keys.on_change = None
            context.bridge.detach()

    async def drain(self) -> None:
        """Graceful stop: live readers and long-polls end, each with a last word where it can."""
        await self.context.hub.drain()

    def check_head(self, request: Request) -> Response | None:
        """What can be refused before the body is read: None if nothing.

        ``request.body`` is ignored; Content-Length is what counts.
        """
        try:
            if request.method != "OPTIONS":
                match, _ = self._admit(request)
                length = request.header(headers.CONTENT_LENGTH)
                if (
                    length is not None
                    and length.isascii()
                    and length.isdigit()
                    and not match.route.streamed
                ):
                    self._check_size(int(length))
        except RequestError as error:
            return error.response()
        return None

    def streams(self, request: Request) -> bool:
        """Whether the request's handler reads the body from ``request.stream``."""
        try:
            return self._router.match(request.method, request.path).route.streamed
        except RequestError:
            return False

    async def handle(self, request: Request) -> Answer:
        """Answer a request. Raises nothing but what cancels it.

        A front may leave a streamed body that it has as a whole in ``request.body``.
        """
        route = "none"
        answer: Answer
        try:
            if request.method == "OPTIONS":
                answer = render.preflight(self._router.allowed(request.path))
            else:
                match, grant = self._admit(request)
                route = match.route.path
                if not match.route.streamed:
                    self._check_size(len(request.body))
                elif request.stream is None:
                    stream = WholeBody(request.body)
                    request = dataclasses.replace(request, body=b"", stream=stream)
                call = Call(request, match.params, parse_query(request.query), grant)
                answer = await match.route.handler(self.context, call)
        except RequestError as error:
            answer = error.response()
        except Exception as error:
            answer = _fault(request, error)
            # Some of the frames it came through hold it, and with it the request's body: they
            # go now, not when the collector comes by.
            error.__traceback__ = None
        self.context.metrics.answered(route, answer.status)
        return answer

    @property
    def generation(self) -> int:
        """Another number whenever :meth:`know` may say something else than before."""
        return self.context.keys.generation

    def know(self, request: Request) -> Known | Response | None:
        """The part of :meth:`handle` that needs no body (``request`` has none) and no waiting.

        A response if the request is refused whatever its body; None if only :meth:`handle`
        can answer it.
        """
        route = "none"
        try:
            if request.method == "OPTIONS":
                return None
            match, grant = self._admit(request)
            route = match.route.path
            if match.route.prepare is None:
                return None
            call = Call(request, match.params, parse_query(request.query), grant)
            step = match.route.prepare(self.context, call)
        except RequestError as error:
            answer = error.response()
        except Exception as error:
            answer = _fault(request, error)
        else:
            if step is None:
                return None
            known = Known(request, route, grant, step)
            if isinstance(step, LaneStep):
                known.lane, step = step.lane, step.step
            if isinstance(step, PageStep):
                known.siblings, step = step.siblings, step.step
            if isinstance(step, SeqStep):
                known.with_seq, step = step.with_seq, step.step
            known.step = step
            return known
        self.context.metrics.answered(route, answer.status)
        return answer

    def plan(self, known: Known, body: bytes, seq: int | None = None) -> Planned | None:
        """What :meth:`handle` would do; None if only it can tell. Responses are not counted.

        ``seq``: the head was ``known``'s but for this number in ``Producer-Seq``.
        """
        if len(body) > self.context.config.body_bytes_max:
            return None
        try:
            if seq is not None and known.with_seq is not None:
                return known.with_seq(body, seq)
            return known.step(body)
        except RequestError as error:
            return error.response()
        except Exception as error:
            return _fault(known.request, error)

    def pages(self, asked: Sequence[tuple[StreamKey, int]]) -> list[PlainPage | None]:
        """What siblings that ask for this get, where it is at hand. Not counted.

        None: plan and answer it as any other request.
        """
        return plain_pages(self.context, asked)

    def look(self, known: Known, wait: Wait, *, over: bool) -> Found | Wait | None:
        """What ``wait``, the plan for ``known``, comes to now; see :class:`Wait`. Not counted.

        ``over``: its time is. May block where :class:`Wait` says so. From any thread.
        """
        try:
            return wait.look(over, known.grant.revoked)
        except RequestError as error:
            answer = error.response()
        except Exception as error:
            answer = _fault(known.request, error)
        return lambda _: answer

    def stage(self, operations: Sequence[Operation], contexts: Sequence[GroupContext]) -> None:
        """Stage what was planned, all at once; each context is told of its own operation.

        Raises as :meth:`tailrace.Store.submit_each`; then nothing was staged.
        """
        self.context.bridge.stage(operations, contexts)

    def stage_rows(self, rows: Rows, context: RowsContext) -> RowsTaken:
        """Stage appends of lanes; the context is told of them all.

        Raises as :meth:`tailrace.Store.submit_rows`; then nothing was staged.
        """
        return self.context.bridge.stage_rows(rows, context)

    def answered(self, route: str, status: int, count: int) -> None:
        """Count answers to what was planned. From any thread."""
        self.context.metrics.answered(route, status, count)

    def fault(self, known: Known, error: Exception) -> Response:
        """The answer to a request whose operation failed, or could not be staged."""
        return _fault(known.request, error)

    def _admit(self, request: Request) -> tuple[Match, Grant]:
        """The route and the grant, or what every request may be refused for."""
        if self.context.config.loopback_only_without_keys and self.context.keys.is_open:
            check_loopback(request)
        found = self._authorize(request)
        takes_body = request.method not in _BODILESS
        coding = request.header(headers.CONTENT_ENCODING) if takes_body else None
        if coding and coding.strip().lower() != "identity":  # RFC 9110 section 8.4
            raise RequestError(
                415,
                errors.UNSUPPORTED_MEDIA_TYPE,
                f"{headers.CONTENT_ENCODING}: a body is stored as it is sent, so it must not be "
                f"compressed, as this one is said to be ({coding[:64]!r})",
                ((headers.ACCEPT_ENCODING, "identity"),),
            )
        return found

    def _authorize(self, request: Request) -> tuple[Match, Grant]:
        """The route and the grant, or the refusal: 404, 405, 401, or 404 for a lack of rights."""
        match = self._router.match(request.method, request.path)
        route = match.route
        grant = self.context.keys.authenticate(request)
        if grant is None:
            if not route.public:
                raise _unauthorized()
            grant = Grant(frozenset(), ())
        session = match.params.get("session")
        needed = route.right
        if needed is not None and session is not None and not grant.allows(needed, session):
            raise no_session(session)
        return match, grant

    def _check_size(self, size: int) -> None:
        limit = self.context.config.body_bytes_max
        if size > limit:
            raise errors.too_large(
                f"body: {size} bytes; at most {limit} fit in one request, split it"
            )


def _unauthorized() -> RequestError:
    return RequestError(
        401,
        errors.AUTHENTICATION,
        "the API key is missing or not known; send it as 'Authorization: Bearer KEY' or "
        "'x-api-key: KEY'",
        ((headers.WWW_AUTHENTICATE, 'Bearer realm="tailrace"'),),
    )


def _fault(request: Request, error: Exception) -> Response:
    """The answer to what is no fault of the request; the log has the rest of the story."""
    where = {"method": request.method, "path": request.path[:500]}
    if isinstance(error, BodyAborted):
        return error.answer
    if isinstance(error, Overloaded):
        return errors.overloaded(str(error), error.retry_after_s).response()
    if isinstance(error, InvalidArgument):
        return errors.bad_request(error.field, error.message).response()
    if isinstance(error, Rejected):
        return render.rejection(error.rejection)
    if isinstance(error, LogPoisoned):
        _log.error("log_poisoned", error=str(error), **where)
        return errors.error_response(
            503,
            errors.UNAVAILABLE,
            "a write to disk failed, so this server accepts no more writes until it is "
            "restarted; what was acknowledged before is safe",
        )
    if isinstance(error, StoreClosed):
        return errors.overloaded("the server is stopping", 1).response()
    if isinstance(error, RecordsLost):
        first, stop = encode_offset(error.first), encode_offset(error.stop)
        return errors.error_response(
            410,
            errors.RECORDS_LOST,
            f"offset: what was from {first} on was damaged on disk and given up by 'tailrace "
            f"repair'; the stream goes on at {stop}",
            ((headers.STREAM_NEXT_OFFSET, stop),),
        )
    if isinstance(error, Corrupted):
        _log.error("corrupted", error=str(error), stream=error.stream, **where)
        return errors.error_response(
            500,
            errors.CORRUPTED,
            f"stored data of stream {error.stream or 'unknown'} is damaged ({error.file} at "
            f"position {error.position}); run 'tailrace check'",
        )
    _log.error("internal_error", exc_info=error, **where)
    return errors.error_response(
        500, errors.INTERNAL, "the server failed on this request; its log says why"
    )
