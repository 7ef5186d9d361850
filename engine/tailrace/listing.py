"""A page of a bucket's streams."""

from __future__ import annotations

from tailrace.catalog import Catalog
from tailrace.operation import StreamKey
from tailrace.outcome import Rejection
from tailrace.plan import live_stream
from tailrace.sorted_names import SortedNames
from tailrace.views import Head, StreamPage, head_of


def stream_page(
    durable: Catalog,
    names: SortedNames,
    now_ms: int,
    bucket: str,
    prefix: str,
    after: str | None,
    limit: int,
    *,
    descending: bool,
) -> StreamPage:
    """At most ``limit`` streams that a client may see, behind ``after`` in the order of names."""
    heads: list[Head] = []
    while True:
        found = names.page(bucket, prefix, after, limit + 1, descending=descending)
        for name in found:
            state = live_stream(durable, StreamKey(bucket, name), now_ms)
            if isinstance(state, Rejection):
                continue
            if len(heads) == limit:
                return StreamPage(heads, has_more=True)
            heads.append(head_of(state))
        if len(found) <= limit:
            return StreamPage(heads, has_more=False)
        after = found[-1]
