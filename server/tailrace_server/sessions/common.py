"""What all reads of a session begin with, and what their pages look like."""

from __future__ import annotations

from typing import Final

import tailrace
from tailrace.errors import Rejected
from tailrace.offset import encode_offset
from tailrace.outcome import Reason
from tailrace_server.context import Context, no_session, session_key
from tailrace_server.protocol import caching, headers, render
from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.message import Chunk, HeaderList, Response
from tailrace_server.protocol.session_query import EventsQuery

VARY: Final = (
    headers.VARY,
    ", ".join((headers.AUTHORIZATION, headers.API_KEY, headers.ANTHROPIC_BETA)),
)


def head_of(context: Context, session: str) -> tailrace.Head:
    """The session's head; the one 404 if there is none, 410 if it is deleted but forked from."""
    try:
        head = context.store.head(session_key(session))
    except Rejected as error:
        raise refusal(error, session) from None
    if not head.is_json:
        raise RequestError(
            409,
            Reason.CONTENT_TYPE_MISMATCH.value,
            f"{session!r} is a stream of {head.content_type}, not a session of JSON events",
        )
    return head


def refusal(error: Rejected, session: str) -> RequestError:
    """The answer to a rejection that a read of the session met."""
    rejection = error.rejection
    if rejection.reason in (Reason.STREAM_NOT_FOUND, Reason.BUCKET_NOT_FOUND):
        return no_session(session)
    return RequestError(render.STATUS[rejection.reason], rejection.reason.value, rejection.message)


def trimmed(head: tailrace.Head) -> RequestError:
    """410 for an offset before what the session still keeps."""
    kept = encode_offset(head.start)
    message = f"offset: the events before {kept} are no longer kept"
    return RequestError(410, Reason.TRIMMED.value, message)


def start_of(query: EventsQuery, head: tailrace.Head) -> int:
    """The ordinal to start at: what was asked for, never beyond the tail."""
    if query.start is None:
        return head.start
    if query.start.ordinal is None:
        return head.tail
    if query.start.ordinal < head.start:
        raise trimmed(head)
    return min(query.start.ordinal, head.tail)


def page_response(
    if_none_match: str | None,
    found: HeaderList,
    tag: str,
    cache: str,
    chunks: list[Chunk],
    token: str | None,
) -> Response:
    """200 with a page of events, or 304 if the client has it (``if_none_match``).

    ``found`` are the headers that say where it ended, ``token`` is of the next page.
    """
    shared = ((headers.ETAG, tag), (headers.CACHE_CONTROL, cache), VARY, *found, *headers.BASE)
    if caching.none_match(if_none_match, tag):
        return Response(304, shared)
    return Response(200, (render.APPLICATION_JSON, *shared), render.data_page(tuple(chunks), token))
