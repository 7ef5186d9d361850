"""POST of a session's events: request → operation → response.

:func:`prepare_post` makes plain functions, so that a front may stage many requests at once and
answer a whole group after its sync; :func:`post_events` is the same for one.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from tailrace.limits import KIB
from tailrace.operation import Producer, Records, StreamKey, StreamOptions
from tailrace.outcome import Appended, Outcome, Reason, Rejection
from tailrace.stream import is_json_type
from tailrace_server.config import ServiceConfig
from tailrace_server.context import (
    Answer,
    AppendStep,
    Call,
    Context,
    Plan,
    Step,
    no_session,
    producer_step,
    session_key,
)
from tailrace_server.protocol import caching, errors, headers, parse, render, session_query, views
from tailrace_server.protocol.errors import RequestError, bad_request
from tailrace_server.protocol.events import EventStamp, parse_events
from tailrace_server.protocol.message import Response
from tailrace_server.protocol.parse import AppendHeaders
from tailrace_server.threads import in_thread

INLINE_BODY_BYTES_MAX: Final = 256 * KIB
"""Larger bodies are taken apart in a worker thread: the event loop has others to serve."""

SESSION_OPTIONS: Final = StreamOptions(content_type="application/json", searchable=True)


def prepare_post(context: Context, call: Call) -> Step:
    """What the request asks of the engine; RequestError if it is not as documented."""
    return producer_step(*_prepared(context, call))


def _prepared(context: Context, call: Call) -> tuple[AppendStep, Producer | None]:
    sent = parse.append_headers(call.request)
    managed = session_query.is_managed_agents(call.request, call.query)
    key = session_key(call.params["session"])
    return partial(_plan, context.config, key, sent, managed), sent.producer


def _plan(
    config: ServiceConfig,
    key: StreamKey,
    sent: AppendHeaders,
    managed: bool,
    producer: Producer | None,
    body: bytes,
) -> Plan:
    if not body:
        if not sent.close:
            raise bad_request("body", "is empty; send events, or Stream-Closed: true to close")
        records: Records = ()
        content_type = create = None
        answer = partial(_answer, key.stream, managed, None)
    else:
        _check_content_type(sent.content_type)
        drafts = parse_events(body, events_max=config.events_per_request_max)
        records = stamp = EventStamp(drafts, keep=managed)
        content_type = SESSION_OPTIONS.content_type
        create = SESSION_OPTIONS if sent.may_create else None
        answer = partial(_answer, key.stream, managed, stamp)
    return Plan(sent.append(key, records, content_type, producer, create), answer, not managed)


def _answer(session: str, managed: bool, stamp: EventStamp | None, outcome: Outcome) -> Response:
    """The response to a planned append once its outcome is durable; ``stamp`` made its events."""
    if isinstance(outcome, Rejection):
        if outcome.reason in (Reason.STREAM_NOT_FOUND, Reason.BUCKET_NOT_FOUND):
            return no_session(session).response()
        return render.rejection(outcome)
    assert isinstance(outcome, Appended)
    if not managed:
        return render.appended(outcome)
    stored = () if stamp is None else stamp.records
    body = b'{"data":[' + b",".join(map(views.processed, stored)) + b"]}"
    found = (
        render.APPLICATION_JSON,
        (headers.CACHE_CONTROL, caching.NO_STORE),
        *render.append_headers(outcome),
        *headers.BASE,
    )
    return Response(200, found, (body,))


async def post_events(context: Context, call: Call) -> Answer:
    prepared, producer = _prepared(context, call)
    step, body = partial(prepared, producer), call.request.body
    if len(body) <= INLINE_BODY_BYTES_MAX:
        plan = step(body)
    else:
        plan = await in_thread(partial(step, body))
    return plan.answer(await context.bridge.perform(plan.operation))


def _check_content_type(content_type: str | None) -> None:
    if content_type is None or is_json_type(content_type):
        return
    raise RequestError(
        415,
        errors.UNSUPPORTED_MEDIA_TYPE,
        f"{headers.CONTENT_TYPE}: must be application/json, not {content_type[:100]!r}; curl sends "
        f"it with -H '{headers.CONTENT_TYPE}: application/json'",
    )
