"""Long-polls for a session's events (protocol section 5.7)."""

from __future__ import annotations

from functools import partial

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
    """The step of a long-poll."""
    head = head_of(context, call.params["session"])
    wait = _begin(context, call, query, head)
    context.hub.check_capacity()
    return wait


async def poll(context: Context, call: Call, query: EventsQuery, head: tailrace.Head) -> Answer:
    """Answer a long-poll in a task."""
    return await wait_for(_begin(context, call, query, head), call.grant)


def _begin(context: Context, call: Call, query: EventsQuery, head: tailrace.Head) -> Wait:
    if_none_match = call.request.header(headers.IF_NONE_MATCH)
    return _wait(context, query, if_none_match, head, start_of(query, head))


def _wait(
    context: Context,
    query: EventsQuery,
    if_none_match: str | None,
    began: tailrace.Head,
    start: int,
) -> Wait:
    same = (start, query.limit, query.types, query.managed_agents, query.variant, if_none_match)
    look = partial(_look, context, query, if_none_match, began, start)
    return Wait(context.hub, began, start, same, query.cursor, look)


def _look(
    context: Context,
    query: EventsQuery,
    if_none_match: str | None,
    began: tailrace.Head,
    start: int,
    over: bool,
    revoked: bool,
) -> Found | Wait | None:
    """See :class:`Wait`: data, or 204 when none came in time.

    Behind events that are not of the types asked for it goes on.
    """
    session = began.key.stream
    head = context.bridge.head(began.key, began.stream_id)
    if head is None or revoked:
        raise no_session(session)
    if start < head.tail:
        try:
            result = context.store.read(
                head.key,
                start,
                max_bytes=context.config.read_bytes_max,
                max_records=None if query.types else query.limit,
            )
        except Rejected as error:
            raise refusal(error, session) from None
        if result.stream_id != head.stream_id:  # deleted and made again
            raise no_session(session)
        page = pages.some_of(
            result, limit=query.limit, types=query.types, processed=query.managed_agents
        )
        if page.chunks:
            return partial(_polled, if_none_match, query, start, page, result)
        return _wait(context, query, if_none_match, began, page.next)
    if head.closed or context.hub.draining or over:
        return partial(_nothing_polled, head)
    return None


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
