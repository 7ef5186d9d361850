"""PUT, POST and DELETE of a stream (protocol sections 4.2 and 5.1 to 5.4).

:func:`prepare_post` makes plain functions, so that a front may stage many requests at once and
answer a whole group after its sync.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from sys import intern

from tailrace.errors import Rejected
from tailrace.operation import (
    Append,
    Create,
    Delete,
    ForkPoint,
    Producer,
    StreamKey,
    StreamOptions,
)
from tailrace.outcome import Appended, Created, Deleted, Outcome, Reason, Rejection
from tailrace.stream import DEFAULT_CONTENT_TYPE, is_json_type, media_type
from tailrace_server.config import ServiceConfig
from tailrace_server.context import (
    Answer,
    AppendStep,
    Call,
    Context,
    Lane,
    LaneStep,
    Plan,
    Step,
    producer_step,
    staged,
)
from tailrace_server.keys import Right
from tailrace_server.protocol import headers, parse, render, stream_request, stream_response
from tailrace_server.protocol.errors import RequestError, bad_request
from tailrace_server.protocol.message import Request, Response
from tailrace_server.protocol.parse import AppendHeaders
from tailrace_server.protocol.stream_request import ForkHeaders
from tailrace_server.streams.address import (
    may,
    no_stream,
    refusal,
    source_key,
    stream_key,
    written_key,
)


async def put_stream(context: Context, call: Call) -> Answer:
    """Create a stream or a fork, or confirm one with the same configuration."""
    key = written_key(call)
    sent = stream_request.create_headers(call.request)
    fork = None if sent.fork is None else _fork_point(call, sent.fork)
    # A fork without a content type has its source's, which says what the body is.
    content_type = sent.content_type or _type_of(context, fork)
    operation = Create(
        key,
        StreamOptions(sent.content_type, sent.ttl_ms, sent.expires_at_ms),
        stream_request.records(
            call.request.body,
            content_type,
            values_max=context.config.events_per_request_max,
        ),
        sent.closed,
        fork,
    )
    outcome = await context.bridge.perform(operation)
    if isinstance(outcome, Rejection):
        return stream_response.not_created(outcome)
    assert isinstance(outcome, Created)
    return stream_response.created(outcome, _location(call.request))


def _fork_point(call: Call, fork: ForkHeaders) -> ForkPoint:
    source = source_key(fork.source, headers.STREAM_FORKED_FROM)
    if not may(call.grant, Right.READ, source):
        raise no_stream(source.stream)
    return ForkPoint(source, None if fork.start is None else fork.start.ordinal, fork.sub_offset)


def _type_of(context: Context, fork: ForkPoint | None) -> str:
    if fork is not None:
        try:
            return context.store.head(fork.source).content_type
        except Rejected:
            pass  # the engine has the right words for it
    return DEFAULT_CONTENT_TYPE


def _location(request: Request) -> str:
    """The stream's URL as the client knows it: what it asked for, behind the host it named.

    A proxy that ends TLS before this server says so.
    """
    host = request.header(headers.HOST)
    if not host:
        return request.path
    forwarded = request.header(headers.X_FORWARDED_PROTO)
    scheme = forwarded if forwarded in ("http", "https") else request.scheme
    return f"{scheme}://{host}{request.path}"


def prepare_post(context: Context, call: Call) -> Step:
    """Append, close, or both."""
    key = written_key(call)
    sent = parse.append_headers(call.request)
    step = producer_step(_step(context, key, sent), sent.producer)
    lane = _lane(context.config, key, sent)
    return step if lane is None else LaneStep(step, lane)


def _lane(config: ServiceConfig, key: StreamKey, sent: AppendHeaders) -> Lane | None:
    content_type = sent.content_type
    records_max = config.events_per_request_max
    if content_type is None or not sent.are_bare or records_max < 1:
        return None
    return Lane(
        key,
        intern(content_type),  # the very one that the engine compares it with, mostly
        is_json_type(content_type),
        config.body_bytes_max,
        records_max,
        None if sent.producer is None else (sent.producer.id, sent.producer.epoch),
    )


def _step(context: Context, key: StreamKey, sent: AppendHeaders) -> AppendStep:
    answer = partial(answer_append, key)

    def step(producer: Producer | None, body: bytes) -> Plan:
        try:
            operation = plan_append(key, sent, producer, body, context.config)
        except RequestError as error:
            _check_stream(context, key, sent)
            raise error from None
        return Plan(operation, answer, True)

    return step


def _prepare_plan(context: Context, call: Call) -> Callable[[bytes], Plan]:
    sent = parse.append_headers(call.request)
    return partial(_step(context, written_key(call), sent), sent.producer)


post_stream = staged(_prepare_plan)


def plan_append(
    key: StreamKey,
    sent: AppendHeaders,
    producer: Producer | None,
    body: bytes,
    config: ServiceConfig,
) -> Append:
    """What the request asks of the engine; RequestError if its body is not as it should be.

    ``producer`` stands for the one in ``sent``.
    """
    records: list[bytes] = []
    content_type = None
    if body:
        content_type = sent.content_type
        if content_type is None:
            raise bad_request(headers.CONTENT_TYPE, "is needed with a body: the stream's own")
        records = stream_request.records(
            body, content_type, values_max=config.events_per_request_max
        )
        if not records:
            raise bad_request("body", "is an empty array; there is nothing to append")
    elif not sent.close:
        raise bad_request("body", "is empty; send data, or Stream-Closed: true to close")
    return sent.append(key, records, content_type, producer)


def _check_stream(context: Context, key: StreamKey, sent: AppendHeaders) -> None:
    """What is wrong with the stream is told before what is wrong with the body.

    A writer that must learn that the stream is closed does so whatever it sent (section 5.2,
    error precedence).
    """
    try:
        head = context.store.head(key)
    except Rejected as error:
        raise refusal(error, key) from None
    if head.closed:
        message = f"stream {key} is closed; nothing can be appended to it"
        rejection = Rejection(Reason.STREAM_CLOSED, message, tail=head.tail, closed=True)
    elif sent.content_type and media_type(sent.content_type) != media_type(head.content_type):
        message = f"content type {sent.content_type} is not the stream's {head.content_type}"
        rejection = Rejection(Reason.CONTENT_TYPE_MISMATCH, message, tail=head.tail)
    else:
        return
    raise Rejected(rejection)


def answer_append(key: StreamKey, outcome: Outcome) -> Response:
    """The response to an append once its outcome is durable."""
    if isinstance(outcome, Rejection):
        if outcome.reason in (Reason.STREAM_NOT_FOUND, Reason.BUCKET_NOT_FOUND):
            return no_stream(key.stream).response()
        return render.rejection(outcome)
    assert isinstance(outcome, Appended)
    return render.appended(outcome)


async def delete_stream(context: Context, call: Call) -> Answer:
    key = stream_key(call, Right.MANAGE)
    outcome = await context.bridge.perform(Delete(key))
    if isinstance(outcome, Rejection):
        raise refusal(Rejected(outcome), key)
    assert isinstance(outcome, Deleted)
    return render.empty(204)
