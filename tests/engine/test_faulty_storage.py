"""The storage double itself: what it says survives a crash is what may survive one."""

from __future__ import annotations

import errno

import pytest

from tailrace.errors import StoreLocked
from tailrace.storage import Storage, read_file, replace_file
from tests.engine.faulty_storage import (
    DROPPED,
    KEPT,
    KILLED,
    SECTOR_BYTES,
    Crash,
    Fault,
    FaultyStorage,
    Step,
)


def test_it_is_a_storage() -> None:
    storage: Storage = FaultyStorage()
    storage.lock()
    with pytest.raises(StoreLocked):
        storage.lock()
    storage.close()
    storage.lock()


def test_unsynced_bytes_are_dropped_or_kept() -> None:
    storage = FaultyStorage()
    file = storage.open("f", writable=True, create=True)
    storage.sync_directory("")
    file.pwrite(b"a" * 10, 0)
    file.sync()
    file.pwrite(b"b" * 10, 5)
    assert read_file(storage.image(DROPPED), "f") == b"a" * 10
    assert read_file(storage.image(KEPT), "f") == b"a" * 5 + b"b" * 10


def test_a_name_is_durable_only_after_its_directory_was_synced() -> None:
    storage = FaultyStorage()
    file = storage.open("f", writable=True, create=True)
    file.pwrite(b"x", 0)
    file.sync()
    assert storage.image(DROPPED).names() == []
    assert {tuple(storage.image(seed).names()) for seed in range(40)} == {(), ("f",)}
    storage.sync_directory("")
    assert storage.image(DROPPED).names() == ["f"]
    storage.rename("f", "g")
    assert storage.image(DROPPED).names() == ["f"]
    assert storage.image(KEPT).names() == ["g"]
    storage.unlink("g")
    assert {tuple(storage.image(seed).names()) for seed in range(60)} == {("f",), ("g",), ()}


def test_sectors_tear_apart_but_never_mix() -> None:
    storage = FaultyStorage()
    file = storage.open("f", writable=True, create=True)
    storage.sync_directory("")
    file.pwrite(b"0" * 8 * SECTOR_BYTES, 0)
    file.sync()
    for fill in (b"1", b"2"):
        file.pwrite(fill * 8 * SECTOR_BYTES, 0)
    seen = set()
    for seed in range(60):
        content = read_file(storage.image(seed), "f")
        assert len(content) == 8 * SECTOR_BYTES
        sectors = [content[i * SECTOR_BYTES : (i + 1) * SECTOR_BYTES] for i in range(8)]
        assert all(sector == sector[:1] * SECTOR_BYTES for sector in sectors)
        seen.add(bytes(sector[0] for sector in sectors))
    assert len(seen) > 10
    assert {value for states in seen for value in states} == set(b"012")


def test_a_torn_file_may_have_any_of_its_sizes() -> None:
    storage = FaultyStorage()
    file = storage.open("f", writable=True, create=True)
    storage.sync_directory("")
    file.pwrite(b"a" * 100, 0)
    file.pwrite(b"b" * 900, 100)
    file.truncate(50)
    sizes = {len(read_file(storage.image(seed), "f")) for seed in range(100)}
    assert sizes == {0, 100, 1000, 50}


def test_bytes_of_a_failed_sync_are_never_durable() -> None:
    storage = FaultyStorage()
    file = storage.open("f", writable=True, create=True)
    storage.sync_directory("")
    file.pwrite(b"lost", 0)
    storage.faults.append(Fault("sync", errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    file.pwrite(b"kept", 4)
    file.sync()
    assert read_file(storage, "f") == b"lostkept"
    assert read_file(storage.image(DROPPED), "f") == b"\0\0\0\0kept"


def test_the_world_stops_at_the_step_asked_for() -> None:
    storage = FaultyStorage()
    steps: list[Step] = []
    storage.on_step = steps.append
    replace_file(storage, "", "f", b"first")
    assert [step.kind for step in steps] == [
        "create",
        "write",
        "sync",
        "rename",
        "sync_directory",
    ]
    storage.crash_at = storage.steps + 4  # unlinking a file that is not there is no step
    with pytest.raises(Crash):
        replace_file(storage, "", "f", b"second")
    with pytest.raises(Crash):
        storage.open("f")
    assert read_file(storage.image(DROPPED), "f") == b"first"
    assert read_file(storage.image(KEPT), "f") == b"first"


def test_a_mapping_sees_later_writes_and_forbids_resizing() -> None:
    storage = FaultyStorage()
    file = storage.open("f", writable=True, create=True)
    with pytest.raises(ValueError, match="empty"):
        file.map()
    file.pwrite(bytes(16), 0)
    mapping = file.map()
    file.pwrite(b"abc", 3)
    assert bytes(mapping.view[2:7]) == b"\0abc\0"
    with pytest.raises(AssertionError, match="mapped"):
        file.truncate(8)
    held = mapping.view[3:6]
    mapping.close()
    file.truncate(2)
    assert bytes(held) == b"abc"


def test_replace_file_leaves_the_old_file_or_the_new() -> None:
    storage = FaultyStorage()
    replace_file(storage, "", "f", b"old" * 1000)
    states = []
    storage.on_step = lambda step: states.append(storage.freeze())
    replace_file(storage, "", "f", b"new" * 1000)
    states.append(storage.freeze())
    assert len(states) == 6
    for state in states:
        for mode in (DROPPED, KEPT, *range(20)):
            assert read_file(state.image(mode), "f") in (b"old" * 1000, b"new" * 1000)
    assert read_file(states[-1].image(DROPPED), "f") == b"new" * 1000


def test_a_killed_process_leaves_its_unsynced_bytes_readable_but_not_durable() -> None:
    storage = FaultyStorage()
    file = storage.open("f", writable=True, create=True)
    file.pwrite(b"abc", 0)
    killed = storage.image(KILLED)
    assert read_file(killed, "f") == b"abc"
    assert killed.image(DROPPED).names() == []
    killed.sync_directory("")
    assert read_file(killed.image(DROPPED), "f") == b""
    killed.open("f", writable=True).sync()
    assert read_file(killed.image(DROPPED), "f") == b"abc"
