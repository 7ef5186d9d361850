"""A repair never has an ordinal, or a stream id, given out again of which a witness is left."""

from __future__ import annotations

import pytest

import tailrace
from tailrace import Append, Create, LostRecords, RecordsLost, StreamKey, Trim
from tailrace.batch import HEADER, Flag, Kind
from tailrace.native import BatchRef
from tailrace.repair import RepairReport, repair
from tests.engine.crash_lab import OPTIONS
from tests.engine.faulty_storage import DROPPED, KEPT, Crash, FaultyStorage
from tests.engine.test_lost_records import (
    JSON,
    NO_CHECKPOINTS,
    SEGMENT,
    A,
    B,
    C,
    append,
    crashed,
    fresh,
    hit,
    opened,
    record,
    refs,
    repaired,
)
from tests.engine.test_repair import read_each

INDEX = "log/{:016x}.index"


def put(storage: FaultyStorage, offset: int, data: bytes) -> None:
    """Have other bytes stand in the first segment, durably."""
    name = SEGMENT.format(0)
    storage.content(name)[offset : offset + len(data)] = data
    storage.damage(name, offset, 0)


def wipe(storage: FaultyStorage, ref: BatchRef) -> None:
    """As if the disk gave zeros for what it could not read."""
    put(storage, ref.offset, bytes(ref.length))


def last_of(storage: FaultyStorage, stream_id: int) -> BatchRef:
    return [ref for ref in refs(storage) if ref.stream_id == stream_id][-1]


def two_segments(*, flush: bool = False) -> FaultyStorage:
    """Record 40 of A is its last, and stands in the first segment; B goes on in the second."""
    storage = FaultyStorage()
    store = fresh(storage)
    append(store, A, 41)
    while len(store._core.log.segments) < 2:
        store.append(B, [b'"%s"' % bytes(1000).hex().encode()])
    if flush:
        store.search("common")
        store._core.indexer.index.flush()
    store._core.upkeep.run_once()
    append(store, B, 3)
    return storage.image(DROPPED)


def goes_on(storage: FaultyStorage, key: StreamKey, first: int, stop: int) -> None:
    """The records from ``first`` to ``stop`` are told to be lost, and the stream goes on."""
    for _ in range(2):
        with opened(storage) as store:
            assert store.head(key).tail == stop
            assert store.read(key, first - 1).next == first
            for ordinal in (first, stop - 1):
                with pytest.raises(RecordsLost) as caught:
                    store.read(key, ordinal)
                assert (caught.value.first, caught.value.stop) == (ordinal, stop)
            assert store.read(key, stop).count == 0
    with opened(storage) as store:
        assert store.append(key, [b'{"text":"another"}']).base == stop
        assert [found.ordinal for found in store.search("another", [key]).hits] == [stop]
    with opened(storage) as store:
        assert bytes(store.read(key, stop).payload) == b'{"text":"another"},'
        assert read_each(store, key)[1] == set(range(first, stop))


def test_a_header_that_is_whole_tells_of_the_last_records() -> None:
    storage = crashed(lambda store: append(store, A, 3))
    hit(storage, 1, 1, 2)
    assert repaired(storage).records == [LostRecords(str(A), 1, 3)]
    goes_on(storage, A, 1, 3)


def test_the_index_of_a_sealed_segment_tells_of_the_last_records() -> None:
    storage = two_segments()
    assert INDEX.format(0) in storage.names()
    wipe(storage, last_of(storage, 1))
    assert repaired(storage).records == [LostRecords(str(A), 40, 41)]
    goes_on(storage, A, 40, 41)


def test_the_search_index_tells_of_the_last_records() -> None:
    storage = two_segments(flush=True)
    storage.remove(INDEX.format(0))
    wipe(storage, last_of(storage, 1))
    assert repaired(storage).records == [LostRecords(str(A), 40, 41)]
    goes_on(storage, A, 40, 41)


def test_what_nothing_tells_of_was_not_there() -> None:
    """All that is left: neither the batch's header, nor an index of any kind."""
    storage = two_segments()
    storage.remove(INDEX.format(0))
    wipe(storage, last_of(storage, 1))
    assert repaired(storage).records == []
    with opened(storage) as store:
        assert store.head(A).tail == 40
        store.append(A, [b'{"text":"another common"}'])
        assert [found.ordinal for found in store.search("another", [A]).hits] == [40]


def test_records_of_many_streams_need_a_segment_of_their_own() -> None:
    """What is put at the log's end does not fit behind its last batch."""
    storage = FaultyStorage()
    store = fresh(storage)
    keys = [StreamKey("alpha", f"many-{n}") for n in range(900)]
    store.submit([Create(key, JSON) for key in keys])
    while store._core.committer.durable_position % OPTIONS.segment_bytes < 40_000:
        store.append(B, [record(0)])
    first = len(store._core.log.segments) - 1
    store.submit([Append(key, [b"1"]) for key in keys])
    store.perform(tailrace.CreateBucket("last-of-all"), 60)
    image = storage.image(DROPPED)
    for number in (first, first + 1):
        for ref in refs(image, number):
            if ref.kind == Kind.APPEND and ref.stream_id > 2:
                image.damage(SEGMENT.format(number), ref.offset + 85, 1)
    segments = len([name for name in image.names() if name.endswith("segment")])
    assert len(repaired(image).records) == 900
    assert len([name for name in image.names() if name.endswith("segment")]) > segments
    with opened(image) as store:
        for key in keys:
            assert store.head(key).tail == 1
            with pytest.raises(RecordsLost):
                store.read(key, 0)
        assert store.append(keys[7], [b"2"]).base == 1


def test_the_id_of_a_stream_that_was_lost_is_not_given_out_again() -> None:
    """Cursors and ETags name it."""

    def fill(store: tailrace.Store) -> None:
        for key in (C, StreamKey("alpha", "d")):
            append_to_new(store, key)
        append(store, C, 2)

    storage = crashed(fill)
    for ref in refs(storage):
        if ref.kind == Kind.CREATE and ref.stream_id > 2:
            storage.damage(SEGMENT.format(0), ref.offset + 100, 1)
    repaired(storage)
    for _ in range(2):
        with opened(storage) as store:
            assert isinstance(store.perform(tailrace.Delete(C), 60), tailrace.Rejection)
    with opened(storage) as store:
        assert store.create(C).stream_id == 5


def append_to_new(store: tailrace.Store, key: StreamKey) -> None:
    store.append(key, [record(0)], create=JSON)


@pytest.mark.parametrize("zeros", [True, False])
def test_the_last_records_of_a_segment_and_its_seal(zeros: bool) -> None:
    """What stands in the next segment tells that records are missing."""
    storage = FaultyStorage()
    store = fresh(storage)
    while len(store._core.log.segments) < 2:
        append(store, A, 1)
        append(store, B, 1)
    append(store, A, 3)
    append(store, B, 3)
    image = storage.image(DROPPED)
    *_, lost, seal = refs(image, 0)
    assert seal.kind == Kind.SEAL
    for ref in (lost, seal):
        if zeros:
            wipe(image, ref)
        else:
            image.damage(SEGMENT.format(0), ref.offset + 3, 1)
    key = (A, B)[lost.stream_id - 1]
    at = lost.base_ordinal
    assert repaired(image).records == [LostRecords(str(key), at, at + 1)]
    with opened(image) as store:
        assert read_each(store, A)[1] | read_each(store, B)[1] == {at}


@pytest.mark.parametrize("gone", ["closed", "deleted", "trimmed"])
def test_a_stream_that_nothing_can_be_given_out_of(gone: str) -> None:
    def fill(store: tailrace.Store) -> None:
        append(store, A, 3)
        if gone == "closed":
            store.close_stream(A)
        elif gone == "deleted":
            store.fork(("alpha", "fork"), A, ordinal=1)
            store.delete(A)
        else:
            store.perform(Trim(A, 3), 60)

    storage = crashed(fill)
    hit(storage, 1, 2)
    repaired(storage)
    added = [ref for ref in refs(storage) if ref.kind == Kind.APPEND and not ref.record_count]
    assert not [ref for ref in added if not ref.flags & Flag.CLOSES]


@pytest.mark.parametrize("ordinal", [2**63, 2**40, 100])
def test_a_header_that_cannot_be_true_is_not_believed(ordinal: int) -> None:
    storage = crashed(lambda store: append(store, A, 3))
    ref = last_of(storage, 1)
    fields = list(HEADER.unpack_from(storage.content(SEGMENT.format(0)), ref.offset))
    fields[9] = ordinal
    put(storage, ref.offset, HEADER.pack(*fields))
    assert repaired(storage).records == []
    with opened(storage) as store:
        assert store.append(A, [record(2)]).base == 2


def test_a_torn_write_behind_the_end_of_the_log_stays_out_of_it() -> None:
    """What is put at the log's end stands before batches of a group that no sync ended."""

    def fill(store: tailrace.Store) -> None:
        append(store, A, 3)

    storage = crashed(fill)
    hit(storage, 1, 2)
    end = refs(storage)[-1]
    after = end.offset + end.length
    # As whole as the batches of a group can be whose first one did not reach the disk.
    with opened_undamaged(fill) as store:
        store.submit([Append(B, [bytes([49 + n])]) for n in range(9)])
        torn = bytes(store._core.log.segments[0].data[after : after + 9 * 88])
    put(storage, after + 88, torn[88:])
    assert repaired(storage).records == [LostRecords(str(A), 2, 3)]
    with opened(storage) as store:
        assert store.head(B).tail == 0
    goes_on(storage, A, 2, 3)


def opened_undamaged(fill: object) -> tailrace.Store:
    assert callable(fill)
    storage = FaultyStorage()
    store = fresh(storage)
    fill(store)
    store.perform(tailrace.CreateBucket("last-of-all"), 60)
    return store


def last_lost() -> FaultyStorage:
    """The last of both streams, and what came before in one of them."""

    def fill(store: tailrace.Store) -> None:
        for n in range(6):
            store.append(A, [record(n)])
            store.append(B, [record(n)])

    storage = crashed(fill)
    hit(storage, 1, 2, 5)
    hit(storage, 2, 5)
    return storage


def outcome(storage: FaultyStorage) -> object:
    with opened(storage.image(DROPPED)) as store:
        return {key: (read_each(store, key), store.head(key)) for key in (A, B)}


def test_a_repair_that_is_cut_off_anywhere_forgets_nothing() -> None:
    whole = last_lost()
    before = whole.steps
    assert len(repair("/nowhere", storage=whole).lost) == 2
    wanted = outcome(whole)
    crashes = 0
    for step in range(1, whole.steps - before + 1):
        for mode in (DROPPED, KEPT, 1, 2, 3):
            storage = last_lost()
            storage.crash_at = storage.steps + step
            with pytest.raises(Crash):
                repair("/nowhere", storage=storage)
            crashes += 1
            image = storage.image(mode)
            repair("/nowhere", storage=image)
            assert outcome(image) == wanted
            assert repair("/nowhere", storage=image) == RepairReport()
    assert crashes > 40


def test_what_is_given_up_before_a_checkpoint_is_known_to_it() -> None:
    storage = FaultyStorage()
    with fresh(storage, NO_CHECKPOINTS) as store:
        append(store, A, 3)
    image = storage.image(DROPPED)
    wipe(image, last_of(image, 1))
    repair("/nowhere", storage=image)
    goes_on(image, A, 2, 3)
