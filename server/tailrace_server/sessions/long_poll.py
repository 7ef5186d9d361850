"""Long-polls for a session's events (protocol section 5.7)."""

from __future__ import annotations

from functools import partial

import trio

import tailrace
from tailrace.errors import Rejected
from tailrace_server.context import Answer, Call, Context, Found, Wait, no_session, wait_for
from tailrace_server.protocol import caching, headers, render
from tailrace_server.protocol.message import Response
from tailrace_server.protocol.page_token import EventsPage, encode_events_page
from tailrace_server.protocol.session_query import EventsQuery
from tailrace_server.sessions import pages
from tailrace_server.sessions.common import head_of, page_response, refusal, start_of


def poll_now(context: Context, call: Call, query: EventsQuery, _body: bytes) -> Wait:
    """The step of a long-poll for events of any type."""
    head = head_of(context, call.params["session"])
    wait = _wait(context, call, query, head, start_of(query, head))
    context.hub.check_capacity()
    return wait


def _wait(
    context: Context, call: Call, query: EventsQuery, head: tailrace.Head, start: int
) -> Wait:
    """A long-poll for events of any type (protocol section 5.7)."""
    if_none_match = call.request.header(headers.IF_NONE_MATCH)
    same = (start, query.limit, query.managed_agents, query.variant, if_none_match)
    look = partial(_look, context, call.params["session"], query, head, start, if_none_match)
    return Wait(context.hub, head, start, same, query.cursor, look)


def _look(
    context: Context,
    session: str,
    query: EventsQuery,
    began: tailrace.Head,
    start: int,
    if_none_match: str | None,
    over: bool,
    revoked: bool,
) -> Found | None:
    """See :class:`Wait`: data, or 204 when none came in time."""
    head = context.bridge.head(began.key, began.stream_id)
    if head is None or revoked:
        raise no_session(session)
    if start < head.tail:
        try:
            result = context.store.read(
                head.key, start, max_bytes=context.config.read_bytes_max, max_records=query.limit
            )
        except Rejected as error:
            raise refusal(error, session) from None
        if result.stream_id != head.stream_id:  # deleted and made again
            raise no_session(session)
        page = pages.all_of(result, processed=query.managed_agents)
        return partial(_polled, if_none_match, query, start, page, result)
    if head.closed or context.hub.draining or over:
        return partial(_nothing_polled, head)
    return None


async def poll(context: Context, call: Call, query: EventsQuery, head: tailrace.Head) -> Answer:
    """Answer a long-poll in a task."""
    start = start_of(query, head)
    if query.types:
        return await _poll_filtered(context, call, query, head, start)
    return await wait_for(_wait(context, call, query, head, start), call.grant)


async def _poll_filtered(
    context: Context, call: Call, query: EventsQuery, head: tailrace.Head, start: int
) -> Answer:
    """A long-poll for some types: it goes on behind events that are not among them."""
    hub = context.hub
    session = call.params["session"]
    if_none_match = call.request.header(headers.IF_NONE_MATCH)
    stream_id = head.stream_id
    deadline = trio.current_time() + hub.patience_s
    with hub.reader(stream_id) as subscription:
        while True:
            current = context.bridge.head(head.key, stream_id)
            if current is None or call.grant.revoked:
                raise no_session(session)
            head = current
            if start < head.tail:
                page, result = await pages.ascending(
                    context.bridge,
                    head,
                    start,
                    tailrace.limits.ORDINAL_MAX,
                    bytes_max=context.config.read_bytes_max,
                    limit=query.limit,
                    types=query.types,
                    processed=query.managed_agents,
                )
                if result.stream_id != stream_id:
                    continue
                if page.chunks:
                    cursor = hub.cursor(query.cursor)
                    return _polled(if_none_match, query, start, page, result, cursor)
                start = page.next
                if start < result.tail:
                    await trio.lowlevel.checkpoint()
                    continue
                head = context.bridge.head(head.key, stream_id) or head
            if start >= head.tail:
                late = trio.current_time() >= deadline
                if head.closed or hub.draining or late:
                    return _nothing_polled(head, hub.cursor(query.cursor))
                await hub.wait(subscription, head, deadline)


def _polled(
    if_none_match: str | None,
    query: EventsQuery,
    start: int,
    page: pages.Page,
    result: tailrace.ReadResult,
    cursor: int,
) -> Response:
    up_to_date = page.next >= result.tail
    closed = up_to_date and result.closed
    found = render.read_headers(page.next, up_to_date=up_to_date, closed=closed)
    if not closed:
        found += ((headers.STREAM_CURSOR, str(cursor)),)
    token = None
    if not up_to_date:
        token = encode_events_page(EventsPage(result.stream_id, False, page.next, 0))
    variant = query.variant + ("m" if token else "")
    tag = caching.etag(result.stream_id, start, page.next, closed=closed, variant=variant)
    return page_response(if_none_match, found, tag, caching.PRIVATE_TAIL, page.chunks, token)


def _nothing_polled(head: tailrace.Head, cursor: int) -> Response:
    found = render.read_headers(head.tail, up_to_date=True, closed=head.closed)
    if not head.closed:
        found += ((headers.STREAM_CURSOR, str(cursor)),)
    return render.empty(204, ((headers.CACHE_CONTROL, caching.NO_STORE), *found))
