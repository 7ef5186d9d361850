"""GET of a session's events: pages, long-poll, SSE, and search within the session."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import tailrace
from tailrace.errors import Rejected
from tailrace.offset import encode_offset
from tailrace_server.context import Answer, Call, Context, LastingStep, Step, session_key
from tailrace_server.following import Follow
from tailrace_server.live import LiveResponse, Send
from tailrace_server.protocol import caching, headers, parse, render, session_query, sse, views
from tailrace_server.protocol.errors import bad_request
from tailrace_server.protocol.message import Chunk, Response
from tailrace_server.protocol.page_token import EventsPage, encode_events_page
from tailrace_server.protocol.parse import Live
from tailrace_server.protocol.session_query import EventsQuery
from tailrace_server.sessions import long_poll, pages, search
from tailrace_server.sessions.common import (
    VARY,
    head_of,
    page_response,
    refusal,
    start_of,
    trimmed,
)


@dataclass(frozen=True, slots=True)
class SessionEncoding:
    """SSE frames of a session's events: arrays with control events, or an event a message."""

    messages: bool
    types: frozenset[str]
    managed_agents: bool

    @property
    def name(self) -> str:
        return f"session:{self.messages:d}:{self.managed_agents:d}:{','.join(sorted(self.types))}"

    @property
    def control(self) -> bool:
        return not self.messages

    def whole(self, result: tailrace.ReadResult) -> int:
        return result.count

    def encode(self, result: tailrace.ReadResult) -> bytes:
        if self.messages:
            frames = []
            for ordinal, record in enumerate(result.records(), result.first):
                kind = views.event_type(record)
                if not self.types or kind in self.types:
                    event = views.processed(record) if self.managed_agents else record
                    frames.append(sse.message(kind or "message", ordinal, event))
            return b"".join(frames)
        records: list[Chunk] = list(result.records())
        if self.types:
            records = [r for r in records if views.event_type(r) in self.types]
        if self.managed_agents:
            records = [views.processed(record) for record in records]
        return sse.json_array(records) if records else b""


async def get_events(context: Context, call: Call) -> Answer:
    query = session_query.events_query(call.request, call.query)
    session = call.params["session"]
    if query.live is Live.SSE:
        resumed = parse.last_event(call.request)
        start = resumed or query.start or parse.Position(0)
        encoding = SessionEncoding(False, query.types, query.managed_agents)
        return await _follow(context, call, start, encoding, query.cursor)
    head = head_of(context, session)
    try:
        if query.live is Live.LONG_POLL:
            return await long_poll.poll(context, call, query, head)
        if query.text is not None:
            return await search.in_session(context, query, head)
        if query.descending:
            return await _descending(context, call, query, head)
        return await _ascending(context, call, query, head)
    except Rejected as error:
        raise refusal(error, session) from None


async def stream_events(context: Context, call: Call) -> Answer:
    """GET of ``/events/stream``: one SSE message per event, new ones only unless told."""
    query = session_query.stream_query(call.request, call.query)
    assert query.start is not None
    encoding = SessionEncoding(True, query.types, query.managed_agents)
    return await _follow(context, call, query.start, encoding, None)


def prepare_get(context: Context, call: Call) -> Step | None:
    """A plain page of the oldest events, which need not wait, or a long-poll."""
    query = session_query.events_query(call.request, call.query)
    if query.live is Live.LONG_POLL:
        return partial(long_poll.poll_now, context, call, query)
    if query.live is not None or query.text is not None or query.descending:
        return None
    if query.types or query.created.bounded or query.page is not None:
        return None
    if_none_match = call.request.header(headers.IF_NONE_MATCH)
    session = call.params["session"]
    look = partial(_events_now, context, session, query, if_none_match)
    return LastingStep(context, session_key(session), look)


def _events_now(
    context: Context, session: str, query: EventsQuery, if_none_match: str | None
) -> Response | None:
    head = head_of(context, session)
    start = start_of(query, head)
    if query.start is not None and query.start.ordinal is None:
        return _empty_page(start, head, no_store=True)
    try:
        result = context.bridge.read_now(
            head.key, start, max_bytes=context.config.read_bytes_max, max_records=query.limit
        )
    except Rejected as error:
        raise refusal(error, session) from None
    if result is None:
        return None
    page = pages.all_of(result, processed=query.managed_agents)
    return _ascending_page(if_none_match, query, start, None, page, result)


def prepare_head(context: Context, call: Call) -> Step:
    session = call.params["session"]
    look = partial(_head_now, context, session)
    return LastingStep(context, session_key(session), look)


async def head_events(context: Context, call: Call) -> Answer:
    return _head_now(context, call.params["session"])


def _head_now(context: Context, session: str) -> Response:
    """HEAD (protocol section 5.5): the tail and closure, never cached."""
    head = head_of(context, session)
    found = [
        render.APPLICATION_JSON,
        (headers.CACHE_CONTROL, caching.NO_STORE),
        (headers.STREAM_NEXT_OFFSET, encode_offset(head.tail)),
    ]
    if head.closed:
        found.append((headers.STREAM_CLOSED, "true"))
    return Response(200, (*found, *headers.BASE))


async def _follow(
    context: Context,
    call: Call,
    start: parse.Position,
    encoding: SessionEncoding,
    cursor: int | None,
) -> LiveResponse:
    head = head_of(context, call.params["session"])
    context.hub.check_capacity()
    ordinal = head.tail if start.ordinal is None else min(start.ordinal, head.tail)
    if ordinal < head.start:
        raise trimmed(head)
    # What cannot be read is told now: a stream of events once begun could only break off.
    await context.bridge.read(head.key, ordinal, max_bytes=1)
    reader = Follow(head.key, head.stream_id, ordinal, encoding, cursor, call.grant)

    async def run(send: Send) -> None:
        await context.hub.follow(reader, send)

    return LiveResponse(200, render.EVENT_STREAM, run)


async def _ascending(
    context: Context, call: Call, query: EventsQuery, head: tailrace.Head
) -> Answer:
    now = query.start is not None and query.start.ordinal is None
    start = start_of(query, head)
    stop = None
    if query.created.bounded:
        low, stop = await pages.time_bounds(context.bridge, head, query.created)
        start = max(start, low)
        if query.created.until_ms is None:
            stop = None
    if query.page is not None:
        _check_page(query.page, head)
        start = max(start, query.page.position)
    if now or (stop is not None and start >= stop):
        return _empty_page(start, head, no_store=now)
    page, result = await pages.ascending(
        context.bridge,
        head,
        start,
        tailrace.limits.ORDINAL_MAX if stop is None else stop,
        bytes_max=context.config.read_bytes_max,
        limit=query.limit,
        types=query.types,
        processed=query.managed_agents,
    )
    return _ascending_page(
        call.request.header(headers.IF_NONE_MATCH), query, start, stop, page, result
    )


def _ascending_page(
    if_none_match: str | None,
    query: EventsQuery,
    start: int,
    stop: int | None,
    page: pages.Page,
    result: tailrace.ReadResult,
) -> Response:
    more = page.next < (result.tail if stop is None else min(stop, result.tail))
    token = None
    if more:
        token = encode_events_page(EventsPage(result.stream_id, False, page.next, 0))
    up_to_date = page.next >= result.tail
    closed = up_to_date and result.closed
    variant = query.variant + ("m" if more else "")
    tag = caching.etag(result.stream_id, start, page.next, closed=closed, variant=variant)
    # Only a page token in the URL names the incarnation: without one, the same URL may mean
    # another session tomorrow, and a cache has to ask.
    lasting = query.page is not None and more
    cache = caching.PRIVATE_HISTORY if lasting else caching.PRIVATE_TAIL
    return page_response(
        if_none_match,
        render.read_headers(page.next, up_to_date=up_to_date, closed=closed),
        tag,
        cache,
        page.chunks,
        token,
    )


async def _descending(
    context: Context, call: Call, query: EventsQuery, head: tailrace.Head
) -> Answer:
    low = start_of(query, head)
    end = head.tail
    if query.created.bounded:
        from_time, end = await pages.time_bounds(context.bridge, head, query.created)
        low = max(low, from_time)
    tail = end
    if query.page is not None:
        _check_page(query.page, head)
        end = min(end, query.page.position)
        tail = query.page.end
    page = await pages.descending(
        context.bridge,
        head,
        low,
        max(low, end),
        bytes_max=context.config.read_bytes_max,
        limit=query.limit,
        types=query.types,
        processed=query.managed_agents,
    )
    token = None
    if page.next > low:
        token = encode_events_page(EventsPage(head.stream_id, True, page.next, tail))
    # Where a live read goes on after this listing: behind the newest event of its first page.
    up_to_date = tail >= head.tail
    found = render.read_headers(tail, up_to_date=up_to_date, closed=head.closed)
    variant = query.variant + ("m" if token else "")
    tag = caching.etag(
        head.stream_id, page.next, tail, closed=head.closed and up_to_date, variant=variant
    )
    return page_response(
        call.request.header(headers.IF_NONE_MATCH),
        found,
        tag,
        caching.PRIVATE_TAIL,
        page.chunks,
        token,
    )


def _check_page(page: EventsPage, head: tailrace.Head) -> None:
    if page.stream_id != head.stream_id or page.position > head.tail:
        raise bad_request(
            "page", "belongs to another session, or to one deleted since; start again without it"
        )


def _empty_page(start: int, head: tailrace.Head, *, no_store: bool) -> Response:
    """Nothing by definition: ``offset=now``, or a time range that holds no event."""
    found = render.read_headers(start, up_to_date=start >= head.tail, closed=head.closed)
    cache = caching.NO_STORE if no_store else caching.PRIVATE_TAIL
    return Response(
        200,
        (render.APPLICATION_JSON, (headers.CACHE_CONTROL, cache), VARY, *found, *headers.BASE),
        render.data_page((), None),
    )
