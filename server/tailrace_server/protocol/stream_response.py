"""Outcomes and read results → responses of the Durable Streams Protocol."""

from __future__ import annotations

from typing import Final

from tailrace.offset import encode_offset
from tailrace.outcome import Created, Reason, Rejection
from tailrace.read_result import ReadPieces, ReadResult
from tailrace.views import Head
from tailrace_server.protocol import caching, errors, headers, render
from tailrace_server.protocol.message import Chunk, Response
from tailrace_server.protocol.timestamps import format_ms

FRESH_S: Final = 60
STALE_S: Final = 300
_MS_PER_S: Final = 1000
_NO_STORE: Final = (headers.CACHE_CONTROL, caching.NO_STORE)
_VARY_BY_KEY: Final = (headers.VARY, f"{headers.AUTHORIZATION}, {headers.API_KEY}")


def created(outcome: Created, location: str) -> Response:
    """201, or 200 if the stream was there with this configuration (section 5.1)."""
    found = [
        (headers.CONTENT_TYPE, outcome.content_type),
        (headers.STREAM_NEXT_OFFSET, encode_offset(outcome.tail)),
    ]
    if outcome.closed:
        found.append((headers.STREAM_CLOSED, "true"))
    if outcome.existed:
        return Response(200, (*found, *headers.BASE))
    return Response(201, ((headers.LOCATION, location), *found, *headers.BASE))


def not_created(rejection: Rejection) -> Response:
    """A soft-deleted stream blocks its name: 409 for PUT, 410 for all else (section 4.2)."""
    if rejection.reason is Reason.STREAM_GONE:
        return errors.error_response(409, rejection.reason.value, rejection.message)
    return render.rejection(rejection)


def head(found: Head) -> Response:
    """What HEAD tells; never cached (section 5.5)."""
    told = [
        (headers.CONTENT_TYPE, found.content_type),
        _NO_STORE,
        (headers.ETAG, caching.tail_tag(found.stream_id, found.tail, closed=found.closed)),
        (headers.STREAM_NEXT_OFFSET, encode_offset(found.tail)),
    ]
    if found.ttl_ms is not None:
        told.append((headers.STREAM_TTL, str(found.ttl_ms // _MS_PER_S)))
    if found.expires_at_ms is not None:
        told.append((headers.STREAM_EXPIRES_AT, format_ms(found.expires_at_ms)))
    if found.closed:
        told.append((headers.STREAM_CLOSED, "true"))
    if found.snapshot is not None:
        told.extend(render.snapshot_headers(found.snapshot))
    return Response(200, (*told, *headers.BASE))


def tail(found: Head) -> Response:
    """The answer to a catch-up read from ``now``: no data, and no ETag (sections 8 and 10.1)."""
    body: tuple[Chunk, ...] = (b"[]",) if found.is_json else ()
    where = render.read_headers(found.tail, up_to_date=True, closed=found.closed)
    kind = (headers.CONTENT_TYPE, found.content_type)
    return Response(200, (kind, _NO_STORE, *where, *headers.BASE), body)


def page(
    result: ReadPieces | ReadResult,
    *,
    if_none_match: str | None,
    private: bool,
    expires_in_ms: int | None,
    cursor: int | None = None,
) -> Response:
    """A catch-up read, or a long-poll that found data (sections 5.6 and 5.7): 200 or 304.

    ``expires_in_ms`` bounds how long a cache may keep it, ``cursor`` is for live reads.
    """
    closed = result.closed and result.up_to_date
    tag = caching.etag(result.stream_id, result.first, result.next, closed=closed)
    final = result.count > 0 or closed
    shared = [
        (headers.ETAG, tag),
        (headers.CACHE_CONTROL, cache_control(final, private, expires_in_ms)),
        *render.read_headers(result.next, up_to_date=result.up_to_date, closed=closed),
        *headers.BASE,
    ]
    if private:
        shared.append(_VARY_BY_KEY)
    if cursor is not None and not closed:
        shared.append((headers.STREAM_CURSOR, str(cursor)))
    if caching.none_match(if_none_match, tag):
        return Response(304, tuple(shared))
    kind = (headers.CONTENT_TYPE, result.content_type)
    return Response(200, (kind, *shared), body(result))


def body(result: ReadPieces | ReadResult) -> tuple[Chunk, ...]:
    """The records as one body: an array in JSON mode (section 9.1.5), else one after another."""
    if not result.is_json:
        return result.pieces
    if not result.count:
        return (b"[]",)
    # Behind every JSON record stands one comma; the last one gives way to the bracket.
    *others, last = result.pieces
    return (b"[", *others, last[:-1], b"]")


def nothing_new(found: Head, cursor: int) -> Response:
    """The 204 of a long-poll at the tail (section 5.7)."""
    told = (_NO_STORE, *render.read_headers(found.tail, up_to_date=True, closed=found.closed))
    if not found.closed:
        told += ((headers.STREAM_CURSOR, str(cursor)),)
    return render.empty(204, told)


def cache_control(final: bool, private: bool, expires_in_ms: int | None) -> str:
    """How long a read's answer may be kept (section 10.1).

    ``final``: it can never become wrong, only be followed by more. What is not is the empty
    answer at the tail of an open stream: it may be kept, but must be asked about again.
    No answer outlives its stream, whose remaining life is ``expires_in_ms``.
    """
    scope = "private" if private else "public"
    if not final:
        return f"{scope}, no-cache"
    if expires_in_ms is None:
        return f"{scope}, max-age={FRESH_S}, stale-while-revalidate={STALE_S}"
    left_s = expires_in_ms // _MS_PER_S
    if left_s <= 0:
        return caching.NO_STORE
    fresh_s = min(FRESH_S, left_s)
    stale_s = min(STALE_S, left_s - fresh_s)
    return f"{scope}, max-age={fresh_s}, stale-while-revalidate={stale_s}"
