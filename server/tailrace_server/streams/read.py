"""GET and HEAD of a stream: catch-up, long-poll, SSE (protocol sections 5.5 to 5.8)."""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

import tailrace
from tailrace.errors import Rejected
from tailrace.offset import encode_offset
from tailrace.operation import StreamKey
from tailrace.outcome import Reason
from tailrace.stream import media_type
from tailrace_server.context import (
    Answer,
    Call,
    Context,
    Found,
    LastingStep,
    PageStep,
    PlainPage,
    Step,
    Wait,
    wait_for,
)
from tailrace_server.following import Follow
from tailrace_server.keys import Grant, Right
from tailrace_server.live import LiveResponse, Send
from tailrace_server.protocol import headers, render, sse, stream_request, stream_response
from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.message import HeaderList, Request, Response
from tailrace_server.protocol.parse import Live
from tailrace_server.protocol.stream_request import ReadQuery
from tailrace_server.protocol.target import parse_query
from tailrace_server.streams.address import (
    BUCKET_PREFIX,
    FLAT_PREFIX,
    may,
    no_stream,
    refusal,
    source_key,
    stream_key,
)

_QUERIES_MAX: Final = 1024
_QUERY_CHARS_MAX: Final = 64


class Form(enum.Enum):
    """How a content type travels over SSE (protocol section 5.8)."""

    JSON = "json"
    TEXT = "text"
    BASE64 = "base64"


def form_of(content_type: str, *, is_json: bool) -> Form:
    if is_json:
        return Form.JSON
    return Form.TEXT if media_type(content_type).startswith("text/") else Form.BASE64


@dataclass(frozen=True, slots=True)
class StreamEncoding:
    """SSE frames of any stream's records: a data event a batch, control events between them."""

    form: Form

    @property
    def name(self) -> str:
        return f"stream:{self.form.value}"

    @property
    def control(self) -> bool:
        return True

    def whole(self, result: tailrace.ReadResult) -> int:
        """Text is whole where no character goes on in the next record."""
        count = result.count
        if self.form is Form.TEXT:
            while count and sse.unfinished(result.payload[: result.ends[count - 1]]):
                count -= 1
        return count

    def encode(self, result: tailrace.ReadResult) -> bytes:
        if not result.count:
            return b""
        if self.form is Form.JSON:
            return sse.json_array(result.records())
        if self.form is Form.TEXT:
            return sse.text(result.payload)
        return sse.binary(result.payload)


def prepare_head(context: Context, call: Call) -> Step:
    key = stream_key(call, Right.READ)
    look = partial(_head, context, key)
    return LastingStep(context, key, look)


def _head(context: Context, key: StreamKey) -> Response:
    try:
        return stream_response.head(context.store.head(key))
    except Rejected as error:
        raise refusal(error, key) from None


async def head_stream(context: Context, call: Call) -> Answer:
    return _head(context, stream_key(call, Right.READ))


def prepare_get(context: Context, call: Call) -> Step | None:
    """A catch-up read that need not wait, or a long-poll."""
    key = stream_key(call, Right.READ)
    query = stream_request.read_query(call.request, call.query)
    if query.live is Live.LONG_POLL:
        return partial(_poll_now, context, call, key, query)
    if query.live is not None:
        return None
    if_none_match = call.request.header(headers.IF_NONE_MATCH)
    is_get = call.request.method == "GET"
    look = partial(_read_now, context, key, query, if_none_match, is_get)
    step = LastingStep(context, key, look)
    plain = is_get and if_none_match is None
    return PageStep(step, partial(_sibling, call.grant, _surface(call))) if plain else step


def _surface(call: Call) -> str:
    return FLAT_PREFIX if "stream_name" in call.params else BUCKET_PREFIX


def _sibling(grant: Grant, prefix: str, path: str, query: str) -> tuple[StreamKey, int] | None:
    """What a plain catch-up read asks for, if it is one; see :data:`context.Siblings`."""
    ordinal = _catch_up_from(query) if len(query) <= _QUERY_CHARS_MAX else None
    if ordinal is None or not path.startswith(prefix):
        return None
    try:
        key = source_key(path, "path")
    except RequestError:
        return None
    return (key, ordinal) if may(grant, Right.READ, key) else None


@lru_cache(_QUERIES_MAX)
def _catch_up_from(query: str) -> int | None:
    """The ordinal that a catch-up read with this query starts at; None if it is no such read."""
    try:
        found = stream_request.read_query(Request("GET", "", query, (), b""), parse_query(query))
    except RequestError:
        return None
    return found.start.ordinal if found.live is None else None


def plain_pages(context: Context, asked: Sequence[tuple[StreamKey, int]]) -> list[PlainPage | None]:
    """The answers to catch-up reads that say nothing but this, where all of it is at hand."""
    results = context.store.pieces_small(asked, max_bytes=context.config.read_bytes_max)
    private = not context.keys.is_open
    return [
        PlainPage(result, private) if result is not None and _is_plain(result) else None
        for result in results
    ]


def _is_plain(result: tailrace.ReadPieces) -> bool:
    """Whether its answer is that of a :class:`PlainPage` to a GET without conditions."""
    ended = result.closed and result.up_to_date
    return result.count > 0 and not ended and result.expires_at_ms is None


def _read_now(
    context: Context, key: StreamKey, query: ReadQuery, if_none_match: str | None, is_get: bool
) -> Response | PlainPage | None:
    ordinal = query.start.ordinal
    try:
        if ordinal is None:
            head = context.store.head(key)
            return stream_response.tail(head) if head.ttl_ms is None else None
        result = context.bridge.pieces_now(key, ordinal, max_bytes=context.config.read_bytes_max)
    except Rejected as error:
        if ordinal is not None and error.rejection.reason is Reason.TRIMMED:
            return None  # rare; the handler says what is kept
        raise refusal(error, key) from None
    if result is None:
        return None
    if is_get and if_none_match is None and _is_plain(result):
        return PlainPage(result, not context.keys.is_open)
    return _page(context, if_none_match, result)


async def get_stream(context: Context, call: Call) -> Answer:
    key = stream_key(call, Right.READ)
    query = stream_request.read_query(call.request, call.query)
    try:
        head = context.store.head(key)
        if query.live is not None or query.start.ordinal is None:
            await _touch(context, head)
        if query.live is Live.SSE:
            return await _follow(context, call, query, head)
        if query.live is Live.LONG_POLL:
            wait = _wait(context, call, query, head, _start(query, head))
            return await wait_for(wait, call.grant)
        if query.start.ordinal is None:
            return stream_response.tail(head)
        result = await context.bridge.read_pieces(
            key, _kept(query.start.ordinal, head), max_bytes=context.config.read_bytes_max
        )
    except Rejected as error:
        raise refusal(error, key) from None
    return _page(context, call.request.header(headers.IF_NONE_MATCH), result)


def _page(
    context: Context,
    if_none_match: str | None,
    result: tailrace.ReadPieces | tailrace.ReadResult,
    cursor: int | None = None,
) -> Response:
    expires_in_ms = None
    if result.expires_at_ms is not None:
        expires_in_ms = result.expires_at_ms - int(time.time() * 1000)
    return stream_response.page(
        result,
        if_none_match=if_none_match,
        private=not context.keys.is_open,
        expires_in_ms=expires_in_ms,
        cursor=cursor,
    )


async def _touch(context: Context, head: tailrace.Head) -> None:
    """Renew a sliding TTL when a read begins that may find nothing (section 5.1)."""
    if head.ttl_ms is not None:
        await context.bridge.read(head.key, head.tail, max_bytes=1)


def _start(query: ReadQuery, head: tailrace.Head) -> int:
    """The ordinal a live read starts at, never beyond the tail."""
    if query.start.ordinal is None:
        return head.tail
    return min(_kept(query.start.ordinal, head), head.tail)


def _kept(ordinal: int, head: tailrace.Head) -> int:
    """``ordinal``; 410 if it is before what is kept (``-1`` is, once anything is dropped)."""
    if ordinal < head.start:
        raise RequestError(
            410,
            Reason.TRIMMED.value,
            f"offset: what was before {encode_offset(head.start)} is no longer kept",
        )
    return ordinal


async def _follow(
    context: Context, call: Call, query: ReadQuery, head: tailrace.Head
) -> LiveResponse:
    start = _start(query, head)
    context.hub.check_capacity()
    # What cannot be read is told now: a stream of events once begun could only break off.
    await context.bridge.read(head.key, start, max_bytes=1)
    form = form_of(head.content_type, is_json=head.is_json)
    reader = Follow(
        head.key, head.stream_id, start, StreamEncoding(form), query.cursor, call.grant, tight=True
    )

    async def run(send: Send) -> None:
        await context.hub.follow(reader, send)

    found: HeaderList = render.EVENT_STREAM
    if form is Form.BASE64:
        found = (*found, (headers.STREAM_SSE_DATA_ENCODING, "base64"))
    return LiveResponse(200, found, run)


def _wait(context: Context, call: Call, query: ReadQuery, head: tailrace.Head, start: int) -> Wait:
    """The long-poll that a request is, once it is to wait (section 5.7)."""
    if_none_match = call.request.header(headers.IF_NONE_MATCH)
    look = partial(_look, context, head, start, if_none_match)
    return Wait(context.hub, head, start, (start, if_none_match), query.cursor, look)


def _look(
    context: Context,
    began: tailrace.Head,
    start: int,
    if_none_match: str | None,
    over: bool,
    revoked: bool,
) -> Found | None:
    """See :class:`Wait`: data, or 204 when none came in time."""
    key = began.key
    head = context.bridge.head(key, began.stream_id)
    if head is None or revoked:
        raise no_stream(key.stream)
    if start < head.tail:
        try:
            result = context.store.read_pieces(key, start, max_bytes=context.config.read_bytes_max)
        except Rejected as error:
            raise refusal(error, key) from None
        if result.stream_id != head.stream_id:  # deleted and made again
            raise no_stream(key.stream)
        return partial(_page, context, if_none_match, result)
    if head.closed or context.hub.draining or over:
        return partial(stream_response.nothing_new, head)
    return None


def _poll_now(context: Context, call: Call, key: StreamKey, query: ReadQuery, _body: bytes) -> Wait:
    try:
        head = context.store.head(key)
        if head.ttl_ms is not None:
            context.store.read(key, head.tail, max_bytes=1)  # renews it, as in _touch
    except Rejected as error:
        raise refusal(error, key) from None
    wait = _wait(context, call, query, head, _start(query, head))
    context.hub.check_capacity()
    return wait
