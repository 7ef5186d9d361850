"""Requests about snapshots and their answers: the sans-IO side."""

from __future__ import annotations

import re
from typing import Final

from tailrace.limits import DIGEST_BYTES
from tailrace.offset import encode_offset
from tailrace.operation import Snapshot, StreamKey
from tailrace.outcome import Reason, SnapshotStored
from tailrace.stream import DEFAULT_CONTENT_TYPE
from tailrace.views import Head
from tailrace_server.protocol import caching, headers, parse, render, stream_request
from tailrace_server.protocol.errors import RequestError, bad_request, too_large
from tailrace_server.protocol.message import HeaderList, Request, Response

OFFSET_FIELD: Final = "snapshot offset"
NO_SNAPSHOT: Final = "-1"
DIGEST_PATTERN: Final = f"{re.escape(render.DIGEST_PREFIX)}[0-9a-f]{{{2 * DIGEST_BYTES}}}"
_DIGEST: Final = re.compile(DIGEST_PATTERN)
_NO_STORE: Final = (headers.CACHE_CONTROL, caching.NO_STORE)


def offset(text: str) -> int:
    """The boundary that a path names; 400 for what is none, ``-1`` and ``now`` included."""
    return parse.offset_token(text, OFFSET_FIELD)


def content_type(request: Request) -> str:
    """The snapshot's own content type."""
    return stream_request.content_type(request) or DEFAULT_CONTENT_TYPE


def match(request: Request) -> bytes | None:
    """The digest that the visible snapshot must have; 400 for what is no digest."""
    value = request.header(headers.STREAM_SNAPSHOT_MATCH)
    if value is None:
        return None
    if not _DIGEST.fullmatch(value):
        raise bad_request(
            headers.STREAM_SNAPSHOT_MATCH,
            f"{value[:80]!r} is no digest; send what {headers.STREAM_SNAPSHOT_DIGEST} said",
        )
    return bytes.fromhex(value.removeprefix(render.DIGEST_PREFIX))


def larger_than(limit: int) -> RequestError:
    return too_large(f"body: a snapshot may have at most {limit} bytes here")


def no_snapshot(key: StreamKey, ordinal: int | None = None) -> RequestError:
    """404: there is none, or at ``ordinal`` not any more."""
    where = "" if ordinal is None else f" at {encode_offset(ordinal)}, or not any more"
    message = f"stream {key.stream!r} has no snapshot{where}"
    return RequestError(404, Reason.SNAPSHOT_NOT_FOUND.value, message)


def announced_length(request: Request) -> int:
    """How many bytes the request says it brings; 0 if it does not say."""
    value = request.header(headers.CONTENT_LENGTH)
    return int(value) if value is not None and value.isascii() and value.isdigit() else 0


def stored(outcome: SnapshotStored) -> Response:
    tail = (headers.STREAM_NEXT_OFFSET, encode_offset(outcome.tail))
    return render.empty(204, (*render.snapshot_headers(outcome.snapshot), tail))


def redirect(path: str, head: Head, snapshot: Snapshot) -> Response:
    """307 from ``path``, that of the newest snapshot, to the one it is now."""
    location = (headers.LOCATION, f"{path}/{encode_offset(snapshot.ordinal)}")
    return render.empty(307, (location, _NO_STORE, *_place(head, snapshot)))


def etag(head: Head, snapshot: Snapshot) -> str:
    """A snapshot never changes: its stream's incarnation and its ordinal name its bytes."""
    at = snapshot.ordinal
    return caching.etag(head.stream_id, at, at, closed=False, variant="snapshot")


def read_headers(head: Head, snapshot: Snapshot, *, private: bool) -> HeaderList:
    """What goes with a snapshot's bytes, but for their type.

    A cache may keep them, but must ask: the next snapshot makes this one a 404.
    """
    scope = "private" if private else "public"
    return (
        (headers.ETAG, etag(head, snapshot)),
        (headers.CACHE_CONTROL, f"{scope}, no-cache"),
        *_place(head, snapshot),
        *headers.BASE,
    )


def _place(head: Head, snapshot: Snapshot) -> HeaderList:
    """Where a snapshot stands, and where to read on: right behind it."""
    at_tail = snapshot.ordinal == head.tail
    where = render.read_headers(snapshot.ordinal, up_to_date=at_tail, closed=head.closed)
    return (*render.snapshot_headers(snapshot), *where)


def bootstrap_headers(head: Head, content_type: str) -> HeaderList:
    """Of a bootstrap of all that ``head`` tells of: it is up to date by its nature."""
    snapshot: HeaderList = ((headers.STREAM_SNAPSHOT_OFFSET, NO_SNAPSHOT),)
    if head.snapshot is not None:
        snapshot = render.snapshot_headers(head.snapshot)
    where = render.read_headers(head.tail, up_to_date=True, closed=head.closed)
    kind = (headers.CONTENT_TYPE, content_type)
    return (kind, _NO_STORE, *snapshot, *where, *headers.BASE)
