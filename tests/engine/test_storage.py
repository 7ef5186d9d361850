"""The real storage: how a segment's zeros are written, and what the page rest is for."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tailrace import Append, Options, StreamKey, StreamOptions
from tailrace.limits import MIB, PAGE_BYTES, SEGMENT_HEADER_BYTES
from tailrace.storage import OsStorage
from tests.engine.hooked_storage import HookedFile, HookedStorage
from tests.engine.thread_lab import KEY, SMALL, opened

LENGTHS = [PAGE_BYTES, 256 * 1024, 256 * 1024 + PAGE_BYTES, MIB]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_new_file_is_filled_with_zeros(tmp_path: Path, length: int) -> None:
    storage = OsStorage(tmp_path)
    file = storage.open("zeros", writable=True, create=True)
    file.allocate(length)
    file.zero(0, length)
    file.sync()
    assert file.size_bytes() == length
    assert file.pread(length + 1, 0) == bytes(length)
    # No hole is left: the blocks are there, whatever is written later.
    assert os.stat(tmp_path / "zeros").st_blocks * 512 >= length
    file.close()


def test_each_write_to_the_log_ends_at_a_page_of_a_segment_that_stays_zero_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[int] = []
    real = HookedFile.pwrite

    def watch(self: HookedFile, data: bytes | bytearray | memoryview, position: int) -> None:
        if self._name.endswith(".segment"):
            ends.append(position + len(data))
        real(self, data, position)

    monkeypatch.setattr(HookedFile, "pwrite", watch)
    options = Options(segment_bytes=MIB)
    with opened(tmp_path, options, storage=HookedStorage(tmp_path)) as store:
        for n in range(40):
            store.perform(Append(KEY, [b"x" * (n * 97)], create=StreamOptions()))
        used = store.counters()["durable_position"]
        assert isinstance(used, int)
    assert len(ends) >= 40
    assert all(end % PAGE_BYTES == 0 for end in ends)
    (segment, *_) = sorted((tmp_path / "log").glob("*.segment"))
    content = segment.read_bytes()
    assert len(content) == MIB
    assert used > SEGMENT_HEADER_BYTES
    # What closing adds is a mark; nothing but zeros is behind it.
    assert content[used + PAGE_BYTES :].count(0) == MIB - used - PAGE_BYTES
    with opened(tmp_path, options) as store:
        assert store.head(KEY).tail == 40


def test_a_log_goes_on_where_it_ended_in_the_middle_of_a_page(tmp_path: Path) -> None:
    key = StreamKey("bucket", "s")
    for n in range(5):
        with opened(tmp_path) as store:
            store.perform(Append(key, [b"%d" % n], create=StreamOptions()))
            assert bytes(store.read(key, 0).payload) == b"01234"[: n + 1]


def test_sealed_segments_hold_no_descriptors(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    # Without threads: upkeep runs where it is due.
    options = replace(SMALL, background=False)
    before = descriptors()
    for _ in range(2):
        with opened(tmp_path, options) as store:
            for n in range(30):
                store.perform(Append(KEY, [b"%d" % n * 30_000], create=StreamOptions()))
            assert len(list((tmp_path / "log").glob("*.segment"))) > 15
            assert descriptors() - before < 12
            # They are read all the same.
            assert sum(1 for _ in store.read(KEY, 0, max_bytes=4 * MIB).records()) >= 30
    assert descriptors() == before
    with opened(tmp_path) as store:
        assert descriptors() - before < 12
        assert store.head(KEY).tail == 60


def test_a_slice_keeps_its_mapping_after_the_store_is_closed(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.perform(Append(KEY, [b"kept"], create=StreamOptions()))
    storage = OsStorage(tmp_path)
    (name,) = (n for n in storage.list_directory("log") if n.endswith(".segment"))
    file = storage.open(f"log/{name}")
    mapping = file.map()
    file.close()
    kept = mapping.view[SEGMENT_HEADER_BYTES:]
    mapping.close()
    del mapping
    assert b"kept" in bytes(kept)
    with pytest.raises(TypeError):
        kept[0] = 1
    empty = storage.open("empty", writable=True, create=True)
    with pytest.raises(ValueError, match="empty"):
        empty.map()
    empty.close()
