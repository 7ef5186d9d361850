"""Parameters, headers and answers that several surfaces share."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tailrace import limits
from tailrace_server.openapi.shape import (
    EVENT_STREAM_TYPE,
    TRUE,
    Answer,
    Described,
    Header,
    Json,
    Parameter,
    integer,
    json,
    named,
)
from tailrace_server.protocol import headers, parse

OFFSET: Final = named("Offset")
_DIGITS: Final[Json] = {"type": "string", "pattern": "^[0-9]+$"}

# ---- what a request may carry

OFFSET_QUERY: Final = Parameter(
    "query",
    "offset",
    f"Where to start: an offset, `{parse.START}` (the start) or `{parse.NOW}` (the tail).",
    named("Position"),
)
LIVE: Final = Parameter(
    "query",
    "live",
    "`long-poll` waits for data; `sse` follows as server-sent events.",
    {"type": "string", "enum": [live.value for live in parse.Live]},
)
CURSOR: Final = Parameter(
    "query", "cursor", f"The last `{headers.STREAM_CURSOR}`; what is none is ignored."
)
LAST_EVENT_ID: Final = Parameter(
    "header",
    headers.LAST_EVENT_ID,
    "The offset of the last event seen: an event stream goes on behind it, whatever `offset` "
    "says. All else ignores it.",
)
IF_NONE_MATCH: Final = Parameter(
    "header", headers.IF_NONE_MATCH, "Entity tags that the client has: 304 if one still holds."
)
CLOSED: Final = Parameter(
    "header",
    headers.STREAM_CLOSED,
    "`true` (in any case) closes for ever; any other value counts as absent.",
)


def _producer(name: str, description: str, schema: Json) -> Parameter:
    return Parameter("header", name, f"{description} All three of these or none.", schema)


APPEND: Final = (
    _producer(
        headers.PRODUCER_ID,
        "The name of an idempotent producer.",
        {"type": "string", "minLength": 1, "maxLength": limits.PRODUCER_ID_BYTES_MAX},
    ),
    _producer(
        headers.PRODUCER_EPOCH,
        "Its epoch; a higher one fences the lower.",
        integer(0, limits.PRODUCER_NUMBER_MAX),
    ),
    _producer(
        headers.PRODUCER_SEQ,
        "The number of this request in its epoch, from 0.",
        integer(0, limits.PRODUCER_NUMBER_MAX),
    ),
    Parameter(
        "header",
        headers.STREAM_SEQ,
        "Must be greater, byte by byte, than the last one on this stream.",
        {"type": "string", "minLength": 1, "maxLength": limits.STREAM_SEQ_BYTES_MAX},
    ),
    Parameter(
        "header",
        headers.STREAM_EXPECTED_OFFSET,
        "Appends only if the tail is exactly there.",
        {"anyOf": [OFFSET, {"const": parse.START}]},
    ),
    Parameter(
        "header",
        headers.IF_MATCH,
        f"Appends only at this tail; makes nothing; not beside `{headers.STREAM_EXPECTED_OFFSET}`.",
    ),
    CLOSED,
)

# ---- what an answer may carry

FRAMES: Final = {EVENT_STREAM_TYPE: named("ServerSentEvent")}

NEXT_OFFSET: Final = Header(headers.STREAM_NEXT_OFFSET, "Where to go on from.", OFFSET, always=True)
TAIL: Final = Header(headers.STREAM_NEXT_OFFSET, "The tail, where there is a stream.", OFFSET)
UP_TO_DATE: Final = Header(headers.STREAM_UP_TO_DATE, "At the tail.", TRUE)
IS_CLOSED: Final = Header(headers.STREAM_CLOSED, "Nothing will ever follow.", TRUE)
NEXT_CURSOR: Final = Header(headers.STREAM_CURSOR, "To be sent back as `cursor`.", _DIGITS)
ETAG: Final = Header(headers.ETAG, "The entity tag of what was read.")
TAIL_ETAG: Final = Header(headers.ETAG, "The entity tag of the tail, for `If-Match`.", always=True)
CACHING: Final = Header(headers.CACHE_CONTROL, "How long it may be kept, and by whom.")
LOCATION: Final = Header(headers.LOCATION, "Where it is.", always=True)
RETRY_AFTER: Final = Header(headers.RETRY_AFTER, "Seconds to wait.", _DIGITS)
CHALLENGE: Final = Header(headers.WWW_AUTHENTICATE, "How to show a key.", always=True)
ALLOW: Final = Header(headers.ALLOW, "The methods that are possible here.", always=True)

PRODUCER_ANSWER: Final = (
    Header(headers.PRODUCER_EPOCH, "The producer's epoch.", _DIGITS),
    Header(headers.PRODUCER_SEQ, "The number acknowledged.", _DIGITS),
)
READ: Final = (NEXT_OFFSET, UP_TO_DATE, IS_CLOSED, NEXT_CURSOR, ETAG, CACHING)
APPENDED: Final = (NEXT_OFFSET, TAIL_ETAG, IS_CLOSED, *PRODUCER_ANSWER)


def refusal(description: str, *found: Header) -> Answer:
    """An error in the one JSON form that errors have."""
    return Answer(description, json(named("Error")), found)


FENCED: Final = refusal(
    "The producer's epoch is over.",
    Header(headers.PRODUCER_EPOCH, "The epoch that fences it.", _DIGITS),
)
CONFLICT: Final = refusal(
    "Closed (with `Stream-Closed`), another content type, a gap in a producer's numbers (with "
    "both numbers), a sequence that went back, or a tail that is elsewhere.",
    TAIL,
    IS_CLOSED,
    Header(headers.PRODUCER_EXPECTED_SEQ, "The number that comes next.", _DIGITS),
    Header(headers.PRODUCER_RECEIVED_SEQ, "The number that came.", _DIGITS),
)
UNMATCHED: Final = refusal(f"`{headers.IF_MATCH}` names another tail.", TAIL)
TOO_LARGE: Final = refusal("Too much in one request; the message says what, and how much fits.")
GONE: Final = refusal(
    "Deleted while forks read through it, or the offset lies before what is kept.", TAIL, IS_CLOSED
)

ANY_REQUEST: Final = {
    400: refusal("Something about the request is wrong; the message names it."),
    403: refusal("The server has no key, and this request does not come from its own machine."),
    408: refusal("The request did not arrive in time."),
    413: TOO_LARGE,
    414: refusal("The request target is too long."),
    415: refusal(
        "The body is compressed.",
        Header(headers.ACCEPT_ENCODING, "What a body may be coded with."),
    ),
    431: refusal("The request head is too large."),
    500: refusal("The server failed, or stored data is damaged; its log says why."),
    503: refusal(
        "Too much at once, stopping, or (without `Retry-After`) a write to disk has failed.",
        RETRY_AFTER,
    ),
}
"""What any request may get."""

UNAUTHORIZED: Final = refusal("The key is missing or not known.", CHALLENGE)
"""What any request that needs a key may get."""

MISSING: Final = refusal("There is none, or not for this key: the same answer.")


def headless(described: Described) -> Described:
    """The operation as HEAD: the same answers without their bodies."""
    answers = {status: replace(answer, content={}) for status, answer in described.answers.items()}
    return replace(described, answers=answers)
