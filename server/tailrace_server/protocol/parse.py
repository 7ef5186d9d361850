"""Requests → parts of operations and values of parameters, the same for every surface."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tailrace import limits
from tailrace.errors import InvalidArgument
from tailrace.offset import decode_offset
from tailrace.operation import Append, Producer, Records, StreamKey, StreamOptions
from tailrace_server.protocol import caching, headers
from tailrace_server.protocol.errors import bad_request
from tailrace_server.protocol.message import Request
from tailrace_server.protocol.target import Query

_WHOLE_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_LIMIT: Final = re.compile(r"[0-9]{1,9}", re.ASCII)

# Most appends carry none of these, and are spared looking for each.
_OF_AN_APPEND: Final = frozenset(
    name.lower()
    for name in (
        headers.STREAM_CLOSED,
        headers.STREAM_SEQ,
        headers.STREAM_EXPECTED_OFFSET,
        headers.IF_MATCH,
        headers.PRODUCER_ID,
        headers.PRODUCER_EPOCH,
        headers.PRODUCER_SEQ,
    )
)

START: Final = "-1"
NOW: Final = "now"


class Live(enum.Enum):
    """How a read goes on at the tail (protocol sections 5.7 and 5.8)."""

    SSE = "sse"
    LONG_POLL = "long-poll"


class Position(NamedTuple):
    """Where a read starts: an ordinal, or the tail as it is when the read begins (None)."""

    ordinal: int | None


@dataclass(frozen=True, slots=True)
class AppendHeaders:
    """The headers of an append (protocol sections 5.2 and 5.2.1).

    ``expected_stream_id`` comes from ``If-Match``, which speaks of a stream that is there:
    with it nothing is made (``may_create``).
    """

    close: bool
    producer: Producer | None
    stream_seq: str | None
    expected_ordinal: int | None
    content_type: str | None
    expected_stream_id: int | None
    may_create: bool

    @property
    def are_bare(self) -> bool:
        """Whether they say nothing but what the body is, and which producer's."""
        bare = AppendHeaders(False, self.producer, None, None, self.content_type, None, True)
        return self == bare

    def append(
        self,
        key: StreamKey,
        records: Records,
        content_type: str | None,
        producer: Producer | None,
        create: StreamOptions | None = None,
    ) -> Append:
        """What they ask for, of this producer: its number may be another one than theirs."""
        return Append(
            key,
            records,
            content_type,
            self.close,
            producer,
            self.stream_seq,
            self.expected_ordinal,
            create,
            self.expected_stream_id,
        )


def append_headers(request: Request) -> AppendHeaders:
    """The headers of an append; 400 names the one that breaks a rule of section 5.2."""
    if _OF_AN_APPEND.isdisjoint(name for name, _ in request.headers):
        content_type = request.header(headers.CONTENT_TYPE) or None
        return AppendHeaders(False, None, None, None, content_type, None, True)
    if_match = _if_match(request)
    tail = None if if_match in (None, "*") else caching.tail(if_match)
    return AppendHeaders(
        close=closes(request),
        producer=_producer(request),
        stream_seq=_stream_seq(request),
        expected_ordinal=_expected_ordinal(request) if tail is None else tail.end,
        content_type=request.header(headers.CONTENT_TYPE) or None,
        expected_stream_id=None if tail is None else tail.stream_id,
        may_create=if_match is None,
    )


def closes(request: Request) -> bool:
    """``Stream-Closed: true`` in any case; every other value counts as absent (section 4.1)."""
    value = request.header(headers.STREAM_CLOSED)
    if value is None:
        return False
    # Sent twice it arrives as one value with a comma.
    return all(part.strip().lower() == "true" for part in value.split(","))


def _producer(request: Request) -> Producer | None:
    values = {
        name: request.header(name)
        for name in (headers.PRODUCER_ID, headers.PRODUCER_EPOCH, headers.PRODUCER_SEQ)
    }
    if all(value is None for value in values.values()):
        return None
    for name, value in values.items():
        if value is None:
            raise bad_request(
                name, "is missing; send Producer-Id, Producer-Epoch and Producer-Seq together"
            )
    identity = header_text(values[headers.PRODUCER_ID] or "", headers.PRODUCER_ID)
    if not identity:
        raise bad_request(headers.PRODUCER_ID, "must not be empty")
    if len(identity.encode("utf-8")) > limits.PRODUCER_ID_BYTES_MAX:
        raise bad_request(
            headers.PRODUCER_ID, f"must be at most {limits.PRODUCER_ID_BYTES_MAX} bytes"
        )
    return Producer(
        identity,
        whole_number(values[headers.PRODUCER_EPOCH] or "", headers.PRODUCER_EPOCH),
        whole_number(values[headers.PRODUCER_SEQ] or "", headers.PRODUCER_SEQ),
    )


def _stream_seq(request: Request) -> str | None:
    value = request.header(headers.STREAM_SEQ)
    if value is None:
        return None
    text = header_text(value, headers.STREAM_SEQ)
    if not 0 < len(text.encode("utf-8")) <= limits.STREAM_SEQ_BYTES_MAX:
        raise bad_request(
            headers.STREAM_SEQ, f"must be 1 to {limits.STREAM_SEQ_BYTES_MAX} bytes long"
        )
    return text


def _expected_ordinal(request: Request) -> int | None:
    value = request.header(headers.STREAM_EXPECTED_OFFSET)
    if value is None:
        return None
    if value == START:
        return 0
    return offset_token(value, headers.STREAM_EXPECTED_OFFSET)


def _if_match(request: Request) -> str | None:
    """400 beside ``Stream-Expected-Offset``, which says the same in other words."""
    value = request.header(headers.IF_MATCH)
    if value is not None and request.header(headers.STREAM_EXPECTED_OFFSET) is not None:
        raise bad_request(
            headers.IF_MATCH, f"and {headers.STREAM_EXPECTED_OFFSET} exclude each other; send one"
        )
    return value


def header_text(value: str, name: str) -> str:
    """A header's value as text: UTF-8 where its bytes are that; 400 for anything else."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        raise bad_request(name, "is not UTF-8") from None


def whole_number(text: str, field: str) -> int:
    """A number of 0 to 2^53 - 1 in plain decimal: no sign, no leading zero, no exponent."""
    if not _WHOLE_NUMBER.fullmatch(text) or int(text) > limits.PRODUCER_NUMBER_MAX:
        raise bad_request(
            field, f"{text[:64]!r} is not a whole number from 0 to {limits.PRODUCER_NUMBER_MAX}"
        )
    return int(text)


def offset_token(text: str, field: str) -> int:
    try:
        return decode_offset(text)
    except InvalidArgument as error:
        raise bad_request(field, error.message) from None


def position(text: str, field: str) -> Position:
    """An offset token, ``-1`` (the start) or ``now`` (the tail)."""
    if text == START:
        return Position(0)
    if text == NOW:
        return Position(None)
    return Position(offset_token(text, field))


def offset(query: Query) -> Position | None:
    """The ``offset`` parameter; None if it was not given."""
    text = query.single("offset")
    return None if text is None else position(text, "offset")


def live(query: Query) -> Live | None:
    text = query.single("live")
    if text is None:
        return None
    try:
        return Live(text)
    except ValueError:
        raise bad_request("live", f"{text[:64]!r} is neither 'sse' nor 'long-poll'") from None


def last_event(request: Request) -> Position | None:
    """Where ``Last-Event-ID`` says to go on: right after that event; None if it was not sent."""
    value = request.header(headers.LAST_EVENT_ID)
    if not value:
        return None
    if value == START:
        return Position(0)
    ordinal = offset_token(value, headers.LAST_EVENT_ID)
    return Position(min(ordinal + 1, limits.ORDINAL_MAX))


def limit(query: Query, *, maximum: int) -> int | None:
    """The ``limit`` parameter, 1 to ``maximum``; None if it was not given."""
    text = query.single("limit")
    if text is None:
        return None
    if not _LIMIT.fullmatch(text) or not 1 <= int(text) <= maximum:
        raise bad_request("limit", f"{text[:64]!r} is not a whole number from 1 to {maximum}")
    return int(text)


def choice(query: Query, name: str, allowed: Sequence[str]) -> str | None:
    """A parameter with few values; None if it was not given."""
    text = query.single(name)
    if text is not None and text not in allowed:
        shown = " or ".join(repr(value) for value in allowed)
        raise bad_request(name, f"{text[:64]!r} is not {shown}")
    return text
