"""Sessions themselves: list, look at, describe, delete, fork."""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from urllib.parse import quote

import msgspec
from ulid import ULID

import tailrace
from tailrace.offset import encode_offset
from tailrace.operation import Create, Delete, ForkPoint, SetMetadata, StreamOptions
from tailrace.outcome import Created, Deleted, Reason, Rejection
from tailrace_server.config import SESSIONS_BUCKET
from tailrace_server.context import Answer, Call, Context, no_session, session_key
from tailrace_server.keys import Right
from tailrace_server.protocol import headers, render, session_query
from tailrace_server.protocol.errors import RequestError, too_large
from tailrace_server.protocol.page_token import StreamsPage, encode_streams_page
from tailrace_server.protocol.session_query import SessionsQuery
from tailrace_server.protocol.timestamps import format_ms
from tailrace_server.sessions.common import head_of

SCAN_STREAMS_MAX: Final = 20_000
"""A page of a filtered listing by id looks at about this many sessions, then says go on."""
LIST_STEP: Final = 1000


class _Described(msgspec.Struct, omit_defaults=True):
    """A session's metadata as it is stored; the values are kept as they were sent."""

    title: str | None = None
    metadata: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)


def described(head: tailrace.Head) -> _Described:
    if not head.metadata:
        return _Described()
    try:
        return msgspec.json.decode(head.metadata, type=_Described)
    except msgspec.MsgspecError:
        return _Described()  # written through another surface, in a form of its own


def view(head: tailrace.Head) -> dict[str, object]:
    """A session as JSON."""
    about = described(head)
    forked = None
    if head.forked_from is not None:
        forked = {"id": head.forked_from.stream, "offset": encode_offset(head.fork_ordinal)}
    count = head.tail - head.start
    return {
        "id": head.key.stream,
        "type": "session",
        "created_at": format_ms(head.created_at_ms),
        "last_event_at": format_ms(head.last_write_ms) if count else None,
        "event_count": count,
        "next_offset": encode_offset(head.tail),
        "closed": head.closed,
        "title": about.title,
        "metadata": about.metadata,
        "forked_from": forked,
    }


async def get_session(context: Context, call: Call) -> Answer:
    return render.json_value(200, view(head_of(context, call.params["session"])))


async def list_sessions(context: Context, call: Call) -> Answer:
    """One page of the sessions that the key may read."""
    query = session_query.sessions_query(call.query)
    listing = _by_creation if query.by_creation else _by_id
    page, last = await context.bridge.search(lambda: listing(context, call, query))
    token = None
    if last is not None:
        token = encode_streams_page(
            StreamsPage(query.order_code, last.created_at_ms, last.key.stream)
        )
    return render.json_value(200, {"data": [view(head) for head in page], "next_page": token})


def _wanted(call: Call, query: SessionsQuery, head: tailrace.Head) -> bool:
    low, high = query.created
    return (
        head.is_json
        and call.grant.allows(Right.READ, head.key.stream)
        and (low is None or head.created_at_ms >= low)
        and (high is None or head.created_at_ms < high)
    )


_Listed = tuple[list[tailrace.Head], tailrace.Head | None]
"""A page of heads, and the one after which the next page begins (None: this is the last)."""


def _by_id(context: Context, call: Call, query: SessionsQuery) -> _Listed:
    after = None if query.page is None else query.page.name
    found: list[tailrace.Head] = []
    scanned = 0
    while True:
        page = context.store.list_streams(
            SESSIONS_BUCKET,
            prefix=query.prefix,
            after=after,
            limit=LIST_STEP,
            descending=query.descending,
        )
        for index, head in enumerate(page.streams):
            if _wanted(call, query, head):
                found.append(head)
                if len(found) == query.limit:
                    more = page.has_more or index + 1 < len(page.streams)
                    return found, head if more else None
        scanned += len(page.streams)
        if not page.has_more:
            return found, None
        after = page.streams[-1].key.stream
        if scanned >= SCAN_STREAMS_MAX:
            return found, page.streams[-1]


def _by_creation(context: Context, call: Call, query: SessionsQuery) -> _Listed:
    """Sessions in order of creation, then id."""
    after = None if query.page is None else (query.page.created_at_ms, query.page.name)
    low, high = query.created
    step = min(query.limit + 1, LIST_STEP)
    found: list[tailrace.Head] = []
    while True:
        page = context.store.list_created(
            SESSIONS_BUCKET,
            prefix=query.prefix,
            after=after,
            created_from_ms=low,
            created_until_ms=high,
            limit=step,
            descending=query.descending,
        )
        for head in page.streams:
            if _wanted(call, query, head):
                if len(found) == query.limit:
                    return found, found[-1]
                found.append(head)
        if not page.has_more:
            return found, None
        last = page.streams[-1]
        after = last.created_at_ms, last.key.stream
        step = LIST_STEP  # much is left out, it seems


async def update_session(context: Context, call: Call) -> Answer:
    """Set the title, and merge into the metadata: a key with null is removed."""
    session = call.params["session"]
    update = session_query.session_update(call.request.body)
    async with context.metadata_lock:
        about = described(head_of(context, session))
        if not isinstance(update.title, msgspec.UnsetType):
            about.title = update.title
        if update.metadata is None:
            about.metadata = {}
        elif not isinstance(update.metadata, msgspec.UnsetType):
            about.metadata = _merged(about.metadata, update.metadata)
        packed = _packed(about)
        outcome = await context.bridge.perform(SetMetadata(session_key(session), packed))
        if isinstance(outcome, Rejection):
            return _rejected(outcome, session)
        return render.json_value(200, view(head_of(context, session)))


def _merged(old: dict[str, msgspec.Raw], new: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    return {k: v for k, v in {**old, **new}.items() if bytes(v) != b"null"}


def _packed(about: _Described) -> bytes:
    """As it is stored; 413 if that is much."""
    if len(msgspec.json.encode(about.metadata)) > session_query.METADATA_BYTES_MAX:
        raise too_large(
            f"metadata: more than {session_query.METADATA_BYTES_MAX} bytes of JSON; "
            "large values belong in events"
        )
    return msgspec.json.encode(about)


async def delete_session(context: Context, call: Call) -> Answer:
    session = call.params["session"]
    outcome = await context.bridge.perform(Delete(session_key(session)))
    if isinstance(outcome, Rejection):
        return _rejected(outcome, session)
    assert isinstance(outcome, Deleted)
    if session_query.is_managed_agents(call.request, call.query):
        return render.json_value(200, {"id": session, "type": "session_deleted"})
    return render.empty(204)


async def fork_session(context: Context, call: Call) -> Answer:
    """A new session that shares this one's events before an offset (default: all of them).

    200 if it is there already; what describes it stays as it is then.
    """
    source = call.params["session"]
    fork = session_query.session_fork(call.request.body)
    target = f"session_{ULID()}" if fork.id is None else fork.id
    if not call.grant.allows(Right.APPEND, target):
        raise no_session(source)
    head = head_of(context, source)
    point = ForkPoint(head.key, head.tail if fork.ordinal is None else fork.ordinal)
    about = _Described(fork.title, _merged({}, fork.metadata or {}))
    metadata = b"" if about == _Described() else _packed(about)
    options = StreamOptions(head.content_type, searchable=True, metadata=metadata)
    outcome = await context.bridge.perform(Create(session_key(target), options, fork=point))
    if isinstance(outcome, Rejection):
        if outcome.reason is Reason.CONFIG_MISMATCH:
            message = f"id: there is another session {target!r}; choose another id, or leave it out"
            return render.rejection(replace(outcome, message=message))
        return _rejected(outcome, source)
    assert isinstance(outcome, Created)
    location = f"/v1/sessions/{quote(target, safe='')}"
    return render.json_value(
        200 if outcome.existed else 201,
        view(head_of(context, target)),
        (
            (headers.LOCATION, location),
            (headers.STREAM_NEXT_OFFSET, encode_offset(outcome.tail)),
        ),
    )


def _rejected(rejection: Rejection, session: str) -> Answer:
    missing = (
        Reason.STREAM_NOT_FOUND,
        Reason.BUCKET_NOT_FOUND,
        Reason.FORK_SOURCE_NOT_FOUND,
    )
    if rejection.reason in missing:
        raise no_session(session)
    if rejection.reason is Reason.FORK_BEYOND_TAIL:
        raise RequestError(400, rejection.reason.value, f"offset: {rejection.message}")
    return render.rejection(rejection)
