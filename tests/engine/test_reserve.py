"""Zeroed segments ahead of the log: as many as a burst wants, and never in a writer's way."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

import tailrace
from tailrace import Append, InvalidArgument, Options
from tailrace.filenames import LOG_DIRECTORY
from tailrace.limits import (
    RESERVE_BURST_S,
    RESERVE_DISK_FREE_BYTES_MIN,
    RESERVE_KEPT_S,
    RESERVE_SEGMENTS_MAX,
)
from tailrace.reserve import Reserve
from tests.engine.crash_lab import OPTIONS, open_store, run, upkeep
from tests.engine.faulty_storage import KEPT, Fault, FaultyStorage
from tests.engine.hooked_storage import HookedStorage
from tests.engine.thread_lab import KEY, PATIENCE_S, opened
from tests.engine.workload import Clock, read_all

SEGMENT_BYTES = 64 * 1024


class Seconds:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def storage() -> FaultyStorage:
    made = FaultyStorage()
    made.make_directory(LOG_DIRECTORY)
    return made


def reserve(disk: FaultyStorage, clock_s: Seconds, segments: int = 4) -> Reserve:
    return Reserve(disk, SEGMENT_BYTES, segments * SEGMENT_BYTES, clock_s)


def fill(made: Reserve) -> None:
    for _ in range(1000):
        if not made.lacking:
            return
        made.step()
    raise AssertionError("the reserve is never full")


def spares(disk: FaultyStorage) -> list[str]:
    return [name for name in disk.names() if name.endswith(".spare")]


def test_a_burst_is_answered_with_twice_what_it_used_up_to_the_bound() -> None:
    disk, clock_s = storage(), Seconds()
    made = reserve(disk, clock_s, segments=5)
    assert made.take() is None
    clock_s.now_s += RESERVE_BURST_S + 1
    assert made.take() is None
    assert made.wanted == 0, "one segment now and then is no burst"
    made.take()
    assert made.wanted == 2
    fill(made)
    assert len(spares(disk)) == made.ready == 2
    taken = made.take()
    assert taken in spares(disk)
    assert taken is not None and bytes(disk.content(taken)) == bytes(SEGMENT_BYTES)
    for _ in range(9):
        made.take()
    assert made.wanted == 5
    many = Reserve(disk, SEGMENT_BYTES, 10**12, clock_s)
    for _ in range(100):
        many.take()
    assert many.wanted == RESERVE_SEGMENTS_MAX


def test_without_a_bound_of_a_segment_there_is_no_reserve() -> None:
    made = Reserve(storage(), SEGMENT_BYTES, SEGMENT_BYTES - 1, Seconds())
    for _ in range(10):
        assert made.take() is None
    assert not made.lacking
    with pytest.raises(InvalidArgument, match="reserve_bytes_max"):
        Options(reserve_bytes_max=-1)


def test_spares_of_the_right_size_are_taken_over_by_the_next_start() -> None:
    disk, clock_s = storage(), Seconds()
    made = reserve(disk, clock_s)
    for _ in range(3):
        made.take()
    fill(made)
    kept = spares(disk)
    short = disk.open(f"{LOG_DIRECTORY}/00000000000000ff.spare", writable=True, create=True)
    short.pwrite(b"\0", 0)
    short.close()
    again = reserve(disk, clock_s, segments=3)
    assert (again.ready, again.wanted) == (3, 3)
    assert set(spares(disk)) < set(kept)
    names = {again.take() for _ in range(3)}
    assert names < set(kept)
    fill(again)
    assert set(spares(disk)) - set(kept), "a name that was used is not used again"


def test_spares_are_given_back_when_the_disk_runs_short_or_after_long_without_use() -> None:
    disk, clock_s = storage(), Seconds()
    made = reserve(disk, clock_s)
    for free, later_s in ((RESERVE_DISK_FREE_BYTES_MIN - 1, 0.0), (1 << 40, RESERVE_KEPT_S + 1)):
        made.take()
        made.take()
        fill(made)
        made.give_back()
        assert made.ready >= 2
        disk.free = free
        clock_s.now_s += later_s
        made.give_back()
        assert (made.ready, spares(disk)) == (0, [])
        disk.free = 1 << 40
    made.take()
    made.take()
    disk.free = RESERVE_DISK_FREE_BYTES_MIN
    fill(made)
    assert spares(disk) == [], "nor is one made that would leave too little"


@pytest.mark.parametrize("kind", ["create", "truncate", "write", "sync", "rename"])
def test_a_disk_that_refuses_a_spare_is_not_asked_again_until_the_next_burst(kind: str) -> None:
    disk = storage()
    made = reserve(disk, Seconds())
    made.take()
    made.take()
    disk.faults.append(Fault(kind, errno.ENOSPC, ".spare"))
    with pytest.raises(OSError, match="space"):
        fill(made)
    assert not made.lacking
    assert disk.names() == [], "a half made spare would hold the last free bytes"
    made.take()
    fill(made)
    assert made.ready > 0


def test_writers_go_on_with_spares_when_the_disk_is_full() -> None:
    disk = FaultyStorage()
    store = open_store(disk, Clock())
    store.create_bucket("bucket")
    store.create(KEY)
    record = b"x" * 30_000
    for _ in range(8):
        store.append(KEY, [record])
        upkeep(store)
    ready = store.counters()["reserve_segments"]
    assert ready >= 4
    disk.faults.append(Fault("truncate", errno.ENOSPC, ".segment", times=None))
    for _ in range(2 * ready):
        store.append(KEY, [record])
    assert store.head(KEY).tail == 8 + 2 * ready
    store.close()
    again = open_store(disk, Clock())
    assert read_all(again, KEY) == [record] * (8 + 2 * ready)
    again.close()


def test_a_spare_that_almost_became_a_segment_becomes_another() -> None:
    """The crash came after its header was written, before its name."""
    disk = FaultyStorage()
    store = open_store(disk, Clock())
    store.create_bucket("bucket")
    store.create(KEY)
    record = b"x" * 30_000
    count = 0
    states = []
    disk.on_step = lambda step: (
        states.append((count, disk.freeze()))
        if step.kind == "rename" and step.name.endswith(".spare")
        else None
    )
    for _ in range(16):
        store.append(KEY, [record])
        count += 1
        upkeep(store)
    assert len(states) >= 3
    for acknowledged, state in states:
        image = state.image(KEPT)
        again = open_store(image, Clock())
        assert read_all(again, KEY) == [record] * acknowledged
        for _ in range(8):
            again.append(KEY, [record])
        again.close()
        again = open_store(image, Clock())
        assert read_all(again, KEY) == [record] * (acknowledged + 8)
        again.close()


def test_the_crash_points_include_those_of_spares() -> None:
    history = run(1, 120)
    names = {point.disk.step.name for point in history.points}
    assert any(name.endswith(".spare") for name in names)
    assert OPTIONS.reserve_bytes_max > 0


def test_a_second_burst_zeroes_nothing(tmp_path: Path) -> None:
    zeroed: list[str] = []
    disk = HookedStorage(tmp_path)
    options = Options(segment_bytes=1 << 20, mark_idle_s=None)
    with opened(tmp_path, options, storage=disk) as store:
        store.create(KEY)

        def burst() -> None:
            for _ in range(30):
                store.perform(Append(KEY, [b"x" * 100_000]), PATIENCE_S)

        burst()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            counters = store.counters()
            if 3 <= counters["reserve_segments_wanted"] <= counters["reserve_segments"]:
                break
            time.sleep(0.01)
        disk.hook = lambda kind, name: zeroed.append(name) if kind == "create" else None
        burst()
        made = [name for name in zeroed if ".segment" in name]
        assert made == []
    kept = sorted(path.name for path in (tmp_path / LOG_DIRECTORY).glob("*.spare"))
    assert kept
    assert list((tmp_path / LOG_DIRECTORY).glob("*.tmp")) == []
    with tailrace.open(tmp_path, options=options) as store:
        assert store.counters()["reserve_segments"] == len(kept)
        assert len(read_all(store, KEY, page_bytes=1 << 24)) == 60
