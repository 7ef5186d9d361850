"""Search: within one session (``q=`` on its events), and over all a key may read."""

from __future__ import annotations

from typing import Final

import msgspec

import tailrace
from tailrace.errors import Corrupted, Rejected
from tailrace.offset import encode_offset
from tailrace.operation import StreamKey
from tailrace.search.snippet import snippet
from tailrace_server.config import SESSIONS_BUCKET
from tailrace_server.context import Answer, Call, Context, session_key
from tailrace_server.keys import Grant, Right
from tailrace_server.protocol import caching, headers, render, session_query, views
from tailrace_server.protocol.errors import bad_request
from tailrace_server.protocol.message import Chunk, Response
from tailrace_server.protocol.session_query import EventsQuery, SearchQuery

SCOPE_SESSIONS_MAX: Final = 100_000
"""A key limited to prefixes searches the sessions they name; beyond this it must narrow them."""
ANSWER_FACTOR: Final = 4
"""Hits are left out once an answer is this many pages large."""


class _Damaged(msgspec.Struct):
    """Events from ``offset`` to before ``next_offset``."""

    session_id: str
    offset: str
    next_offset: str


async def in_session(context: Context, query: EventsQuery, head: tailrace.Head) -> Answer:
    """The session's best events, best first, each with its ``score``."""
    assert query.text is not None
    text, limit = query.text, query.limit or session_query.SEARCH_LIMIT_DEFAULT

    def work() -> tuple[list[Chunk], int, list[_Damaged]]:
        found = context.store.search(
            text,
            [head.key],
            types=query.types,
            limit=limit,
            created_from_ms=query.created.from_ms,
            created_until_ms=query.created.until_ms,
        )
        events, damaged = _events(context, found, text, query.managed_agents, across=False)
        return events, found.total, damaged

    events, total, damaged = await context.bridge.search(work)
    # The tail from before the search: going on from there repeats an event sooner than skip it.
    where = render.read_headers(head.tail, up_to_date=True, closed=head.closed)
    return Response(
        200,
        (
            render.APPLICATION_JSON,
            (headers.CACHE_CONTROL, caching.NO_STORE),
            *where,
            *headers.BASE,
        ),
        (
            b'{"data":[',
            b",".join(events),
            b'],"next_page":null,"total":%d' % total,
            b',"damaged":%b}' % msgspec.json.encode(damaged) if damaged else b"}",
        ),
    )


async def get_search(context: Context, call: Call) -> Answer:
    """The best events over sessions, with a snippet each, and the hits of every session."""
    query = session_query.search_query(call.query)
    managed = session_query.is_managed_agents(call.request, call.query)

    def work() -> tuple[list[Chunk], dict[str, object]]:
        keys = _scope(context, query, call.grant)
        found = context.store.search(
            query.text,
            keys,
            bucket=SESSIONS_BUCKET,
            types=query.types,
            limit=query.limit,
            created_from_ms=query.created.from_ms,
            created_until_ms=query.created.until_ms,
            count_streams=True,
        )
        counts = sorted(found.per_stream.items(), key=lambda item: (-item[1], item[0]))
        events, damaged = _events(context, found, query.text, managed, across=True)
        hits = [{"session_id": key.stream, "hits": count} for key, count in counts]
        about: dict[str, object] = {"sessions": hits, "total": found.total}
        return events, {**about, "damaged": damaged} if damaged else about

    events, about = await context.bridge.search(work)
    rest = render.json_value(200, about)
    (tail,) = rest.body
    body = (b'{"data":[', b",".join(events), b"],", bytes(tail)[1:])
    return Response(200, rest.headers, body)


def _events(
    context: Context,
    found: tailrace.SearchResult,
    text: str,
    managed_agents: bool,
    *,
    across: bool,
) -> tuple[list[Chunk], list[_Damaged]]:
    """The hits as JSON, and the ranges of events that could not be looked at or shown."""
    events: list[Chunk] = []
    damaged = [_damaged(part.key, part.first, part.stop) for part in found.damaged]
    size = 0
    for hit in found.hits:
        try:
            record = _record(context, hit)
        except Corrupted:  # since it was indexed
            damaged.append(_damaged(hit.key, hit.ordinal, hit.ordinal + 1))
            continue
        if record is None:
            continue
        added: dict[str, object] = {"score": hit.score}
        if across:
            added = {
                "session_id": hit.key.stream,
                "score": hit.score,
                "snippet": snippet(record, text),
            }
        event = views.with_members(views.processed(record) if managed_agents else record, added)
        size += len(event)
        if events and size > ANSWER_FACTOR * context.config.read_bytes_max:
            break
        events.append(event)
    return events, damaged


def _damaged(key: StreamKey, first: int, stop: int) -> _Damaged:
    return _Damaged(key.stream, encode_offset(first), encode_offset(stop))


def _record(context: Context, hit: tailrace.Hit) -> bytes | None:
    """The hit's event; None if its session was deleted since the search."""
    try:
        result = context.store.read(hit.key, hit.ordinal, max_bytes=1, max_records=1)
    except Rejected:
        return None
    for record in result.records():
        return bytes(record)
    return None


def _scope(context: Context, query: SearchQuery, grant: Grant) -> list[StreamKey] | None:
    """The sessions to search; None for all of them.

    A session that is not there or not the caller's adds nothing, silently: the same answer.
    """
    if not grant.has(Right.READ):
        return []
    asked = query.scopes or ("*",)
    if grant.unlimited and "*" in asked:
        return None
    found: set[StreamKey] = set()
    # What is both asked for and granted lies under the narrower of the two patterns.
    for scope in asked:
        for granted in grant.scopes:
            narrower = _narrower(scope, granted)
            if narrower is not None:
                _collect(context, narrower, found)
    return sorted(found)


def _narrower(one: str, other: str) -> str | None:
    """The pattern that means what both match; None if nothing does."""
    for a, b in ((one, other), (other, one)):
        if a == b or (b.endswith("*") and a.removesuffix("*").startswith(b[:-1])):
            return a
    return None


def _collect(context: Context, pattern: str, found: set[StreamKey]) -> None:
    if not pattern.endswith("*"):
        key = session_key(pattern)
        try:
            context.store.head(key)
        except Rejected:
            return
        found.add(key)
        return
    after: str | None = None
    while True:
        page = context.store.list_streams(SESSIONS_BUCKET, prefix=pattern[:-1], after=after)
        found.update(head.key for head in page.streams)
        if len(found) > SCOPE_SESSIONS_MAX:
            raise bad_request(
                "session", f"more than {SCOPE_SESSIONS_MAX} sessions match; give a longer prefix"
            )
        if not page.has_more:
            return
        after = page.streams[-1].key.stream
