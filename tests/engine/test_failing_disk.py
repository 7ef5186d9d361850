"""Writes, syncs and creations that fail: everyone is told, nobody hangs, reads go on."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

import tailrace
from tailrace import (
    Append,
    CreateBucket,
    Delete,
    LogPoisoned,
    Options,
    Overloaded,
    StreamOptions,
    Ticket,
)
from tests.engine.hooked_storage import HookedStorage, hold_log
from tests.engine.thread_lab import KEY, PATIENCE_S, callbacks_are_over, in_threads, opened
from tests.engine.workload import read_all


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_failed_write_or_sync_poisons_the_log_and_nobody_hangs(tmp_path: Path, kind: str) -> None:
    storage = HookedStorage(tmp_path)
    with opened(tmp_path, storage=storage) as store:
        store.append(KEY, [b"good"], create=StreamOptions())
        armed = threading.Event()

        def hook(what: str, name: str) -> None:
            if armed.is_set() and what == kind and name.endswith(".segment"):
                raise OSError(errno.EIO, os.strerror(errno.EIO), name)

        storage.hook = hook
        acknowledged: list[bytes] = [b"good"]
        lock = threading.Lock()
        answers: list[Ticket] = []

        def write(number: int) -> None:
            for n in range(10_000):
                record = b"%d:%d" % (number, n)
                try:
                    store.perform(Append(KEY, [record]), PATIENCE_S)
                except LogPoisoned as error:
                    assert isinstance(error.__cause__, OSError)  # noqa: PT017
                    return
                with lock:
                    acknowledged.append(record)
                if number == 0 and n == 50:
                    armed.set()
            raise AssertionError("the log was never poisoned")

        def submit() -> None:
            try:
                while True:
                    tickets = store.submit([Append(KEY, [b"t"])] * 3)
                    answers.extend(tickets)
                    tickets[-1].wait(PATIENCE_S)
            except LogPoisoned:
                return

        in_threads(*(lambda n=n: write(n) for n in range(4)), submit)
        for ticket in answers:
            assert ticket.outcome is not None or isinstance(ticket.error, LogPoisoned)
            assert ticket.done
        for operation in (Append(KEY, [b"x"]), CreateBucket("more"), Delete(KEY)):
            with pytest.raises(LogPoisoned):
                store.perform(operation, PATIENCE_S)
        armed.clear()  # the disk is well again: a poisoned log stays poisoned all the same
        with pytest.raises(LogPoisoned):
            store.append(KEY, [b"x"])
        durable = read_all(store, KEY, page_bytes=1 << 20)
        assert set(acknowledged) <= set(durable)
    with opened(tmp_path) as store:
        again = read_all(store, KEY, page_bytes=1 << 20)
        assert again[: len(durable)] == durable
        assert set(acknowledged) <= set(again)
        assert len(set(again) - {b"t"}) == len([r for r in again if r != b"t"])
        store.append(KEY, [b"goes on"])


def test_a_waiter_is_told_when_the_disk_fails_under_it(tmp_path: Path) -> None:
    storage = HookedStorage(tmp_path)
    with opened(tmp_path, storage=storage) as store:
        store.create(KEY)
        failure = OSError(errno.EIO, "failing")
        gate, held = hold_log(storage, PATIENCE_S, error=failure)
        called: list[Ticket] = []
        first = store.submit([Append(KEY, [b"1"])], called.append)
        assert held.wait(PATIENCE_S)
        second = store.submit([Append(KEY, [b"2"]), Append(KEY, [b"3"], expected_ordinal=9)],
                              called.append)  # fmt: skip
        gate.set()
        for ticket in [*first, *second]:
            with pytest.raises(LogPoisoned):
                ticket.wait(PATIENCE_S)
        callbacks_are_over(store)
        assert called == [*first, *second]
        assert store.read(KEY, 0).count == 0


def test_a_full_disk_at_a_new_segment_refuses_writes_until_there_is_room(tmp_path: Path) -> None:
    storage = HookedStorage(tmp_path)
    with opened(tmp_path, storage=storage) as store:
        store.create(KEY)

        def hook(kind: str, name: str) -> None:
            if kind == "create" and ".segment" in name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

        storage.hook = hook
        written = 0
        with pytest.raises(Overloaded, match="No space"):
            for _ in range(1000):
                store.append(KEY, [bytes(1000)])
                written += 1
        # Refused as a whole group: what was staged beside it, in whatever order, is refused too.
        tickets = store.submit([Append(KEY, [bytes(1000)]), CreateBucket("later"), Delete(KEY)])
        for ticket in tickets:
            with pytest.raises(Overloaded):
                ticket.wait(PATIENCE_S)
        assert len(read_all(store, KEY, page_bytes=1 << 20)) == written
        assert not list((tmp_path / "log").glob("*.tmp"))
        storage.hook = lambda kind, name: None
        assert store.append(KEY, [bytes(1000)] * 50).base == written
        store.create_bucket("later")
    with opened(tmp_path) as store:
        assert len(read_all(store, KEY, page_bytes=1 << 20)) == written + 50
        assert store.bucket("later").streams == 0


def test_upkeep_failing_for_want_of_space_does_not_stop_writes(tmp_path: Path) -> None:
    storage = HookedStorage(tmp_path)
    with opened(tmp_path, storage=storage) as store:
        store.create(KEY)

        def hook(kind: str, name: str) -> None:
            if kind == "create" and ".segment" not in name and "MANIFEST" not in name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

        storage.hook = hook
        for _ in range(400):
            store.append(KEY, [bytes(1000)])
        storage.hook = lambda kind, name: None
        assert store.head(KEY).tail == 400
    with opened(tmp_path) as store:
        assert len(read_all(store, KEY, page_bytes=1 << 20)) == 400


def test_the_committer_hears_of_what_comes_after_a_refused_group(tmp_path: Path) -> None:
    """It went to sleep marked as awake, and nobody woke it: without marks, for ever."""
    storage = HookedStorage(tmp_path)
    options = Options(segment_bytes=64 * 1024, mark_idle_s=None)
    with tailrace.open(tmp_path, options=options, storage=storage) as store:
        store.create_bucket(KEY.bucket)
        store.create(KEY)

        def hook(kind: str, name: str) -> None:
            if kind == "create" and ".segment" in name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

        storage.hook = hook
        with pytest.raises(Overloaded):
            for _ in range(100):
                store.submit([Append(KEY, [bytes(4000)])])[0].wait(PATIENCE_S)
        storage.hook = lambda kind, name: None
        for _ in range(3):
            store.submit([Append(KEY, [b"x"])])[0].wait(PATIENCE_S)


def segments_in(directory: Path) -> set[str]:
    return {file.name for file in (directory / "log").glob("*.segment")}


@pytest.mark.parametrize("early", [True, False])
def test_what_is_deleted_gives_its_room_back_whenever_that_was(tmp_path: Path, early: bool) -> None:
    """Also where the checkpoints had not passed it yet when the stream was deleted."""
    storage = HookedStorage(tmp_path)
    options = Options(segment_bytes=64 * 1024, checkpoint_every_bytes=64 * 1024, background=False)
    with tailrace.open(tmp_path, options=options, storage=storage) as store:
        store.create_bucket(KEY.bucket)
        other = (KEY.bucket, "other")
        store.create(KEY)
        store.create(other)
        for _ in range(20):
            store.append(KEY, [bytes(20_000)])
        held = segments_in(tmp_path)
        assert len(held) > 5
        if early:
            store.delete(KEY)
        for _ in range(20):
            store.append(other, [bytes(20_000)])
        if not early:
            store.delete(KEY)
        for _ in range(4):
            store.append(other, [bytes(20_000)])
        assert len(held & segments_in(tmp_path)) <= 2
        assert store.read(other, 0).count
    with tailrace.open(tmp_path) as store:
        assert store.head(other).tail == 24


def test_on_a_full_disk_deleting_makes_room_for_writes(tmp_path: Path) -> None:
    """The one checkpoint that is then relied on is read back before the other one goes."""
    storage = HookedStorage(tmp_path)
    options = Options(segment_bytes=64 * 1024, expiry_sweep_s=0.05)
    room = 4

    def hook(kind: str, name: str) -> None:
        if kind == "create" and ".segment" in name and len(segments_in(tmp_path)) >= room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    storage.hook = hook
    with tailrace.open(tmp_path, options=options, storage=storage) as store:
        store.create_bucket(KEY.bucket)
        store.create(KEY)
        other = (KEY.bucket, "other")
        with pytest.raises(Overloaded):
            for _ in range(1000):
                store.append(KEY, [bytes(5_000)])
        assert len(segments_in(tmp_path)) == room
        store.delete(KEY)
        store.create(other)
        for _ in range(1000):  # until there is room
            try:
                store.append(other, [bytes(30_000)])
                break
            except Overloaded:
                threading.Event().wait(0.02)
        else:
            raise AssertionError("no room was made")
        store.append(other, [bytes(30_000)] * 2)
    with tailrace.open(tmp_path) as store:
        assert store.head(other).tail == 3
        assert [bytes(record) for record in store.read(other, 0).records()] == [bytes(30_000)] * 3
        with pytest.raises(tailrace.Rejected):
            store.head(KEY)


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("checkpoints", [1, 2])
def test_on_a_full_disk_no_room_is_made_by_what_a_damaged_checkpoint_says(
    tmp_path: Path, checkpoints: int, gone: bool
) -> None:
    """The log that says the same stays whole: all is told again from its beginning."""
    options = Options(segment_bytes=64 * 1024, background=False)
    other = (KEY.bucket, "other")
    with tailrace.open(tmp_path, options=options) as store:
        store.create_bucket(KEY.bucket)
        if checkpoints == 2:
            store._core.upkeep.checkpoint()
        store.create(KEY)
        store.create(other)
        for _ in range(20):
            store.append(KEY, [bytes(20_000)])
        store.append(other, [b"acknowledged"])
        store.delete(KEY)
        upkeep = store._core.upkeep
        upkeep.checkpoint()
        found = store._core.log.segments.copy()
        assert upkeep.checkpoints == checkpoints and len(found) > 4
        newest = sorted(tmp_path.glob("checkpoint-*"))[-1]
        if gone:
            newest.unlink()
        else:
            newest.write_bytes(newest.read_bytes()[:-1])
        upkeep.reclaimable = True
        upkeep.run_once(lacking=True)
        assert store._core.log.segments == found
        store._core.upkeep.checkpoint = lambda: None  # type: ignore[method-assign]
    with tailrace.open(tmp_path, options=options) as store:
        assert store.head(other).tail == 1
