"""POST of a session's events: request → operation → response.

:func:`plan` and :func:`answer` are plain functions, so that a front may stage many requests
at once and answer a whole group after its sync; :func:`post_events` is the same for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import trio

from tailrace.limits import KIB
from tailrace.operation import Append, StreamOptions
from tailrace.outcome import Appended, Outcome, Reason, Rejection
from tailrace_server.config import ServiceConfig
from tailrace_server.context import Answer, Call, Context, no_session, session_key
from tailrace_server.protocol import errors, headers, parse, render, session_query, views
from tailrace_server.protocol.errors import RequestError, bad_request
from tailrace_server.protocol.events import EventStamp, parse_events
from tailrace_server.protocol.message import Request, Response
from tailrace_server.protocol.target import Query

INLINE_BODY_BYTES_MAX: Final = 256 * KIB
"""Larger bodies are taken apart in a worker thread: the event loop has others to serve."""

SESSION_OPTIONS: Final = StreamOptions(content_type="application/json", searchable=True)


@dataclass(frozen=True, slots=True)
class AppendPlan:
    """An append that can be staged. ``stamp`` is None when it only closes."""

    operation: Append
    stamp: EventStamp | None
    session: str
    managed_agents: bool


def plan(request: Request, query: Query, session: str, config: ServiceConfig) -> AppendPlan:
    """What the request asks of the engine; RequestError if it is not as documented."""
    sent = parse.append_headers(request)
    managed = session_query.is_managed_agents(request, query)
    key = session_key(session)
    if not request.body:
        if not sent.close:
            raise bad_request("body", "is empty; send events, or Stream-Closed: true to close")
        operation = Append(
            key,
            close=True,
            producer=sent.producer,
            stream_seq=sent.stream_seq,
            expected_ordinal=sent.expected_ordinal,
            expected_stream_id=sent.expected_stream_id,
        )
        return AppendPlan(operation, None, session, managed)
    _check_content_type(sent.content_type)
    drafts = parse_events(request.body, events_max=config.events_per_request_max)
    stamp = EventStamp(drafts, keep=managed)
    operation = Append(
        key,
        stamp,
        content_type=SESSION_OPTIONS.content_type,
        close=sent.close,
        producer=sent.producer,
        stream_seq=sent.stream_seq,
        expected_ordinal=sent.expected_ordinal,
        create=SESSION_OPTIONS if sent.may_create else None,
        expected_stream_id=sent.expected_stream_id,
    )
    return AppendPlan(operation, stamp, session, managed)


def answer(planned: AppendPlan, outcome: Outcome) -> Response:
    """The response to a planned append once its outcome is durable."""
    if isinstance(outcome, Rejection):
        if outcome.reason in (Reason.STREAM_NOT_FOUND, Reason.BUCKET_NOT_FOUND):
            return no_session(planned.session).response()
        return render.rejection(outcome)
    assert isinstance(outcome, Appended)
    if not planned.managed_agents:
        return render.appended(outcome)
    stored = () if planned.stamp is None else planned.stamp.records
    body = b'{"data":[' + b",".join(map(views.processed, stored)) + b"]}"
    found = (
        render.APPLICATION_JSON,
        (headers.CACHE_CONTROL, "no-store"),
        *render.append_headers(outcome),
        *headers.BASE,
    )
    return Response(200, found, (body,))


async def post_events(context: Context, call: Call) -> Answer:
    session = call.params["session"]
    if len(call.request.body) <= INLINE_BODY_BYTES_MAX:
        planned = plan(call.request, call.query, session, context.config)
    else:
        planned = await trio.to_thread.run_sync(
            plan, call.request, call.query, session, context.config
        )
    return answer(planned, await context.bridge.perform(planned.operation))


def _check_content_type(content_type: str | None) -> None:
    if content_type is None or parse.media_type(content_type) == "application/json":
        return
    raise RequestError(
        415,
        errors.UNSUPPORTED_MEDIA_TYPE,
        f"Content-Type: events are application/json, not {content_type[:100]!r}",
    )
