"""The Durable Streams Protocol, described: the same on the flat surface and in buckets."""

from __future__ import annotations

from typing import Final

from tailrace_server.openapi import common
from tailrace_server.openapi.shape import (
    ANY_TYPE,
    ANYTHING,
    Answer,
    Body,
    Described,
    Descriptions,
    Header,
    Parameter,
    integer,
    named,
)
from tailrace_server.openapi.snapshots import VISIBLE
from tailrace_server.protocol import headers
from tailrace_server.protocol.stream_request import TTL_S_MAX
from tailrace_server.streams.read import get_stream, head_stream
from tailrace_server.streams.write import delete_stream, post_stream, put_stream

_TAG: Final = "streams"
_TTL: Final = integer(0, TTL_S_MAX)
_ANY: Final = {ANY_TYPE: ANYTHING}
_NO_SESSION: Final = {
    405: common.refusal("A session is written through the Sessions API.", common.ALLOW)
}
_READABLE: Final = {404: common.MISSING, 410: common.GONE}

_PUT: Final = Described(
    _TAG,
    "Create a stream or a fork, or confirm one with the same configuration",
    {
        # Both say what the stream's content type is, and hold nothing of it.
        200: Answer(
            "It was there, with this configuration.", {}, (common.NEXT_OFFSET, common.IS_CLOSED)
        ),
        201: Answer("Created.", {}, (common.LOCATION, common.NEXT_OFFSET, common.IS_CLOSED)),
        404: common.MISSING,
        409: common.refusal(
            "It is there with another configuration, or deleted but forked from; or the source "
            "of the fork is.",
            common.TAIL,
            common.IS_CLOSED,
        ),
        410: common.refusal("The fork would begin before what its source keeps."),
    },
    (
        Parameter(
            "header", headers.STREAM_TTL, "Seconds without a read or a write until it goes.", _TTL
        ),
        Parameter(
            "header",
            headers.STREAM_EXPIRES_AT,
            f"When it goes, whatever happens; not beside `{headers.STREAM_TTL}`.",
            named("Time"),
        ),
        common.CLOSED,
        Parameter(
            "header",
            headers.STREAM_FORKED_FROM,
            "Path of the stream that this one forks, as it would be requested.",
        ),
        Parameter(
            "header",
            headers.STREAM_FORK_OFFSET,
            "Where the fork leaves its source; its tail unless given.",
            named("Position"),
        ),
        Parameter(
            "header",
            headers.STREAM_FORK_SUB_OFFSET,
            "So many bytes (JSON: values) further.",
            integer(0),
        ),
    ),
    Body(
        "The first data. Its content type is the stream's; JSON is split into its values.",
        _ANY,
        required=False,
    ),
    in_bucket=_NO_SESSION,
)

_POST: Final = Described(
    _TAG,
    "Append to a stream, close it, or both",
    {
        200: Answer("New data of an idempotent producer.", {}, common.APPENDED),
        204: Answer("Appended or closed, or a producer's repetition.", {}, common.APPENDED),
        403: common.FENCED,
        409: common.CONFLICT,
        412: common.UNMATCHED,
        **_READABLE,
    },
    common.APPEND,
    Body(
        "Of the stream's content type. May be left out with `Stream-Closed: true`.",
        _ANY,
        required=False,
    ),
    in_bucket=_NO_SESSION,
)

_GET: Final = Described(
    _TAG,
    "Read a stream: catch up, long-poll, or follow as server-sent events",
    {
        200: Answer(
            "Records, in the stream's content type (JSON: an array), or an event stream.",
            {**common.FRAMES, ANY_TYPE: ANYTHING},
            (
                common.TAIL,
                *common.READ[1:],
                Header(
                    headers.STREAM_SSE_DATA_ENCODING,
                    "How the data of an event stream is encoded, where it is.",
                    {"const": "base64"},
                ),
            ),
        ),
        204: Answer("A long-poll that found nothing new.", {}, common.READ),
        304: Answer("What the client has still holds.", {}, common.READ),
        **_READABLE,
    },
    (
        common.OFFSET_QUERY,
        common.LIVE,
        common.CURSOR,
        common.LAST_EVENT_ID,
        common.IF_NONE_MATCH,
    ),
)

_HEAD: Final = common.headless(
    Described(
        _TAG,
        "A stream's content type, tail, closure and lifetime",
        {
            200: Answer(
                "What it is.",
                {},
                (
                    common.NEXT_OFFSET,
                    common.IS_CLOSED,
                    common.TAIL_ETAG,
                    common.CACHING,
                    Header(headers.STREAM_TTL, "Seconds, where it has a TTL.", _TTL),
                    Header(headers.STREAM_EXPIRES_AT, "Where it has an end.", named("Time")),
                    *VISIBLE,
                ),
            ),
            **_READABLE,
        },
    )
)

_DELETE: Final = Described(
    _TAG,
    "Delete a stream; what forks read through it stays for them",
    {204: Answer("Deleted."), **_READABLE},
)

DESCRIBED: Final[Descriptions] = {
    put_stream: _PUT,
    post_stream: _POST,
    get_stream: _GET,
    head_stream: _HEAD,
    delete_stream: _DELETE,
}
