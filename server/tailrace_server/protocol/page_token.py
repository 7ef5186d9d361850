"""Opaque page tokens: where a listing goes on.

A token names the stream's incarnation, so that it never continues in another stream of the
same name, and ends in a checksum, so that a mangled one is refused. It grants nothing: the
key's rights are checked on every page, so it needs no secret and survives a restart.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from typing import Final, NamedTuple

from tailrace_server.protocol.errors import RequestError, bad_request

_EVENTS: Final = struct.Struct("<BBQQQ")
_STREAMS: Final = struct.Struct("<BBQ")
_EVENTS_KIND: Final = 1
_STREAMS_KIND: Final = 2
_DIGEST_BYTES: Final = 6
_TOKEN_CHARS_MAX: Final = 4096
_U64_MAX: Final = 2**64 - 1


class EventsPage(NamedTuple):
    """The next page of one stream's records.

    ``position``: ascending, the first ordinal of the page; descending, the one after its
    last. ``end`` is the tail when the first descending page was read.
    """

    stream_id: int
    descending: bool
    position: int
    end: int


class StreamsPage(NamedTuple):
    """The next page of a listing of streams: after ``name`` created at ``created_at_ms``."""

    order: int
    created_at_ms: int
    name: str


def encode_events_page(page: EventsPage) -> str:
    packed = _EVENTS.pack(
        _EVENTS_KIND, page.descending, page.stream_id & _U64_MAX, page.position, page.end
    )
    return _seal(packed)


def decode_events_page(token: str) -> EventsPage:
    packed = _open(token)
    if len(packed) != _EVENTS.size or packed[0] != _EVENTS_KIND:
        raise _bad()
    _, descending, stream_id, position, end = _EVENTS.unpack(packed)
    return EventsPage(stream_id, bool(descending), position, end)


def encode_streams_page(page: StreamsPage) -> str:
    packed = _STREAMS.pack(_STREAMS_KIND, page.order, page.created_at_ms)
    return _seal(packed + page.name.encode("utf-8"))


def decode_streams_page(token: str) -> StreamsPage:
    packed = _open(token)
    if len(packed) < _STREAMS.size or packed[0] != _STREAMS_KIND:
        raise _bad()
    _, order, created_at_ms = _STREAMS.unpack_from(packed)
    return StreamsPage(order, created_at_ms, packed[_STREAMS.size :].decode("utf-8"))


def _seal(packed: bytes) -> str:
    return base64.urlsafe_b64encode(packed + _digest(packed)).rstrip(b"=").decode("ascii")


def _open(token: str) -> bytes:
    if len(token) > _TOKEN_CHARS_MAX:
        raise _bad()
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        sealed = base64.b64decode(padded, altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise _bad() from None
    packed, digest = sealed[:-_DIGEST_BYTES], sealed[-_DIGEST_BYTES:]
    if digest != _digest(packed) or _seal(packed) != token:
        raise _bad()
    return packed


def _digest(packed: bytes) -> bytes:
    return hashlib.blake2s(packed, digest_size=_DIGEST_BYTES, person=b"pagetokn").digest()


def _bad() -> RequestError:
    return bad_request("page", "is not a page token of this server; pass next_page as it came")
