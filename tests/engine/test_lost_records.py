"""After a repair a stream goes on behind what it lost, and says what that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

import tailrace
from tailrace import (
    Append,
    Corrupted,
    LostRecords,
    Producer,
    RecordsLost,
    StreamKey,
    StreamOptions,
    Trim,
)
from tailrace.batch import HEADER_BYTES, Batch, Kind, encode_batch
from tailrace.check import Gap, check, gaps, read_existing_manifest, walk
from tailrace.limits import SEGMENT_HEADER_BYTES
from tailrace.native import BatchRef, View, seal_batches
from tailrace.repair import RepairReport, repair
from tailrace.segment import open_segment
from tests.engine.crash_lab import OPTIONS, open_store, upkeep
from tests.engine.faulty_storage import DROPPED, KEPT, Crash, FaultyStorage
from tests.engine.snapshot_lab import perform, put_snapshot
from tests.engine.test_repair import read_each
from tests.engine.workload import Clock

A = StreamKey("alpha", "a")
B = StreamKey("alpha", "b")
C = StreamKey("alpha", "c")
JSON = StreamOptions("application/json", searchable=True)
NO_CHECKPOINTS = replace(OPTIONS, checkpoint_every_bytes=1 << 40)
SEGMENT = "log/{:016x}.segment"


def record(number: int) -> bytes:
    return b'{"text":"common number%d"}' % number


def append(store: tailrace.Store, key: StreamKey, count: int) -> None:
    for n in range(count):
        store.append(key, [record(n)])


def fresh(storage: FaultyStorage, options: tailrace.Options = NO_CHECKPOINTS) -> tailrace.Store:
    store = open_store(storage, Clock(), options)
    store.create_bucket("alpha")
    for key in (A, B):
        store.create(key, content_type="application/json", searchable=True)
    return store


def opened(storage: FaultyStorage) -> tailrace.Store:
    return open_store(storage, Clock(), NO_CHECKPOINTS)


def refs(storage: FaultyStorage, number: int = 0) -> list[BatchRef]:
    """The whole batches of a segment."""
    view = View(memoryview(bytes(storage.content(SEGMENT.format(number)))))
    base, offset = number * OPTIONS.segment_bytes, SEGMENT_HEADER_BYTES
    found: list[BatchRef] = []
    while (offset := view.find(offset, base)) < view.length:
        found += view.scan(offset, base)
        offset = found[-1].offset + found[-1].length
    return found


def hit(storage: FaultyStorage, stream_id: int, *ordinals: int, number: int = 0) -> None:
    """Damage the batches that hold these records."""
    for ordinal in ordinals:
        (ref,) = (
            ref
            for ref in refs(storage, number)
            if ref.stream_id == stream_id
            and ref.base_ordinal <= ordinal < ref.base_ordinal + ref.record_count
        )
        storage.damage(SEGMENT.format(number), ref.offset + ref.length - 12, 4)


def crashed(fill: Callable[[tailrace.Store], None]) -> FaultyStorage:
    """What is left of a store that ``fill`` worked on."""
    storage = FaultyStorage()
    store = fresh(storage)
    fill(store)
    store.perform(tailrace.CreateBucket("last-of-all"), 60)
    return storage.image(DROPPED)


def refuses(storage: FaultyStorage) -> bool:
    try:
        opened(storage.image(DROPPED))
    except Corrupted:
        return True
    return False


def repaired(storage: FaultyStorage) -> RepairReport:
    assert refuses(storage)
    report = repair("/nowhere", storage=storage)
    assert not refuses(storage)
    steps = storage.steps
    assert repair("/nowhere", storage=storage) == RepairReport(), "twice is the same as once"
    assert storage.steps == steps
    assert check("/nowhere", storage=storage).ok
    return report


def test_later_records_keep_their_ordinals() -> None:
    def fill(store: tailrace.Store) -> None:
        for n in range(10):
            store.append(A, [record(n)], producer=Producer("p", 0, n))
            store.append(B, [record(n)])
        store.close_stream(B)

    storage = crashed(fill)
    hit(storage, 1, 3, 4)
    hit(storage, 2, 7)
    report = repaired(storage)
    assert report.records == [LostRecords(str(A), 3, 5), LostRecords(str(B), 7, 8)]
    assert len(report.lost) == len(report.saved) == 3
    for _ in range(3):
        with opened(storage) as store:
            for key, lost in ((A, {3, 4}), (B, {7})):
                found, missing = read_each(store, key)
                assert missing == lost
                assert found == {n: record(n) for n in range(10) if n not in lost}
                hits = store.search("common", [key], limit=100)
                assert {found.ordinal for found in hits.hits} == set(found)
                assert hits.damaged == []  # given up, and known to be
            assert store.head(A).tail == 10
            assert store.head(B).closed
            again = store.append(A, [record(9)], producer=Producer("p", 0, 9))
            assert again.duplicate
    with opened(storage) as store:
        assert store.append(A, [record(10)], producer=Producer("p", 0, 10)).base == 10
        assert store.read(A, 5).next == 11
        with pytest.raises(RecordsLost, match="records 3 to 4 were damaged") as caught:
            store.read(A, 3)
        assert (caught.value.first, caught.value.stop) == (3, 5)
        assert caught.value.file == SEGMENT.format(0)
        assert store.read(A, 0).next == 3, "what is before is given first"
        with pytest.raises(RecordsLost):
            store.read_pieces(A, 4)


def test_records_lost_from_the_beginning() -> None:
    storage = crashed(lambda store: append(store, A, 3))
    hit(storage, 1, 0)
    repaired(storage)
    with opened(storage) as store:
        with pytest.raises(RecordsLost) as caught:
            store.read(A, 0)
        assert (caught.value.first, caught.value.stop) == (0, 1)
        assert read_each(store, A) == ({1: record(1), 2: record(2)}, {0})


def test_a_batch_of_many_records() -> None:
    def fill(store: tailrace.Store) -> None:
        for n in range(0, 40, 10):
            store.append(A, [record(n + i) for i in range(10)])

    storage = crashed(fill)
    hit(storage, 1, 15)
    assert repaired(storage).records == [LostRecords(str(A), 10, 20)]
    with opened(storage) as store:
        assert read_each(store, A)[1] == set(range(10, 20))
        assert store.read(A, 5).next == 10


def test_forks_trims_and_snapshots_prove_what_was_there() -> None:
    """Nothing of the stream itself stands behind the damage, but these tell of its records."""

    def fill(store: tailrace.Store) -> None:
        for key in (A, B, C):
            for n in range(4):
                store.append(key, [record(n)], create=JSON)
        store.fork(("alpha", "fork"), A)
        store.append(("alpha", "fork"), [b'"own"'])
        store.perform(Trim(B, 4), 60)
        perform(store, put_snapshot(C, 4, b"folded"))

    storage = crashed(fill)
    for stream_id in (1, 2, 3):
        hit(storage, stream_id, 3)
    assert len(repaired(storage).lost) == 3
    with opened(storage) as store:
        assert [store.head(key).tail for key in (A, B, C)] == [4, 4, 4]
        for key in (A, ("alpha", "fork"), C):
            with pytest.raises(RecordsLost) as caught:
                store.read(key, 3)
            assert (caught.value.first, caught.value.stop) == (3, 4)
        assert bytes(store.read(("alpha", "fork"), 4).payload) == b'"own",'
        assert store.read(("alpha", "fork"), 0).next == 3
        assert store.append(A, [record(4)]).base == 4
        assert store.read(A, 4).count == 1


def test_a_deletion_that_was_lost_is_undone_for_search_too() -> None:
    storage = FaultyStorage()
    store = fresh(storage)
    store.append(A, [record(0)])
    assert store.search("common").total == 1
    store.delete(A)
    assert store.search("common").total == 0
    store._core.indexer.index.flush()
    store.perform(tailrace.CreateBucket("last-of-all"), 60)
    image = storage.image(DROPPED)
    ref = next(ref for ref in refs(image) if ref.kind == Kind.DELETE)
    image.damage(SEGMENT.format(0), ref.offset + 60, 4)
    repaired(image)
    with opened(image) as store:
        assert store.head(A).tail == 1
        assert store.search("common", [A]).total == 1


def test_damage_on_both_sides_of_a_checkpoint() -> None:
    """The LOST batch begins before what a start replays, and ends in it."""
    storage = FaultyStorage()
    store = fresh(storage)
    for n in range(6):
        store.append(A, [record(n)])
        if n == 2:
            store._core.upkeep.checkpoint()
    store.perform(tailrace.CreateBucket("last-of-all"), 60)
    image = storage.image(DROPPED)
    hit(image, 1, 2, 3)
    report = repaired(image)
    assert len(report.lost) == 1
    with opened(image) as store:
        assert read_each(store, A) == ({n: record(n) for n in (0, 1, 4, 5)}, {2, 3})


def long_store(*, close: bool = True) -> FaultyStorage:
    """Several sealed segments below the checkpoint."""
    storage = FaultyStorage()
    store = fresh(storage, OPTIONS)
    n = 0
    while len(store._core.log.segments) < 5:
        store.append((A, B)[n % 2], [b'{"text":"common number%d","x":"%s"}' % (n, b"x" * 300)])
        n += 1
        if n % 50 == 0:
            upkeep(store)
    if close:
        store.close()
    return storage.image(DROPPED)


@pytest.mark.parametrize("index", ["kept", "lost"])
def test_damage_before_what_a_start_replays(index: str) -> None:
    storage = long_store()
    position = read_existing_manifest(storage).checkpoints[-1]
    assert position > 2 * OPTIONS.segment_bytes
    ref = [ref for ref in refs(storage, 1) if ref.stream_id == 1][5]
    hit(storage, 1, ref.base_ordinal, number=1)
    for name in storage.names():
        if name.startswith("search/"):
            storage.remove(name)
    if index == "lost":
        storage.remove(SEGMENT.format(1).replace("segment", "index"))
        assert refuses(storage)
    else:
        with opened(storage) as store:
            whole = store.search("common", limit=1000)
            assert [part.first for part in whole.damaged] == [ref.base_ordinal]
    report = repair("/nowhere", storage=storage)
    known = [LostRecords(str(A), ref.base_ordinal, ref.base_ordinal + 1)]
    assert report.records == (known if index == "kept" else [])
    assert len(report.lost) == 1
    assert repair("/nowhere", storage=storage) == RepairReport()
    assert check("/nowhere", storage=storage).ok
    for _ in range(2):
        with opened(storage) as store:
            found, lost = read_each(store, A)
            assert lost == {ref.base_ordinal}
            assert len(found) == store.head(A).tail - 1
            assert read_each(store, B)[1] == set()
            hits = store.search("common", limit=1000)
            assert hits.damaged == []
            assert store._core.indexer.index.holes == ()
            assert hits.total == len(found) + store.head(B).tail


def test_records_lost_at_a_seam_of_segments() -> None:
    storage = long_store()
    last = [ref for ref in refs(storage, 1) if ref.stream_id == 1][-2:]
    first = [ref for ref in refs(storage, 2) if ref.stream_id == 1][:2]
    for ref in last:
        hit(storage, 1, ref.base_ordinal, number=1)
    for ref in first:
        hit(storage, 1, ref.base_ordinal, number=2)
    repair("/nowhere", storage=storage)
    with opened(storage) as store:
        wanted = {ref.base_ordinal for ref in (*last, *first)}
        assert read_each(store, A)[1] == wanted
        with pytest.raises(RecordsLost) as caught:
            store.read(A, min(wanted))
        assert (caught.value.first, caught.value.stop) == (min(wanted), max(wanted) + 1)


def test_a_seal_that_is_damaged() -> None:
    storage = long_store()
    seal = refs(storage, 1)[-1]
    assert seal.kind == Kind.SEAL
    storage.damage(SEGMENT.format(1), seal.offset + 3, 1)
    storage.remove(SEGMENT.format(1).replace("segment", "index"))
    repaired(storage)
    with opened(storage) as store:
        assert read_each(store, A)[1] == read_each(store, B)[1] == set()


def test_gaps_are_those_of_a_walk() -> None:
    storage = long_store()
    for n, ref in enumerate(refs(storage, 1)[3:80:7]):
        if n % 3:
            storage.damage(SEGMENT.format(1), ref.offset + 40, 1)
    manifest = read_existing_manifest(storage)
    for number in manifest.segments:
        segment = open_segment(
            storage, manifest.store_id_bytes, number, manifest.segment_bytes, writable=False
        )
        assert list(gaps(segment)) == [item for item in walk(segment) if isinstance(item, Gap)]
        segment.close()


def damaged_in_places() -> FaultyStorage:
    def fill(store: tailrace.Store) -> None:
        for n in range(6):
            store.append(A, [record(n)])
            store.append(B, [record(n)])

    storage = crashed(fill)
    hit(storage, 1, 2, 4)
    hit(storage, 2, 4)
    return storage


def outcome(storage: FaultyStorage) -> object:
    with opened(storage.image(DROPPED)) as store:
        seen = {key: (read_each(store, key), store.head(key)) for key in (A, B)}
        return seen, store.search("common", limit=100)


def test_a_repair_that_is_cut_off_anywhere_is_finished_by_the_next() -> None:
    whole = damaged_in_places()
    before = whole.steps
    report = repair("/nowhere", storage=whole)
    assert len(report.lost) == 2  # records 4 of both stand side by side
    wanted = outcome(whole)
    copies = {name: bytes(whole.content(name)) for name in report.saved}
    crashes = 0
    for step in range(1, whole.steps - before + 1):
        for mode in (DROPPED, KEPT, 1, 2, 3):
            storage = damaged_in_places()
            storage.crash_at = storage.steps + step
            with pytest.raises(Crash):
                repair("/nowhere", storage=storage)
            crashes += 1
            image = storage.image(mode)
            repair("/nowhere", storage=image)
            assert outcome(image) == wanted
            for name, copy in copies.items():
                assert bytes(image.content(name)) == copy
    assert crashes > 40


def test_an_append_beyond_the_tail_needs_a_loss_before_it() -> None:
    """Only a LOST batch lets a start take up a stream beyond its tail."""
    storage = crashed(lambda store: append(store, A, 5))
    hit(storage, 1, 2)
    repair("/nowhere", storage=storage)
    lost = next(ref for ref in refs(storage) if ref.kind == Kind.LOST)
    mark = Batch.bare(Kind.MARK, 0)._replace(payload=bytes(lost.length - HEADER_BYTES))
    data = bytearray(encode_batch(mark, lost.offset, 0))
    seal_batches(data)
    storage.content(SEGMENT.format(0))[lost.offset : lost.offset + lost.length] = data
    with pytest.raises(Corrupted, match="append at ordinal 3 of a stream whose tail is 2"):
        opened(storage)


def test_a_group_behind_a_lost_batch_is_decided_strictly() -> None:
    storage = damaged_in_places()
    repair("/nowhere", storage=storage)
    with opened(storage) as store:
        outcome = store.perform(Append(A, [record(9)], expected_ordinal=9), 60)
        assert isinstance(outcome, tailrace.Rejection)
        assert store.append(A, [record(6)]).base == 6
