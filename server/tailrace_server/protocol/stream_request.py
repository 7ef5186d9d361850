"""Requests of the Durable Streams Protocol → what they ask for, on every stream surface."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from tailrace import limits
from tailrace.errors import InvalidArgument
from tailrace.stream import is_json_type
from tailrace.validate import content_type as check_content_type
from tailrace_server.protocol import headers, json_mode, parse
from tailrace_server.protocol.cursor import parse_cursor
from tailrace_server.protocol.errors import bad_request
from tailrace_server.protocol.message import Request
from tailrace_server.protocol.parse import Live, Position
from tailrace_server.protocol.target import Query
from tailrace_server.protocol.timestamps import NS_PER_MS, parse_ns

_MS_PER_S: Final = 1000
TTL_S_MAX: Final = limits.TTL_MS_MAX // _MS_PER_S
_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)


class ForkHeaders(NamedTuple):
    """The fork headers of a PUT; ``source`` is a URL path, still as it was sent.

    ``start`` None means the source's tail.
    """

    source: str
    start: Position | None
    sub_offset: int


@dataclass(frozen=True, slots=True)
class CreateHeaders:
    """The headers of a PUT (protocol sections 4.2 and 5.1)."""

    content_type: str | None
    ttl_ms: int | None
    expires_at_ms: int | None
    closed: bool
    fork: ForkHeaders | None


class ReadQuery(NamedTuple):
    """What a GET asks for (protocol sections 5.6 to 5.8)."""

    start: Position
    live: Live | None
    cursor: int | None


def create_headers(request: Request) -> CreateHeaders:
    """The headers of a PUT; 400 names the one that breaks a rule of section 5.1."""
    ttl = request.header(headers.STREAM_TTL)
    expires_at = request.header(headers.STREAM_EXPIRES_AT)
    if ttl is not None and expires_at is not None:
        raise bad_request(
            headers.STREAM_TTL, f"and {headers.STREAM_EXPIRES_AT} exclude each other; send one"
        )
    return CreateHeaders(
        content_type=content_type(request),
        ttl_ms=None if ttl is None else _ttl_ms(ttl),
        expires_at_ms=None if expires_at is None else _expires_at_ms(expires_at),
        closed=parse.closes(request),
        fork=_fork(request),
    )


def content_type(request: Request) -> str | None:
    """The Content-Type header, None if it was not sent; 400 if it is no media type."""
    value = request.header(headers.CONTENT_TYPE)
    if not value:
        return None
    try:
        check_content_type(value)
    except InvalidArgument as error:
        raise bad_request(headers.CONTENT_TYPE, error.message) from None
    return value


def _ttl_ms(text: str) -> int:
    """Seconds in plain decimal: ``01``, ``+1``, ``1.0`` and ``1e3`` are refused."""
    if not _DECIMAL.fullmatch(text) or int(text) > TTL_S_MAX:
        raise bad_request(
            headers.STREAM_TTL,
            f"{text[:64]!r} is not a whole number of seconds from 0 to {TTL_S_MAX}",
        )
    return int(text) * _MS_PER_S


def _expires_at_ms(text: str) -> int:
    at_ms = parse_ns(text, headers.STREAM_EXPIRES_AT) // NS_PER_MS
    if at_ms < 0:
        raise bad_request(headers.STREAM_EXPIRES_AT, f"{text[:64]!r} is before 1970")
    return at_ms


def _fork(request: Request) -> ForkHeaders | None:
    source = request.header(headers.STREAM_FORKED_FROM)
    offset = request.header(headers.STREAM_FORK_OFFSET)
    sub_offset = request.header(headers.STREAM_FORK_SUB_OFFSET)
    if source is None:
        for name, value in (
            (headers.STREAM_FORK_OFFSET, offset),
            (headers.STREAM_FORK_SUB_OFFSET, sub_offset),
        ):
            if value is not None:
                raise bad_request(name, f"needs {headers.STREAM_FORKED_FROM} beside it")
        return None
    return ForkHeaders(
        source,
        None if offset is None else parse.position(offset, headers.STREAM_FORK_OFFSET),
        0 if sub_offset is None else parse.whole_number(sub_offset, headers.STREAM_FORK_SUB_OFFSET),
    )


def records(body: bytes, content_type: str, *, values_max: int) -> list[bytes]:
    """The records a body holds: its JSON values in JSON mode, else all of it as one.

    Of an empty body there are none.
    """
    if not body:
        return []
    if is_json_type(content_type):
        return json_mode.split(body, values_max=values_max)
    return [body]


def read_query(request: Request, query: Query) -> ReadQuery:
    """What a GET asks for; 400 for a live read without an offset, a bad offset or live mode.

    A browser that reconnects to an event stream repeats its first URL, so ``Last-Event-ID`` is
    newer than the URL's offset and wins.
    """
    start = parse.offset(query)
    live = parse.live(query)
    if live is Live.SSE:
        start = parse.last_event(request) or start
    if live is not None and start is None:
        raise bad_request("offset", f"is needed with live={live.value}; -1 is the start")
    return ReadQuery(start or Position(0), live, parse_cursor(query.single("cursor")))
