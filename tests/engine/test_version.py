"""A stream's version: another one after each change, and none where time alone changes it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tailrace
from tailrace.operation import StreamKey, StreamOptions
from tailrace.options import Options

KEY = StreamKey("bucket", "a")
FORK = StreamKey("bucket", "fork")
OTHER = StreamKey("bucket", "b")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tailrace.Store]:
    with tailrace.open(tmp_path, options=Options(background=False)) as opened:
        opened.create_bucket("bucket")
        opened.create(KEY, records=[b"1", b"2", b"3"])
        yield opened


def publish(store: tailrace.Store) -> None:
    writer = store.begin_snapshot(KEY, 1)
    writer.write(b"folded")
    writer.commit()


CHANGES: dict[str, Callable[[tailrace.Store], object]] = {
    "append": lambda store: store.append(KEY, [b"4"]),
    "close": lambda store: store.close_stream(KEY),
    "trim": lambda store: store.trim(KEY, 1),
    "snapshot": publish,
    "metadata": lambda store: store.set_metadata(KEY, b"m"),
    "fork": lambda store: store.fork(FORK, KEY, ordinal=2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_makes_another_version(store: tailrace.Store, change: str) -> None:
    before = store.version(KEY)
    assert before is not None
    CHANGES[change](store)
    after = store.version(KEY)
    assert after is not None and after is not before


def test_what_does_not_touch_the_stream_leaves_its_version(store: tailrace.Store) -> None:
    before = store.version(KEY)
    store.create(OTHER, records=[b"1"])
    store.append(OTHER, [b"2"])
    store.delete(OTHER)
    store.read(KEY, 0)
    store.head(KEY)
    store.create(KEY)  # as it is: confirmed, not changed
    assert store.version(KEY) is before
    assert store.version(("bucket", "a")) is before


def test_versions_do_not_come_back_with_the_name(store: tailrace.Store) -> None:
    seen = [store.version(KEY)]
    for _ in range(20):
        store.delete(KEY)
        assert store.version(KEY) is None
        store.create(KEY, records=[b"1", b"2", b"3"])
        seen.append(store.version(KEY))
    assert None not in seen
    assert all(one is not other for one, other in itertools.combinations(seen, 2))


def test_a_fork_has_its_own_version_and_a_source_kept_for_it_has_none(
    store: tailrace.Store,
) -> None:
    store.fork(FORK, KEY, ordinal=2)
    before = store.version(FORK)
    whole = bytes(store.read(FORK, 0).payload)
    store.append(KEY, [b"4"])
    store.trim(KEY, 2)
    store.delete(KEY)
    assert store.version(KEY) is None  # only what is left for the fork is there: 410
    assert store.version(FORK) is before
    assert bytes(store.read(FORK, 0).payload) == whole


def test_nothing_lasts_that_time_ends(store: tailrace.Store) -> None:
    for options in (StreamOptions(ttl_ms=10**6), StreamOptions(expires_at_ms=10**15)):
        store.create(OTHER, ttl_ms=options.ttl_ms, expires_at_ms=options.expires_at_ms)
        assert store.version(OTHER) is None
        store.delete(OTHER)


def test_nothing_lasts_in_a_store_that_is_closed(tmp_path: Path) -> None:
    with tailrace.open(tmp_path) as store:
        store.create_bucket("bucket")
        store.create(KEY)
        assert store.version(KEY) is not None
    assert store.version(KEY) is None


def test_there_is_no_version_before_the_stream_is_durable(store: tailrace.Store) -> None:
    assert store.version(OTHER) is None
    assert store.version(("nowhere", "a")) is None
