"""Outcomes and read results → responses, the same for every surface."""

from __future__ import annotations

from typing import Final

import msgspec

from tailrace.offset import encode_offset
from tailrace.operation import Snapshot
from tailrace.outcome import Appended, Reason, Rejection
from tailrace_server.protocol import caching, errors, headers
from tailrace_server.protocol.message import Chunk, HeaderList, Response

APPLICATION_JSON: Final = (headers.CONTENT_TYPE, "application/json")
EVENT_STREAM: Final[HeaderList] = (
    # Exactly this value: a parameter makes some EventSource clients refuse the stream.
    (headers.CONTENT_TYPE, "text/event-stream"),
    (headers.CACHE_CONTROL, caching.LIVE),
    (headers.X_ACCEL_BUFFERING, "no"),
    *headers.BASE,
)

DIGEST_PREFIX: Final = "sha256:"

STATUS: Final[dict[Reason, int]] = {
    Reason.BUCKET_NOT_FOUND: 404,
    Reason.BUCKET_EXISTS: 409,
    Reason.BUCKET_NOT_EMPTY: 409,
    Reason.STREAM_NOT_FOUND: 404,
    Reason.STREAM_GONE: 410,
    Reason.STREAM_CLOSED: 409,
    Reason.CONFIG_MISMATCH: 409,
    Reason.CONTENT_TYPE_MISMATCH: 409,
    Reason.EMPTY_APPEND: 400,
    Reason.PRODUCER_FENCED: 403,
    Reason.PRODUCER_EPOCH_START: 400,
    Reason.PRODUCER_GAP: 409,
    Reason.PRODUCERS_TOO_MANY: 409,
    Reason.STREAM_SEQ_REGRESSED: 409,
    Reason.EXPECTED_ORDINAL_MISMATCH: 409,
    Reason.PRECONDITION_FAILED: 412,
    Reason.FORK_SOURCE_NOT_FOUND: 404,
    Reason.FORK_SOURCE_GONE: 409,
    Reason.FORK_BEYOND_TAIL: 400,
    Reason.FORK_SUB_OFFSET: 400,
    Reason.FORK_TOO_DEEP: 409,
    Reason.TRIMMED: 410,
    Reason.TRIM_BACKWARDS: 409,
    Reason.TRIM_BEYOND_TAIL: 409,
    Reason.TRIM_BEYOND_SNAPSHOT: 409,
    Reason.SNAPSHOT_NOT_FOUND: 404,
    Reason.SNAPSHOT_BEYOND_TAIL: 409,
    Reason.SNAPSHOT_STALE: 409,
    Reason.SNAPSHOT_CONFLICT: 409,
    Reason.SNAPSHOT_MISMATCH: 409,
    Reason.TOO_LARGE: 413,
}


def rejection(rejected: Rejection) -> Response:
    """The answer to an operation that changed nothing."""
    extra: list[tuple[str, str]] = []
    if rejected.tail is not None:
        extra.append((headers.STREAM_NEXT_OFFSET, encode_offset(rejected.tail)))
    if rejected.closed:
        extra.append((headers.STREAM_CLOSED, "true"))
    if rejected.producer_epoch is not None:
        extra.append((headers.PRODUCER_EPOCH, str(rejected.producer_epoch)))
    if rejected.producer_expected_seq is not None:
        extra.append((headers.PRODUCER_EXPECTED_SEQ, str(rejected.producer_expected_seq)))
    if rejected.producer_received_seq is not None:
        extra.append((headers.PRODUCER_RECEIVED_SEQ, str(rejected.producer_received_seq)))
    message = rejected.message
    if rejected.reason is Reason.PRECONDITION_FAILED:  # RFC 9110 section 13.1.1
        message = f"{headers.IF_MATCH}: {message}"
    if rejected.snapshot is not None:
        extra.extend(snapshot_headers(rejected.snapshot))
    return errors.error_response(
        STATUS[rejected.reason], rejected.reason.value, message, tuple(extra)
    )


def snapshot_headers(snapshot: Snapshot) -> HeaderList:
    """Which snapshot is, or was made, the visible one."""
    return (
        (headers.STREAM_SNAPSHOT_OFFSET, encode_offset(snapshot.ordinal)),
        (headers.STREAM_SNAPSHOT_DIGEST, DIGEST_PREFIX + snapshot.digest.hex()),
    )


def appended(outcome: Appended) -> Response:
    """The answer to an append (protocol sections 5.2, 5.2.1 and 5.3).

    204; with producer headers 200 for new data, and 204 for a duplicate and where there was
    nothing but the close.
    """
    added = not outcome.duplicate and outcome.tail > outcome.base
    new = outcome.producer_epoch is not None and added
    return Response(200 if new else 204, (*append_headers(outcome), *headers.BASE))


def append_headers(outcome: Appended) -> HeaderList:
    """Where the stream ends now, with the tag that the next append may name in If-Match."""
    found = [
        (headers.STREAM_NEXT_OFFSET, encode_offset(outcome.tail)),
        (headers.ETAG, caching.tail_tag(outcome.stream_id, outcome.tail, closed=outcome.closed)),
    ]
    if outcome.closed:
        found.append((headers.STREAM_CLOSED, "true"))
    if outcome.producer_epoch is not None:
        found.append((headers.PRODUCER_EPOCH, str(outcome.producer_epoch)))
    if outcome.producer_seq is not None:
        found.append((headers.PRODUCER_SEQ, str(outcome.producer_seq)))
    return tuple(found)


def read_headers(next_ordinal: int, *, up_to_date: bool, closed: bool) -> HeaderList:
    """What every read says about where it ended (protocol section 5.6).

    ``closed`` only counts at the tail: a page before it must not look like the end.
    """
    found = [(headers.STREAM_NEXT_OFFSET, encode_offset(next_ordinal))]
    if up_to_date:
        found.append((headers.STREAM_UP_TO_DATE, "true"))
        if closed:
            found.append((headers.STREAM_CLOSED, "true"))
    return tuple(found)


def json_value(status: int, value: object, extra: HeaderList = ()) -> Response:
    """A JSON answer made here (not stored), never cached."""
    return Response(
        status,
        (APPLICATION_JSON, (headers.CACHE_CONTROL, caching.NO_STORE), *extra, *headers.BASE),
        (msgspec.json.encode(value),),
    )


def data_page(records: tuple[Chunk, ...], next_page: str | None) -> tuple[Chunk, ...]:
    """The body of a page: ``records`` are chunks of a comma-separated run, not single events."""
    end = b"null" if next_page is None else b'"' + next_page.encode("ascii") + b'"'
    return (b'{"data":[', *records, b'],"next_page":' + end + b"}")


def empty(status: int, extra: HeaderList = ()) -> Response:
    return Response(status, (*extra, *headers.BASE))


def preflight(methods: str) -> Response:
    """The answer to a CORS preflight: what a browser may send here."""
    return Response(
        204,
        (
            (headers.ALLOW, methods),
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", ", ".join(headers.CORS_ALLOWED)),
            ("Access-Control-Max-Age", str(headers.PREFLIGHT_MAX_AGE_S)),
            *headers.BASE,
        ),
    )
