"""Streams by name and by creation, page by page, against a walk over all of them."""

from __future__ import annotations

import random

import pytest

import tailrace
from tailrace import InvalidArgument, Rejected, StreamKey
from tests.engine.crash_lab import open_store
from tests.engine.faulty_storage import FaultyStorage
from tests.engine.workload import Clock

BUCKET = "alpha"
NAMES = [f"{letter}{number}" for letter in ("a", "ab", "b", "ü") for number in range(12)]


def expected(
    store: tailrace.Store, prefix: str, low: int | None, high: int | None
) -> list[tuple[int, str]]:
    """Oldest first, from the listing by name."""
    heads = store.list_streams(BUCKET, prefix=prefix).streams
    places = [(head.created_at_ms, head.key.stream) for head in heads]
    return sorted(
        place
        for place in places
        if (low is None or place[0] >= low) and (high is None or place[0] < high)
    )


def paged(
    store: tailrace.Store, limit: int, prefix: str, low: int | None, high: int | None, back: bool
) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    while True:
        page = store.list_created(
            BUCKET,
            prefix=prefix,
            after=found[-1] if found else None,
            created_from_ms=low,
            created_until_ms=high,
            limit=limit,
            descending=back,
        )
        found += [(head.created_at_ms, head.key.stream) for head in page.streams]
        if not page.has_more:
            return found
        assert len(page.streams) == limit


def test_pages_by_creation_are_those_of_a_walk() -> None:
    dice = random.Random(5)
    storage, clock = FaultyStorage(), Clock()
    store = open_store(storage, clock)
    store.create_bucket(BUCKET)
    times = [clock.now_ms]
    for _ in range(40):
        for _ in range(10):
            clock.now_ms += dice.choice((0, 0, 1, 50))
            key = StreamKey(BUCKET, dice.choice(NAMES))
            operation = dice.choice(("create", "create", "delete", "fork", "expire"))
            try:
                if operation == "create":
                    store.create(key)
                elif operation == "expire":
                    store.create(key, ttl_ms=dice.choice((1, 10_000_000)))
                elif operation == "delete":
                    store.delete(key)
                else:
                    store.fork((BUCKET, dice.choice(NAMES)), key)
            except Rejected:
                continue
            times.append(clock.now_ms)
        prefix = dice.choice(("", "", "a", "ab", "ab1", "ü", "zz"))
        low = dice.choice((None, None, dice.choice(times)))
        high = dice.choice((None, None, dice.choice(times), clock.now_ms + 1))
        wanted = expected(store, prefix, low, high)
        for limit in (1, 3, 1000):
            assert paged(store, limit, prefix, low, high, back=False) == wanted
            assert paged(store, limit, prefix, low, high, back=True) == wanted[::-1]
        if dice.random() < 0.2:
            store.close()
            store = open_store(storage, clock)
            assert paged(store, 7, prefix, low, high, back=False) == wanted
    assert len(expected(store, "", None, None)) > 10


def test_a_place_that_is_gone_is_still_a_place() -> None:
    clock = Clock()
    store = open_store(FaultyStorage(), clock)
    store.create_bucket(BUCKET)
    for name in ("one", "two", "three"):
        clock.now_ms += 1
        store.create((BUCKET, name))
    (first,) = store.list_created(BUCKET, limit=1).streams
    place = first.created_at_ms, first.key.stream
    store.delete(first.key)
    rest = store.list_created(BUCKET, after=place)
    assert [head.key.stream for head in rest.streams] == ["two", "three"]
    clock.now_ms += 1
    store.create(first.key)  # made again, it stands at the end
    rest = store.list_created(BUCKET, after=place)
    assert [head.key.stream for head in rest.streams] == ["two", "three", "one"]


def test_what_is_refused() -> None:
    store = open_store(FaultyStorage(), Clock())
    store.create_bucket(BUCKET)
    for limit in (0, 1001):
        with pytest.raises(InvalidArgument, match="limit"):
            store.list_created(BUCKET, limit=limit)
    with pytest.raises(Rejected):
        store.list_created("nothing")
    assert store.list_created(BUCKET).streams == []
    assert store.list_created(BUCKET, created_from_ms=5, created_until_ms=3).streams == []
