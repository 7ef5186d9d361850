"""Snapshots and bootstraps of streams, described."""

from __future__ import annotations

from typing import Final

from tailrace_server.openapi import common
from tailrace_server.openapi.shape import (
    ANY_TYPE,
    ANYTHING,
    STRING,
    Answer,
    Body,
    Described,
    Descriptions,
    Header,
    Parameter,
)
from tailrace_server.protocol import headers
from tailrace_server.protocol.snapshot_message import DIGEST_PATTERN, NO_SNAPSHOT
from tailrace_server.snapshots import bootstrap, publish, read

_TAG: Final = "snapshots"
_DIGEST: Final = {"type": "string", "pattern": f"^{DIGEST_PATTERN}$"}
_WHICH: Final = (
    Header(headers.STREAM_SNAPSHOT_OFFSET, "Where it stands.", common.OFFSET, always=True),
    Header(headers.STREAM_SNAPSHOT_DIGEST, "Of its bytes.", _DIGEST, always=True),
)
VISIBLE: Final = (
    Header(headers.STREAM_SNAPSHOT_OFFSET, "Of the visible snapshot.", common.OFFSET),
    Header(headers.STREAM_SNAPSHOT_DIGEST, "Of the visible snapshot.", _DIGEST),
)
_READ: Final = (*_WHICH, common.NEXT_OFFSET, common.UP_TO_DATE, common.IS_CLOSED, common.CACHING)
_NONE: Final = common.refusal("No such stream for this key, or no such snapshot.", *VISIBLE)

DESCRIBED: Final[Descriptions] = {
    publish.put_snapshot: Described(
        _TAG,
        "Make the body the visible snapshot of a stream",
        {
            204: Answer("It is, and durable.", {}, (*_WHICH, common.NEXT_OFFSET)),
            404: common.MISSING,
            409: common.refusal(
                "Beyond the tail, older than the visible one, another one at its offset, or the "
                f"visible one is not that of `{headers.STREAM_SNAPSHOT_MATCH}`.",
                common.TAIL,
                common.IS_CLOSED,
                *VISIBLE,
            ),
            410: common.GONE,
        },
        (
            Parameter(
                "header",
                headers.STREAM_SNAPSHOT_MATCH,
                "The digest of the snapshot that it replaces.",
                _DIGEST,
            ),
        ),
        Body("Any bytes, of any content type.", {ANY_TYPE: ANYTHING}, required=False),
    ),
    read.get_newest: Described(
        _TAG,
        "Be led to the visible snapshot",
        {
            307: Answer("It is there.", {}, (common.LOCATION, *_READ)),
            404: _NONE,
            410: common.GONE,
        },
    ),
    read.get_snapshot: Described(
        _TAG,
        "Read the visible snapshot",
        {
            200: Answer("Its bytes.", {ANY_TYPE: ANYTHING}, (*_READ, common.ETAG)),
            304: Answer("What the client has still holds.", {}, (*_READ, common.ETAG)),
            404: _NONE,
            410: common.GONE,
        },
        (common.IF_NONE_MATCH,),
    ),
    publish.delete_snapshot: Described(
        _TAG,
        "Refused: only a newer snapshot replaces the visible one, and no other is there",
        {404: _NONE, 409: common.refusal("It is the visible one."), 410: common.GONE},
    ),
    bootstrap.get_bootstrap: Described(
        _TAG,
        "The visible snapshot and every record after it, in one answer",
        {
            200: Answer(
                "The snapshot, then one part for each record.",
                {"multipart/mixed": STRING},
                (
                    Header(
                        headers.STREAM_SNAPSHOT_OFFSET,
                        f"Where the snapshot stands; `{NO_SNAPSHOT}` if there is none.",
                        {"anyOf": [common.OFFSET, {"const": NO_SNAPSHOT}]},
                        always=True,
                    ),
                    VISIBLE[1],
                    common.NEXT_OFFSET,
                    common.UP_TO_DATE,
                    common.IS_CLOSED,
                    common.CACHING,
                ),
            ),
            404: common.MISSING,
            410: common.GONE,
        },
    ),
}
