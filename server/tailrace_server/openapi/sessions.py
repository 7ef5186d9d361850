"""The Sessions API and search, described."""

from __future__ import annotations

from typing import Final

from tailrace import limits
from tailrace_server.openapi import common
from tailrace_server.openapi.shape import (
    JSON_TYPE,
    STRING,
    Answer,
    Body,
    Described,
    Descriptions,
    Json,
    Parameter,
    array,
    integer,
    json,
    named,
)
from tailrace_server.protocol import headers, session_query
from tailrace_server.sessions import append, manage, read, search

_TAG: Final = "sessions"

_ORDER: Final = Parameter(
    "query",
    "order",
    "`desc` is newest first.",
    {"type": "string", "enum": ["asc", "desc"]},
)
_PAGE: Final = Parameter(
    "query",
    "page",
    "`next_page` of the answer before; the other parameters as then.",
)
_TYPES: Final = tuple(
    Parameter(
        "query",
        name,
        f"Only these types of events, {session_query.TYPES_MAX} at most; repeatable, or separated "
        "by commas.",
        array(STRING, minItems=1),
    )
    for name in ("type", "type[]")
)
_CREATED: Final = tuple(
    Parameter("query", f"created_at[{name}]", f"Only what was created {meaning}.", named("Time"))
    for name, meaning in (
        ("gt", "after this time"),
        ("gte", "at this time or after it"),
        ("lt", "before this time"),
        ("lte", "at this time or before it"),
    )
)
_BETA: Final = (
    Parameter("query", "beta", "`true` asks for the managed-agents client's form of answers."),
    Parameter("header", headers.ANTHROPIC_BETA, "The same, whatever its value."),
)


def _limit(maximum: int, default: str) -> Parameter:
    return Parameter("query", "limit", f"At most so many; {default}.", integer(1, maximum))


def _search_text(**more: object) -> Json:
    return {"type": "string", "maxLength": limits.QUERY_BYTES_MAX} | more


_MISSING: Final = {
    404: common.MISSING,
    409: common.refusal("A stream of this name holds no JSON events."),
    410: common.GONE,
}

_LIST: Final = Described(
    _TAG,
    "List the sessions that the key may read",
    {200: Answer("A page of sessions.", json(named("SessionPage")))},
    (
        _limit(
            session_query.SESSIONS_LIMIT_MAX, f"{session_query.SESSIONS_LIMIT_DEFAULT} unless given"
        ),
        _ORDER,
        Parameter(
            "query", "sort", "What to order by.", {"type": "string", "enum": ["id", "created_at"]}
        ),
        Parameter("query", "prefix", "Only ids that begin so."),
        _PAGE,
        *_CREATED,
    ),
)

_GET: Final = Described(
    _TAG,
    "Look at a session",
    {200: Answer("The session.", json(named("Session"))), **_MISSING},
)

_UPDATE: Final = Described(
    _TAG,
    "Set a session's title, and merge into its metadata",
    {200: Answer("The session as it is now.", json(named("Session"))), **_MISSING},
    body=Body("What to change; null removes a key.", json(named("SessionUpdate"))),
)

_DELETE: Final = Described(
    _TAG,
    "Delete a session",
    {
        200: Answer("Deleted, to a managed-agents client.", json(named("SessionDeleted"))),
        204: Answer("Deleted."),
        404: common.MISSING,
        410: common.GONE,
    },
    _BETA,
)

_FORK: Final = Described(
    _TAG,
    "Make a session that shares this one's events before an offset",
    {
        status: Answer(description, json(named("Session")), (common.LOCATION, common.NEXT_OFFSET))
        for status, description in ((200, "It was there, made so."), (201, "The new session."))
    }
    | _MISSING
    | {409: common.refusal("The id is another session's, or forks go too deep.", common.TAIL)},
    body=Body(
        "Its id, where it leaves, its title and metadata.",
        json(named("SessionFork")),
        required=False,
    ),
)

_POST_EVENTS: Final = Described(
    _TAG,
    "Append events, and create the session if there is none",
    {
        200: Answer(
            "New data of an idempotent producer; to a managed-agents client, the stored events.",
            json(named("StoredEvents")),
            common.APPENDED,
        ),
        204: Answer("Appended, or a producer's repetition.", {}, common.APPENDED),
        403: common.FENCED,
        404: common.MISSING,
        409: common.CONFLICT,
        410: common.GONE,
        412: common.UNMATCHED,
        415: common.refusal("Events are JSON."),
    },
    (*common.APPEND, *_BETA),
    Body(
        "All is stored, or nothing. May be left out with `Stream-Closed: true`.",
        json(named("NewEvents")),
        required=False,
    ),
)

_GET_EVENTS: Final = Described(
    _TAG,
    "Read a session's events: a page, a search, a long-poll, or an event stream",
    {
        200: Answer(
            "Events.",
            {
                JSON_TYPE: {"anyOf": [named("EventPage"), named("SessionHits")]},
                **common.FRAMES,
            },
            tuple(
                header if header != common.NEXT_OFFSET else common.TAIL for header in common.READ
            ),
        ),
        204: Answer("A long-poll that found nothing new.", {}, common.READ),
        304: Answer("What the client has still holds.", {}, common.READ),
        **_MISSING,
    },
    (
        common.OFFSET_QUERY,
        _limit(session_query.EVENTS_LIMIT_MAX, "a page is bounded in bytes, too"),
        _ORDER,
        *_TYPES,
        *_CREATED,
        _PAGE,
        Parameter("query", "q", "Search this session: the best events first.", _search_text()),
        common.LIVE,
        common.CURSOR,
        common.LAST_EVENT_ID,
        common.IF_NONE_MATCH,
        *_BETA,
    ),
)

_HEAD_EVENTS: Final = common.headless(
    Described(
        _TAG,
        "Where a session's events end, and whether they are closed",
        {
            200: Answer("The tail.", {}, (common.NEXT_OFFSET, common.IS_CLOSED, common.CACHING)),
            **_MISSING,
        },
    )
)

_STREAM_EVENTS: Final = Described(
    _TAG,
    "Follow a session: one server-sent event for each event, new ones only unless told",
    {200: Answer("An event stream.", common.FRAMES), **_MISSING},
    (common.OFFSET_QUERY, *_TYPES, common.LAST_EVENT_ID, *_BETA),
)

_SEARCH: Final = Described(
    "search",
    "Search the events of every session that the key may read",
    {200: Answer("The best events first.", json(named("Hits")))},
    (
        Parameter("query", "q", "What to search for.", _search_text(), required=True),
        *_TYPES,
        *_CREATED,
        Parameter(
            "query",
            "session",
            "Only in these sessions: an id, or a prefix ending in `*`; repeatable.",
            array({"type": "string", "minLength": 1}, maxItems=session_query.SCOPES_MAX),
        ),
        _limit(limits.SEARCH_LIMIT_MAX, f"{session_query.SEARCH_LIMIT_DEFAULT} unless given"),
        *_BETA,
    ),
)

DESCRIBED: Final[Descriptions] = {
    manage.list_sessions: _LIST,
    manage.get_session: _GET,
    manage.update_session: _UPDATE,
    manage.delete_session: _DELETE,
    manage.fork_session: _FORK,
    append.post_events: _POST_EVENTS,
    read.get_events: _GET_EVENTS,
    read.head_events: _HEAD_EVENTS,
    read.stream_events: _STREAM_EVENTS,
    search.get_search: _SEARCH,
}
