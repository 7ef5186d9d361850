"""Buckets, and what streams in them have beyond the protocol, described."""

from __future__ import annotations

from typing import Final

from tailrace import limits
from tailrace_server.buckets import manage, retention
from tailrace_server.openapi import common
from tailrace_server.openapi.shape import (
    Answer,
    Described,
    Descriptions,
    Parameter,
    integer,
    json,
    named,
)
from tailrace_server.openapi.snapshots import VISIBLE

_TAG: Final = "buckets"
_MISSING: Final = {404: common.MISSING}

DESCRIBED: Final[Descriptions] = {
    manage.put_bucket: Described(
        _TAG,
        "Make a bucket",
        {
            201: Answer("Made; it is empty.", {}, (common.LOCATION,)),
            409: common.refusal("It is there."),
            **_MISSING,
        },
    ),
    manage.get_bucket: Described(
        _TAG,
        "Look at a bucket",
        {200: Answer("The bucket.", json(named("Bucket"))), **_MISSING},
    ),
    manage.delete_bucket: Described(
        _TAG,
        "Delete an empty bucket",
        {
            204: Answer("Deleted."),
            409: common.refusal("It is not empty, or the server's own."),
            **_MISSING,
        },
    ),
    manage.list_streams: Described(
        _TAG,
        "List a bucket's streams by id",
        {200: Answer("A page of streams.", json(named("StreamList"))), **_MISSING},
        (
            Parameter("query", "prefix", "Only ids that begin so."),
            Parameter("query", "after", "`next_cursor` of the answer before."),
            Parameter(
                "query",
                "limit",
                f"At most so many; {limits.LIST_LIMIT_MAX} unless given.",
                integer(1, limits.LIST_LIMIT_MAX),
            ),
        ),
    ),
    retention.put_retention: Described(
        _TAG,
        "Drop what is before an offset; the offsets of what is left stay",
        {
            204: Answer("Dropped.", {}, (common.NEXT_OFFSET,)),
            409: common.refusal(
                "Backwards, beyond the tail, or newer than the visible snapshot.",
                common.TAIL,
                common.IS_CLOSED,
                *VISIBLE,
            ),
            410: common.GONE,
            **_MISSING,
        },
    ),
}
