"""A page of a bucket's streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tailrace import validate
from tailrace.catalog import Catalog
from tailrace.errors import InvalidArgument, Rejected
from tailrace.limits import LIST_LIMIT_MAX
from tailrace.operation import StreamKey
from tailrace.outcome import Reason, Rejection
from tailrace.plan import live_stream
from tailrace.sorted_names import CreationPlace, SortedNames
from tailrace.views import BucketInfo, Head, StreamPage, head_of

_Place = TypeVar("_Place")


class Listing:
    """Lists what is durable, and what a client may see of it."""

    def __init__(self, durable: Catalog, names: SortedNames, now_ms: Callable[[], int]) -> None:
        self._durable = durable
        self._names = names
        self._now_ms = now_ms

    def bucket(self, bucket: str) -> BucketInfo:
        """Rejected if there is no such bucket."""
        validate.words("bucket", (bucket,))
        state = self._durable.buckets.get(bucket)
        if state is None:
            raise Rejected(Rejection(Reason.BUCKET_NOT_FOUND, f"bucket {bucket} does not exist"))
        return BucketInfo(*state)

    def by_name(
        self, bucket: str, prefix: str, after: str | None, limit: int, *, descending: bool
    ) -> StreamPage:
        """See :meth:`tailrace.store.Store.list_streams`."""
        self._check(bucket, prefix, limit)
        if after is not None:
            validate.words("after", (after,))
        now_ms = self._now_ms()

        def fetch(after: str | None) -> list[str]:
            return self._names.page(bucket, prefix, after, limit + 1, descending=descending)

        def visible(name: str) -> Head | None:
            state = live_stream(self._durable, StreamKey(bucket, name), now_ms)
            return None if isinstance(state, Rejection) else head_of(state)

        return _page(fetch, after, limit + 1, visible, limit)

    def by_creation(
        self,
        bucket: str,
        prefix: str,
        after: tuple[int, str] | None,
        created: tuple[int | None, int | None],
        limit: int,
        *,
        descending: bool,
    ) -> StreamPage:
        """See :meth:`tailrace.store.Store.list_created`; ``created`` bounds the times.

        A page costs its own length; with ``prefix``, all that stands between its streams, too.
        """
        self._check(bucket, prefix, limit)
        validate.time_range(*created)
        place = None if after is None else _place(after)
        now_ms = self._now_ms()
        count = max(limit + 1, LIST_LIMIT_MAX) if prefix else limit + 1

        def fetch(after: CreationPlace | None) -> list[CreationPlace]:
            return self._names.created_page(bucket, after, created, count, descending=descending)

        def visible(place: CreationPlace) -> Head | None:
            if not place.name.startswith(prefix):
                return None
            state = live_stream(self._durable, StreamKey(bucket, place.name), now_ms)
            # It may have been deleted and made again meanwhile: then it stands elsewhere by now.
            if isinstance(state, Rejection) or state.config.created_at_ms != place.created_at_ms:
                return None
            return head_of(state)

        return _page(fetch, place, count, visible, limit)

    def _check(self, bucket: str, prefix: str, limit: int) -> None:
        validate.page("limit", limit, LIST_LIMIT_MAX)
        validate.words("prefix", (prefix,))
        self.bucket(bucket)


def _place(after: tuple[int, str]) -> CreationPlace:
    if isinstance(after, tuple | list) and len(after) == 2:
        created_at_ms, name = after
        if isinstance(created_at_ms, int) and isinstance(name, str):
            return CreationPlace(created_at_ms, name)
    raise InvalidArgument("after", "must be a time in milliseconds and a stream's name")


def _page(
    fetch: Callable[[_Place | None], Sequence[_Place]],
    after: _Place | None,
    count: int,
    visible: Callable[[_Place], Head | None],
    limit: int,
) -> StreamPage:
    """What is ``visible`` of what ``fetch`` finds behind ``after``, ``count`` at a time."""
    heads: list[Head] = []
    while True:
        found = fetch(after)
        for place in found:
            head = visible(place)
            if head is None:
                continue
            if len(heads) == limit:
                return StreamPage(heads, has_more=True)
            heads.append(head)
        if len(found) < count:
            return StreamPage(heads, has_more=False)
        after = found[-1]
