"""Many small reads at once give what each gives by itself, or leave it to that."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

import tailrace
from tailrace.errors import Corrupted
from tailrace.operation import StreamKey
from tailrace.small_reads import SMALL_BYTES_MAX
from tests.engine.test_read_pieces import MIB, evict, is_in_memory, payload_of

Asked = list[tuple[StreamKey, int]]


def check_alike(store: tailrace.Store, asked: Asked) -> int:
    """How many of the reads gave something."""
    found = store.pieces_small(asked)
    assert len(found) == len(asked)
    given = 0
    for (key, ordinal), small in zip(asked, found, strict=True):
        if small is None:
            continue
        near = store.pieces_near(key, ordinal)
        assert near is not None
        assert payload_of(small) == payload_of(near)
        small.pieces = near.pieces
        assert small == near
        given += 1
    return given


@pytest.mark.parametrize("seed", range(3))
def test_they_give_what_each_gives_alone(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    keys = [StreamKey("buck", f"s{number}") for number in range(20)]
    options = tailrace.Options(segment_bytes=MIB)
    with tailrace.open(tmp_path / "data", options=options) as store:
        store.create_bucket("buck")
        for key in keys:
            kind = chance.choice(["text/plain", "application/json"])
            store.create(key, content_type=kind)
        for step in range(600):
            key = chance.choice(keys)
            size, count = chance.choice([1, 10, 300, 3000]), chance.choice([1, 1, 3, 20])
            if not store.head(key).closed:
                store.append(key, [b'"' + b"r" * size + b'"'] * count, close=step % 97 == 96)
            if step % 150 == 149:
                store.trim(key, store.head(key).tail // 2)
                fork = StreamKey("buck", f"f{step}")
                store.fork(fork, key)
                keys.append(fork)
        given = 0
        for _ in range(40):
            asked = [
                (key, max(0, store.head(key).tail - chance.randrange(-1, 40)))
                for key in chance.choices(keys, k=chance.randrange(1, 64))
            ]
            given += check_alike(store, asked)
        assert given > 200
        assert check_alike(store, []) == 0


def test_what_is_not_plain_is_left(tmp_path: Path) -> None:
    with tailrace.open(tmp_path / "data") as store:
        store.create_bucket("buck")

        def made(name: str, **options: int) -> StreamKey:
            key = StreamKey("buck", name)
            store.create(key, content_type="text/plain", **options)  # type: ignore[arg-type]
            store.append(key, [b"1", b"2", b"3"])
            return key

        plain, trimmed, gone, forked = made("a"), made("b"), made("c"), made("d")
        mortals = made("e", ttl_ms=10**6), made("f", expires_at_ms=2**42)
        store.trim(trimmed, 2)
        store.delete(gone)
        fork = StreamKey("buck", "g")
        store.fork(fork, forked)
        store.delete(forked)
        asked = [(key, 0) for key in (trimmed, gone, *mortals, fork, forked)]
        asked += [(plain, 3), (plain, 4), (StreamKey("buck", "none"), 0)]
        assert check_alike(store, asked) == 0
        assert check_alike(store, [*asked, (plain, 0), (trimmed, 2)]) == 2
    assert store.pieces_small([(plain, 0)]) == [None]


def test_what_is_not_little_is_left(tmp_path: Path) -> None:
    with tailrace.open(tmp_path / "data") as store:
        store.create_bucket("buck")
        small, large = StreamKey("buck", "small"), StreamKey("buck", "large")
        for key, size in ((small, SMALL_BYTES_MAX), (large, SMALL_BYTES_MAX + 1)):
            store.create(key, content_type="text/plain")
            store.append(key, [b"x" * size])
        assert check_alike(store, [(small, 0), (large, 0), (small, 0)]) == 2
        # No more is held than fits; the others are read by themselves.
        assert 8 < check_alike(store, [(small, 0)] * 100) < 100
        assert store.pieces_small([(small, 0)], max_bytes=100) == [None]


def test_no_more_memory_is_held_than_what_was_read_takes(tmp_path: Path) -> None:
    """Who is sent one of the reads may take it slowly."""
    with tailrace.open(tmp_path / "data") as store:
        store.create_bucket("buck")
        key = StreamKey("buck", "small")
        store.create(key, content_type="text/plain")
        store.append(key, [b"x" * 100])
        for found in store.pieces_small([(key, 0)] * 64):
            assert found is not None
            (piece,) = found.pieces
            held = piece.obj
            assert isinstance(held, bytearray) and sys.getsizeof(held) < 2 * 64 * 100


def test_a_segment_may_be_reclaimed_meanwhile(tmp_path: Path) -> None:
    with tailrace.open(tmp_path / "data") as store:
        store.create_bucket("buck")
        keys = [StreamKey("buck", name) for name in "abc"]
        for key in keys:
            store.create(key, content_type="text/plain")
            store.append(key, [b"record"])
        log = store._core.log
        find, segments, indexes = log.extents.find, log.segments, log.indexes
        looked: list[int] = []

        def find_and_drop(stream_id: int, ordinal: int) -> tuple[int, int | None] | None:
            found = find(stream_id, ordinal)
            if looked:  # by another thread, as upkeep does
                log.segments, log.indexes = {}, {}
            looked.append(stream_id)
            return found

        log.extents.find = find_and_drop  # type: ignore[method-assign]
        try:
            found = store.pieces_small([(key, 0) for key in keys])
        finally:
            log.segments, log.indexes = segments, indexes
        assert len(looked) == 3
        assert [one is not None and payload_of(one) for one in found] == [b"record"] * 3


def test_damage_is_told_by_the_read_that_meets_it(tmp_path: Path) -> None:
    with tailrace.open(tmp_path / "data") as store:
        store.create_bucket("buck")
        keys = [StreamKey("buck", name) for name in "abc"]
        for key in keys:
            store.create(key, content_type="text/plain")
            store.append(key, [b"of " + key.stream.encode() * 20])
        path = next((tmp_path / "data").glob("**/*.segment"))
        with path.open("r+b") as file:
            at = file.read().index(b"of bbbb")
            file.seek(at)
            file.write(b"X")
        asked = [(key, 0) for key in keys]
        assert [found is None for found in store.pieces_small(asked)] == [False, True, False]
        with pytest.raises(Corrupted):
            store.pieces_near(keys[1], 0)


def test_no_disk_is_waited_for(tmp_path: Path) -> None:
    key = StreamKey("buck", "old")
    with tailrace.open(tmp_path / "data", options=tailrace.Options(segment_bytes=MIB)) as store:
        store.create_bucket("buck")
        store.create(key, content_type="text/plain")
        store.append(key, [b"x" * 1000])
        other = StreamKey("buck", "other")
        store.create(other, content_type="text/plain")
        for _ in range(5):
            store.append(other, [b"x" * 1000] * 900)
        assert check_alike(store, [(key, 0)]) == 1
        store._core.upkeep.checkpoint()
        for segment in store._core.log.segments.values():
            segment.release(0, segment.segment_bytes)
        evict(tmp_path / "data")
        if is_in_memory(store):
            pytest.skip("this file system keeps what it is told to forget")
        assert store.pieces_small([(key, 0)]) == [None]
