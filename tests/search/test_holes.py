"""Damage in the log: a search goes on behind it, and says what it may be missing."""

from __future__ import annotations

import random

import msgspec
import pytest

import tailrace
from tailrace import Corrupted, DamagedRange, Rejected, StreamKey, StreamOptions
from tailrace.limits import SEGMENT_HEADER_BYTES
from tailrace.native import BatchRef, View, crc32c
from tailrace.search.part_list import (
    Hole,
    PartEntry,
    PartList,
    decode_part_list,
    encode_part_list,
    read_part_list,
)
from tests.engine.crash_lab import OPTIONS, open_store
from tests.engine.faulty_storage import DROPPED, FaultyStorage
from tests.engine.workload import Clock

JSON = StreamOptions("application/json", searchable=True)
KEYS = [StreamKey("alpha", name) for name in ("one", "two", "three")]
PLAIN = StreamKey("alpha", "plain")
FORK = StreamKey("alpha", "fork")
SEGMENTS = 4
SEGMENT = "log/{:016x}.segment"


def filled(*, index: bool = False) -> FaultyStorage:
    """A closed store of a few sealed segments; the search index is lost, unless ``index``."""
    storage = FaultyStorage()
    store = open_store(storage, Clock())
    store.create_bucket("alpha")
    dice = random.Random(7)
    for key in KEYS:
        store.create(key, content_type="application/json", searchable=True)
    store.create(PLAIN, content_type="application/json")
    number = 0
    while len(store._core.log.segments) < SEGMENTS:
        key = dice.choice([*KEYS, PLAIN])
        records = [
            b'{"text":"common number%d %s"}' % (number + i, b"x" * 200)
            for i in range(dice.randrange(1, 4))
        ]
        number += len(records)
        store.append(key, records)
    store.fork(FORK, KEYS[0], options=StreamOptions(searchable=True))
    store.append(FORK, [b'{"text":"common own"}'])
    store.close()
    if not index:
        for name in storage.names():
            if name.startswith("search/"):
                storage.remove(name)
    return storage


def refs(storage: FaultyStorage, segment: int) -> list[BatchRef]:
    content = bytes(storage.content(SEGMENT.format(segment)))
    view = View(memoryview(content))
    return list(view.scan(SEGMENT_HEADER_BYTES, segment * OPTIONS.segment_bytes))


def tails(storage: FaultyStorage) -> dict[StreamKey, int]:
    with opened(storage.image(DROPPED)) as store:
        return {key: store.head(key).tail for key in [*KEYS, FORK]}


def opened(storage: FaultyStorage) -> tailrace.Store:
    return open_store(storage, Clock())


def id_of(store: tailrace.Store, key: StreamKey) -> int:
    return store.head(key).stream_id


def pick(storage: FaultyStorage, key: StreamKey, segment: int = 1) -> BatchRef:
    """A batch of ``key`` in the middle of a sealed segment."""
    with opened(storage.image(DROPPED)) as store:
        stream_id = id_of(store, key)
    found = [ref for ref in refs(storage, segment) if ref.stream_id == stream_id]
    return found[len(found) // 2]


def hit(storage: FaultyStorage, ref: BatchRef, segment: int = 1) -> None:
    storage.damage(SEGMENT.format(segment), ref.offset + ref.length // 2, 0x10)


def expect(store: tailrace.Store, wanted: dict[StreamKey, int], lost: set[tuple[str, int]]) -> None:
    """Every search is complete but for ``lost``, and names those of it that it was to look at."""
    scopes: list[list[StreamKey] | None] = [None, *([key] for key in wanted)]
    if FORK in wanted:
        scopes.append([KEYS[1], FORK])
    for scope in scopes:
        found = store.search("common", scope, limit=1000)
        named = {
            (part.key.stream, ordinal)
            for part in found.damaged
            for ordinal in range(part.first, part.stop)
        }
        got = {(hit.key.stream, hit.ordinal) for hit in found.hits}
        assert found.total == len(found.hits) == len(got)
        should: set[tuple[str, int]] = set()
        for key in wanted if scope is None else scope:
            first = wanted[KEYS[0]] if key == FORK else 0
            stop = wanted[key]
            should |= {(key.stream, ordinal) for ordinal in range(first, stop)}
            if key == FORK and scope is not None:
                should |= {("fork", ordinal) for ordinal in range(first)}
        hurt = lost if scope is None or FORK not in scope else in_fork(lost, wanted)
        assert got == should - hurt
        assert named == should & hurt


def in_fork(lost: set[tuple[str, int]], wanted: dict[StreamKey, int]) -> set[tuple[str, int]]:
    """``lost`` as a search of the fork alone shows it: what it inherits by its own name."""
    inherited = {("fork", ordinal) for name, ordinal in lost if name == KEYS[0].stream}
    return lost | {part for part in inherited if part[1] < wanted[KEYS[0]]}


def lost_of(key: StreamKey, ref: BatchRef) -> set[tuple[str, int]]:
    return {(key.stream, ref.base_ordinal + i) for i in range(ref.record_count)}


def test_a_search_is_complete_but_for_what_it_names() -> None:
    storage = filled()
    wanted = tails(storage)
    first, second = pick(storage, KEYS[0]), pick(storage, KEYS[1], 2)
    hit(storage, first)
    hit(storage, second, 2)
    lost = lost_of(KEYS[0], first) | lost_of(KEYS[1], second)
    for _ in range(3):  # the first makes the index, the others find it
        with opened(storage) as store:
            expect(store, wanted, lost)
            assert store.search("common", [KEYS[2]], limit=1000).damaged == []
            (part,) = store.search("common", [KEYS[0]], limit=1).damaged
            place = OPTIONS.segment_bytes + first.offset
            stop = first.base_ordinal + first.record_count
            assert part == DamagedRange(KEYS[0], first.base_ordinal, stop, SEGMENT.format(1), place)
            with pytest.raises(Corrupted) as caught:
                store.read(part.key, part.first)
            assert (caught.value.file, caught.value.position) == (part.file, part.position)


def test_the_hole_is_remembered_and_nothing_indexed_twice() -> None:
    storage = filled()
    hit(storage, pick(storage, KEYS[0]))
    with opened(storage) as store:
        before = store.search("common", limit=1000)
    assert len(read_part_list(storage, "search").holes) == 1
    with opened(storage) as store:
        index = store._core.indexer.index
        assert index.indexed_position == store.counters()["durable_position"]
        assert store.search("common", limit=1000) == before
        assert index.counters()["documents"] == before.total
        store.append(KEYS[0], [b'{"text":"common after"}'])
        assert store.search("common", limit=1000).total == before.total + 1
        assert store.search("after", [KEYS[0]]).damaged == before.damaged


def test_a_crash_before_the_index_was_on_disk_forgets_nothing() -> None:
    storage = filled()
    wanted = tails(storage)
    ref = pick(storage, KEYS[2])
    hit(storage, ref)
    for _ in range(2):
        store = opened(storage)
        expect(store, wanted, lost_of(KEYS[2], ref))
        storage = storage.image(DROPPED)


def test_damage_to_what_is_not_searched_is_no_damage_of_the_answer() -> None:
    storage = filled()
    wanted = tails(storage)
    hit(storage, pick(storage, PLAIN))
    seal = refs(storage, 2)[-1]
    hit(storage, seal, 2)
    with opened(storage) as store:
        expect(store, wanted, set())
        assert store._core.indexer.index.holes == ()


def test_damage_in_a_running_store() -> None:
    storage = FaultyStorage()
    store = opened(storage)
    store.create_bucket("alpha")
    for number in range(5):
        for key in KEYS[:2]:
            store.append(key, [b'{"text":"common number%d"}' % number], create=JSON)
    ref = [ref for ref in refs(storage, 0) if ref.stream_id == id_of(store, KEYS[0])][2]
    hit(storage, ref, 0)
    expect(store, {KEYS[0]: 5, KEYS[1]: 5}, {("one", 2)})
    hit(storage, refs(storage.image(DROPPED), 0)[1], 0)  # indexed already: nothing is missing
    expect(store, {KEYS[0]: 5, KEYS[1]: 5}, {("one", 2)})


def test_what_is_gone_is_not_missed() -> None:
    storage = filled()
    wanted = tails(storage)
    first, second = pick(storage, KEYS[1]), pick(storage, KEYS[2])
    hit(storage, first)
    hit(storage, second)
    with opened(storage) as store:
        expect(store, wanted, lost_of(KEYS[1], first) | lost_of(KEYS[2], second))
        store.delete(KEYS[1])
        store.trim(KEYS[2], second.base_ordinal + second.record_count)
        assert store.search("common", limit=1000).damaged == []
        assert store.search("common", [KEYS[2]], limit=1000).damaged == []
    assert read_part_list(storage, "search").holes == ()
    with opened(storage) as store:
        assert store.search("common", limit=1000).damaged == []


def test_bytes_that_are_whole_again_are_indexed() -> None:
    storage = filled()
    wanted = tails(storage)
    ref = pick(storage, KEYS[0])
    hit(storage, ref)
    with opened(storage) as store:
        expect(store, wanted, lost_of(KEYS[0], ref))
    hit(storage, ref)  # the same bit
    for _ in range(2):
        with opened(storage) as store:
            expect(store, wanted, set())


def test_damage_that_grew_is_told_in_full() -> None:
    storage = filled()
    wanted = tails(storage)
    ref = pick(storage, KEYS[0])
    after = next(r for r in refs(storage, 1) if r.offset == ref.offset + ref.length)
    hit(storage, ref)
    with opened(storage) as store:
        expect(store, wanted, lost_of(KEYS[0], ref))
    hit(storage, after)
    with opened(storage) as store:
        # What the index has of the second it still has.
        expect(store, wanted, lost_of(KEYS[0], ref))


def test_every_batch_of_a_segment() -> None:
    """Whatever is hit, a search misses just what cannot be read, and says so."""
    storage = filled()
    wanted = tails(storage)
    dice = random.Random(3)
    found = refs(storage, 1)
    for ref in [*dice.sample(found, 25), found[0], found[-1]]:
        image = storage.image(DROPPED)
        image.damage(SEGMENT.format(1), ref.offset + dice.randrange(ref.length), 1)
        with opened(image) as store:
            unreadable: set[tuple[str, int]] = set()
            for key in KEYS:
                for ordinal in range(wanted[key]):
                    try:
                        store.read(key, ordinal, max_records=1)
                    except Corrupted:
                        unreadable.add((key.stream, ordinal))
            expect(store, wanted, unreadable)


def test_a_lost_part_of_the_index_falls_back_before_its_holes() -> None:
    storage = filled()
    wanted = tails(storage)
    ref = pick(storage, KEYS[0])
    hit(storage, ref)
    with opened(storage) as store:
        expect(store, wanted, lost_of(KEYS[0], ref))
    (part,) = (name for name in storage.names() if name.endswith(".part"))
    storage.remove(part)
    with opened(storage) as store:
        assert store._core.indexer.index.holes == ()
        expect(store, wanted, lost_of(KEYS[0], ref))


def test_an_index_of_format_1_is_used_as_it_is() -> None:
    storage = filled(index=True)
    listed = read_part_list(storage, "search")
    old = msgspec.to_builtins(msgspec.structs.replace(listed, format=1))
    del old["holes"]
    line = msgspec.json.encode(old)
    data = line + b"\n%08x\n" % crc32c(line)
    assert decode_part_list(data, "x").parts == listed.parts
    file = storage.open("search/MANIFEST", writable=True)
    file.truncate(0)
    file.pwrite(data, 0)
    file.sync()
    file.close()
    with opened(storage) as store:
        index = store._core.indexer.index
        assert index.indexed_position == listed.position
        assert store.search("common", limit=1000).total > 0


@pytest.mark.parametrize(
    "holes",
    [
        [Hole(5, 5, ())],
        [Hole(20, 30, ()), Hole(10, 15, ())],
        [Hole(90, 110, ())],
        [Hole(0, 20, ()), Hole(10, 30, ())],
    ],
)
def test_holes_that_cannot_be_are_refused(holes: list[Hole]) -> None:
    data = encode_part_list(PartList(position=100, holes=tuple(holes)))
    with pytest.raises(Corrupted, match="holes are out of order"):
        decode_part_list(data, "x")


def test_what_is_left_of_a_list_before_a_position() -> None:
    parts = (PartEntry(1, 0, 30, 1), PartEntry(2, 30, 60, 2))
    holes = (Hole(10, 20, ((1, 0, 1),)), Hole(40, 50, ((1, 4, 5),)))
    whole = PartList(position=80, parts=parts, removed=(9,), floors=((1, 2),), holes=holes)
    assert whole.before(80) == whole
    assert whole.before(70) == msgspec.structs.replace(whole, position=70)
    cut = whole.before(40)
    assert (cut.position, cut.parts, cut.holes) == (30, parts[:1], holes[:1])
    assert (cut.removed, cut.floors) == (whole.removed, whole.floors)
    assert whole.before(10) == msgspec.structs.replace(cut, position=0, parts=(), holes=())


def test_a_stream_that_is_not_there_has_no_damage() -> None:
    storage = filled()
    hit(storage, pick(storage, KEYS[0]))
    with opened(storage) as store:
        assert store.search("common", [("alpha", "nothing")]).damaged == []
        with pytest.raises(Rejected):
            store.head(("alpha", "nothing"))
