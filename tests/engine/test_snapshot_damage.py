"""Snapshots on a disk that fails, or that has damaged them: nothing else is the worse for it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import tailrace
from tailrace import (
    Append,
    Corrupted,
    Delete,
    LogPoisoned,
    Overloaded,
    Store,
    StoreClosed,
    StreamKey,
    StreamOptions,
    limits,
)
from tests.engine.crash_lab import OPTIONS, open_store
from tests.engine.faulty_storage import DROPPED, KILLED, Fault, FaultyStorage
from tests.engine.hooked_storage import HookedStorage
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
from tests.engine.thread_lab import KEY, opened
from tests.engine.workload import Clock


@pytest.mark.parametrize(
    ("kind", "pieces"), [("create", 0), ("write", 1), ("sync", 1), ("sync", 3), ("write", 3)]
)
def test_a_disk_that_does_not_take_it_is_told_and_harms_nothing_else(
    tmp_path: Path, kind: str, pieces: int
) -> None:
    storage = HookedStorage(tmp_path)
    with opened(tmp_path, storage=storage) as store:
        store.create(KEY, records=[b"0", b"1"])
        put(store, 1, b"old")
        piece = bytes(limits.SNAPSHOT_SYNC_BYTES // 2)

        def hook(what: str, name: str) -> None:
            if what == kind and DIRECTORY in name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

        def publish() -> None:
            if pieces < 2:
                storage.hook = hook
            with store.begin_snapshot(KEY, 2) as writer:
                writer.write(piece)
                storage.hook = hook
                writer.write(piece)
                writer.write(piece)
                writer.commit()

        with pytest.raises(Overloaded, match="No space"):
            publish()
        assert len(files(tmp_path)) == 1
        assert content_of(store, KEY) == b"old"
        assert store.append(KEY, [b"2"]).tail == 3  # the log is none the worse
        storage.hook = lambda kind, name: None
        put(store, 3, b"new")


def test_a_snapshot_is_synced_as_it_comes(tmp_path: Path) -> None:
    """So that no sync of the log waits behind all of a large snapshot."""
    storage = HookedStorage(tmp_path)
    synced: list[str] = []
    with opened(tmp_path, storage=storage) as store:
        store.create(KEY, records=[b"0"])
        storage.hook = lambda kind, name: (
            synced.append(name) if kind == "sync" and DIRECTORY in name else None
        )
        with store.begin_snapshot(KEY, 1) as writer:
            for number in range(1, 5):
                writer.write(bytes(limits.SNAPSHOT_SYNC_BYTES // 2))
                assert len(synced) == number // 2


def test_after_a_poisoned_log_the_next_start_says_whether_it_counts() -> None:
    for torn, survives in ((KILLED, True), (DROPPED, False)):
        storage, clock = FaultyStorage(), Clock()
        store = open_store(storage, clock)
        store.create_bucket("bucket")
        store.create(KEY, records=[b"0"])
        storage.faults.append(Fault("sync", errno.EIO, "segment"))
        with pytest.raises(LogPoisoned):
            perform(store, put_snapshot(KEY, 1, b"x"))
        with pytest.raises(LogPoisoned):
            store.begin_snapshot(KEY, 1)
        again = open_store(storage.image(torn), clock)
        head = again.head(KEY)
        assert (head.snapshot is not None) == survives
        if survives:
            assert content_of(again, KEY) == b"x"


def test_a_closed_store_stores_none(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.create(KEY, records=[b"0"])
        writer = store.begin_snapshot(KEY, 1)
        writer.write(b"x")
    with pytest.raises(StoreClosed):
        writer.commit()
    for late in (lambda: store.begin_snapshot(KEY, 1), lambda: store.open_snapshot(KEY)):
        with pytest.raises(StoreClosed):
            late()
    assert files(tmp_path) == []


# ---- damage


def damaged(tmp_path: Path, how: str) -> None:
    (name,) = files(tmp_path)
    path = tmp_path / DIRECTORY / name
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    elif how == "cut":
        del content[-1:]
    elif how == "longer":
        content += b"x"
    path.write_bytes(content)
    if how == "missing":
        path.unlink()


@pytest.mark.parametrize("how", ["flipped", "cut", "longer", "missing"])
def test_damage_is_reported_and_mended_by_the_same_snapshot(tmp_path: Path, how: str) -> None:
    with opened(tmp_path) as store:
        store.create(KEY, records=[b"0", b"1"])
        put(store, 1, LARGE)
    assert tailrace.check(tmp_path).snapshots == 1
    assert tailrace.check(tmp_path).ok
    damaged(tmp_path, how)
    report = tailrace.check(tmp_path)
    assert not report.ok
    assert report.log_ok
    (damage,) = report.snapshot_damages
    assert damage.stream == str(KEY)
    assert DIRECTORY in damage.file
    assert not tailrace.repair(tmp_path).lost
    with opened(tmp_path) as store:
        assert store.read(KEY, 0).count == 2  # nothing else is the worse for it
        given = bytearray()
        with pytest.raises(Corrupted, match=DIRECTORY):
            with store.open_snapshot(KEY) as reader:
                while piece := reader.read():
                    given += piece
        assert len(given) < len(LARGE)  # the last piece is never given
        assert put(store, 1, LARGE).existed
        assert content_of(store, KEY) == LARGE
        assert len(files(tmp_path)) == 1
    assert tailrace.check(tmp_path).ok


def test_a_file_that_shrinks_under_its_reader_is_reported(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.create(KEY, records=[b"0"])
        put(store, 1, LARGE)
        with store.open_snapshot(KEY) as reader:
            reader.read(1000)
            (name,) = files(tmp_path)
            os.truncate(tmp_path / DIRECTORY / name, 1500)
            assert len(reader.read(1000)) == 500
            with pytest.raises(Corrupted):
                reader.read(1000)


def test_a_check_sees_what_was_replaced_since_the_checkpoint() -> None:
    storage, clock = FaultyStorage(), Clock()
    store = open_store(storage, clock)
    store.create_bucket("bucket")
    store.create(KEY, records=[b"0", b"1"])
    store.create(OTHER, records=[b"0"])
    perform(store, put_snapshot(KEY, 1, b"one"))
    perform(store, put_snapshot(OTHER, 1, b"other"))
    store._core.upkeep.checkpoint()
    perform(store, put_snapshot(KEY, 2, b"two"))
    store.perform(Delete(OTHER))
    image = storage.image(DROPPED)
    report = tailrace.check("/nowhere", storage=image)
    assert report.ok
    assert report.snapshots == 1


def test_a_check_of_a_damaged_log_says_nothing_of_snapshots() -> None:
    storage, clock = FaultyStorage(), Clock()
    store = open_store(storage, clock)
    store.create_bucket("bucket")
    for key in (KEY, OTHER):
        store.perform(Append(key, [b"0"], create=StreamOptions()))
    perform(store, put_snapshot(KEY, 1, b"one"))
    place = store._core.committer.durable_position % OPTIONS.segment_bytes
    perform(store, put_snapshot(KEY, 1, b"one"))
    store.append(OTHER, [b"lost"])
    store.append(KEY, [b"1"])
    perform(store, put_snapshot(KEY, 2, b"two"))
    image = storage.image(DROPPED)
    (segment,) = (name for name in image.names() if name.endswith("0.segment"))
    image.damage(segment, place + 60, 1)
    report = tailrace.check("/nowhere", storage=image)
    assert not report.log_ok
    assert report.snapshots == 0
    assert report.snapshot_damages == []


def test_a_start_names_the_streams_whose_snapshots_were_not_restored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A backup may lack a directory that looked unimportant: the rest is served, somebody told."""
    keys = [StreamKey("bucket", f"s{number:02}") for number in range(22)]
    with opened(tmp_path) as store:
        for key in keys:
            store.create(key, records=[b"0"])
            perform(store, put_snapshot(key, 1, key.stream.encode()))
        kept = store.head(keys[5]).snapshot
        assert kept is not None
    with opened(tmp_path):
        pass
    assert not caplog.records
    for path in (tmp_path / DIRECTORY).iterdir():
        if path.name != f"{kept.file:016x}.snapshot":
            path.unlink()
    with opened(tmp_path) as store:
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        said = record.getMessage()
        assert said.startswith("21 snapshots have no file in snapshots: those of bucket/s00,")
        assert "bucket/s20 and 1 more." in said
        assert "s05" not in said
        with store.open_snapshot(keys[5]) as reader:
            assert reader.read(10) == b"s05"
        assert [bytes(record) for record in store.read(keys[0], 0).records()] == [b"0"]
        assert not can_be_opened(store, keys[0])
        perform(store, put_snapshot(keys[0], 1, b"s00"))
        assert can_be_opened(store, keys[0])


def can_be_opened(store: Store, key: StreamKey) -> bool:
    try:
        with store.open_snapshot(key):
            return True
    except Corrupted:
        return False
