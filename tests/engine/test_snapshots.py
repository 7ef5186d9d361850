"""Snapshots of a store: written and read in pieces, replaced, released, damaged, mended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailrace import (
    InvalidArgument,
    Reason,
    Rejected,
    Store,
)
from tailrace.operation import Expire, PutSnapshot
from tailrace.outcome import Outcome
from tests.engine.crash_lab import open_store
from tests.engine.faulty_storage import FaultyStorage
from tests.engine.snapshot_lab import (
    DIRECTORY,
    LARGE,
    OTHER,
    content_of,
    files,
    perform,
    put,
    put_snapshot,
)
from tests.engine.thread_lab import KEY, in_threads, opened
from tests.engine.workload import Clock


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """With a stream of five records."""
    with opened(tmp_path) as store:
        store.create(KEY, records=[b"0", b"1", b"2", b"3", b"4"])
        yield store


def settled(store: Store) -> None:
    """What upkeep would do with what was released."""
    store._core.snapshots.remove_released()


def reason_of(call: Callable[[], object]) -> Reason:
    with pytest.raises(Rejected) as caught:
        call()
    return caught.value.rejection.reason


def test_it_comes_back_as_it_was(store: Store) -> None:
    with store.begin_snapshot(KEY, 3, content_type="application/x; v=1") as writer:
        for start in range(0, len(LARGE), 70_000):
            writer.write(LARGE[start : start + 70_000])
        assert writer.length == len(LARGE)
        stored = writer.commit()
    digest = hashlib.sha256(LARGE).digest()
    assert (stored.tail, stored.existed) == (5, False)
    with store.open_snapshot(KEY) as reader:
        assert reader.snapshot == stored.snapshot == reader.head.snapshot
        assert reader.snapshot[:4] == (3, digest, len(LARGE), "application/x; v=1")
        assert (reader.head.key, reader.head.tail) == (KEY, 5)
    assert content_of(store, KEY) == LARGE
    head = store.head(KEY)
    assert head.snapshot == stored.snapshot
    assert (head.tail, head.start) == (5, 0)


def test_it_may_be_empty(store: Store) -> None:
    with store.begin_snapshot(KEY, 0) as writer:
        stored = writer.commit()
    assert stored.snapshot.length == 0
    assert content_of(store, KEY) == b""


def test_it_survives_a_restart(tmp_path: Path) -> None:
    for opening in range(3):
        with opened(tmp_path) as store:
            if opening == 0:
                store.create(KEY, records=[b"0", b"1"])
                put(store, 1, LARGE)
            assert content_of(store, KEY) == LARGE


def test_only_the_visible_one_can_be_opened(store: Store) -> None:
    assert reason_of(lambda: store.open_snapshot(KEY)) is Reason.SNAPSHOT_NOT_FOUND
    put(store, 2, b"two")
    put(store, 4, b"four")
    for ordinal in (0, 2, 5):
        with pytest.raises(Rejected) as caught:
            store.open_snapshot(KEY, ordinal)
        assert caught.value.rejection.reason is Reason.SNAPSHOT_NOT_FOUND
        assert caught.value.rejection.snapshot == store.head(KEY).snapshot
    with store.open_snapshot(KEY, 4) as reader:
        assert reader.read() == b"four"
    assert reason_of(lambda: store.open_snapshot(OTHER)) is Reason.STREAM_NOT_FOUND


def test_a_reader_goes_on_with_the_one_it_opened(store: Store, tmp_path: Path) -> None:
    put(store, 2, LARGE)
    reader = store.open_snapshot(KEY)
    begin = reader.read(1000)
    put(store, 3, b"newer")
    store.delete(KEY)
    settled(store)
    assert files(tmp_path) == []
    rest = b""
    while piece := reader.read():
        rest += piece
    assert begin + rest == LARGE
    reader.close()
    reader.close()
    with pytest.raises(InvalidArgument, match="closed"):
        reader.read()


def test_readers_see_one_or_the_other_while_it_is_replaced(store: Store) -> None:
    """The file of a state that was just looked at may be gone when it is to be opened."""
    put(store, 0, b"%d" % 0 * 100)

    def write() -> None:
        for _ in range(150):
            tail = store.append(KEY, [b"x"]).tail
            put(store, tail, b"%d" % tail * 100)
            settled(store)

    def read() -> None:
        last = 0
        while last < 155:
            with store.open_snapshot(KEY) as reader:
                ordinal = reader.snapshot.ordinal
                assert ordinal >= last
                assert reader.read() == b"%d" % ordinal * 100
                last = ordinal

    in_threads(write, read, read)


def test_what_is_certain_is_refused_before_the_bytes(store: Store) -> None:
    put(store, 3, b"three", content_type="text/plain")
    begin = store.begin_snapshot
    assert reason_of(lambda: begin(OTHER, 0)) is Reason.STREAM_NOT_FOUND
    assert reason_of(lambda: begin(KEY, 6)) is Reason.SNAPSHOT_BEYOND_TAIL
    assert reason_of(lambda: begin(KEY, 2)) is Reason.SNAPSHOT_STALE
    assert reason_of(lambda: begin(KEY, 3)) is Reason.SNAPSHOT_CONFLICT  # of another type
    assert reason_of(lambda: begin(KEY, 4, match=bytes(32))) is Reason.SNAPSHOT_MISMATCH
    store.trim(KEY, 3)
    assert reason_of(lambda: begin(KEY, 1)) is Reason.TRIMMED
    for bad in ({"ordinal": -1}, {"content_type": "x"}, {"match": b"x"}):
        with pytest.raises(InvalidArgument):
            begin(**({"key": KEY, "ordinal": 4} | bad))  # type: ignore[arg-type]


def test_it_is_decided_again_when_the_bytes_are_there(store: Store, tmp_path: Path) -> None:
    slow = store.begin_snapshot(KEY, 2)
    slow.write(b"two")
    put(store, 3, b"three")
    assert reason_of(slow.commit) is Reason.SNAPSHOT_STALE
    other = store.begin_snapshot(KEY, 4)
    same = store.begin_snapshot(KEY, 4)
    for writer in (other, same):
        writer.write(b"four")
    assert not other.commit().existed
    assert same.commit().existed
    gone = store.begin_snapshot(KEY, 5)
    store.delete(KEY)
    assert reason_of(gone.commit) is Reason.STREAM_NOT_FOUND
    settled(store)
    assert files(tmp_path) == []


def test_of_many_at_one_offset_one_wins(store: Store, tmp_path: Path) -> None:
    def publish(number: int) -> object:
        try:
            return put(store, 5, b"%d" % (number // 2)).existed
        except Rejected as error:
            return error.rejection.reason

    calls = [lambda number=number: publish(number) for number in range(8)]
    got = in_threads(*calls)
    assert sorted(map(str, got)) == ["False", *["Reason.SNAPSHOT_CONFLICT"] * 6, "True"]
    assert len(files(tmp_path)) == 1


def test_what_is_not_committed_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with store.begin_snapshot(KEY, 1) as writer:
        writer.write(b"x")
        assert len(files(tmp_path)) == 1
    writer.abort()
    assert files(tmp_path) == []
    for late in (lambda: writer.write(b"y"), writer.commit):
        with pytest.raises(InvalidArgument, match="committed or aborted"):
            late()
    assert store.head(KEY).snapshot is None
    put(store, 1, b"x")
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("way", ["replaced", "deleted", "soft-deleted", "expired", "in a chain"])
def test_the_file_goes_when_nobody_can_ask_for_it(way: str) -> None:
    storage, clock = FaultyStorage(), Clock()
    store = open_store(storage, clock)
    store.create_bucket("bucket")
    ttl_ms = 1000 if way == "expired" else None
    store.create(KEY, records=[b"0", b"1"], ttl_ms=ttl_ms)
    perform(store, put_snapshot(KEY, 1, b"one"))
    (file,) = (name for name in storage.names() if name.startswith(DIRECTORY))
    wanted: list[str] = []
    if way == "replaced":
        perform(store, put_snapshot(KEY, 2, b"two"))
    elif way == "deleted":
        store.delete(KEY)
        store.delete_bucket("bucket")
    elif way == "soft-deleted":
        store.fork(OTHER, KEY)
        store.delete(KEY)
    elif way == "expired":
        clock.now_ms += 1000
        store.perform(Expire(KEY))
    else:
        # The fork's own goes with the fork, whose source went before.
        store.fork(OTHER, KEY)
        perform(store, put_snapshot(OTHER, 2, b"the fork's"))
        store.delete(KEY)
        store.delete(OTHER)
    left = [name for name in storage.names() if name.startswith(DIRECTORY)]
    assert file not in left
    assert len(left) == (1 if way == "replaced" else 0), wanted
    store.close()


def test_a_strangers_file_in_the_directory_is_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.create(KEY, records=[b"0"])
        put(store, 1, b"x")
        (tmp_path / DIRECTORY / "notes.txt").write_text("mine")
        (tmp_path / DIRECTORY / f"{7:016x}.snapshot").write_text("a stray")
    with opened(tmp_path) as store:
        assert len(files(tmp_path)) == 2
        assert "notes.txt" in files(tmp_path)
        assert content_of(store, KEY) == b"x"


def test_a_retry_that_comes_late_brings_no_file_back(tmp_path: Path) -> None:
    """Its answer was on the way when the snapshot it confirmed was replaced."""
    with opened(tmp_path) as store:
        store.create(KEY, records=[b"0", b"1"])
        put(store, 1, b"one")
        late = store.begin_snapshot(KEY, 1)
        late.write(b"one")
        confirm = late._perform

        def confirm_and_replace(operation: PutSnapshot) -> Outcome:
            outcome = confirm(operation)
            put(store, 2, b"two")
            settled(store)
            return outcome

        late._perform = confirm_and_replace
        assert late.commit().existed
        assert len(files(tmp_path)) == 1
        assert content_of(store, KEY) == b"two"
