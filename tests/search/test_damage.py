"""Whatever happens to the files, an answer is never wrong: the index is made again."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import fuzz_search_part
from tailrace.search.document import Document
from tailrace.search.hits import scope_columns
from tailrace.search.index import ScopeItem, SearchIndex
from tailrace.search.native_score import (
    NO_TIME_FROM,
    NO_TIME_UNTIL,
    DamagedPart,
    InvalidPart,
    NativeMemory,
    NativePart,
    Query,
    Scratch,
    Source,
    encode_bitmap,
    search,
)
from tailrace.storage import OsStorage, Storage
from tests.engine.faulty_storage import DROPPED, KEPT, Crash, Fault, FaultyStorage
from tests.search.reference import ReferenceIndex, assert_same, event

# (log position behind it, documents): what a caller walks again.
LOG = [
    (
        10 * (i + 1),
        [Document(s, i, i, event(f"word w{i} " * (1 + i % 3), "ab"[i % 2])) for s in (1, 2)],
    )
    for i in range(9)
]
QUERIES = ["word", "w0 w4", "w8", "absent"]


def expected() -> ReferenceIndex:
    model = ReferenceIndex()
    for _, documents in LOG:
        model.add(documents)
    return model


def fill(index: SearchIndex, end: int = len(LOG)) -> None:
    """Add what the index does not claim to have."""
    for position, documents in LOG[:end]:
        if position > index.indexed_position:
            index.add(documents, position)


def check(index: SearchIndex, model: ReferenceIndex) -> None:
    for query in QUERIES:
        assert_same(index.search(query, scope=None), model.search(query))
        scope = [ScopeItem(2, 1, 7)]
        assert_same(
            index.search(query, scope=scope, types=["a"]),
            model.search(query, scope=scope, types=["a"]),
        )


def write_parts(storage: Storage) -> None:
    """Three parts and a manifest with something removed."""
    index = SearchIndex.open(storage)
    index.add([Document(9, 0, 0, event("word gone"))], 5)
    for end in (3, 6, 9):
        fill(index, end)
        index.remove_stream(9)
        index.flush()
    index.close()


def storage_with(files: dict[str, bytes]) -> FaultyStorage:
    storage = FaultyStorage()
    storage.make_directory("search")
    for name, content in files.items():
        file = storage.open(name, writable=True, create=True)
        if content:
            file.pwrite(content, 0)
        file.close()
    return storage


def damages(content: bytes) -> Iterator[bytes]:
    for i in range(len(content)):
        flipped = bytearray(content)
        flipped[i] ^= 1 << i % 8
        yield bytes(flipped)
    for length in range(0, len(content), 7):
        yield content[:length]
    yield content + b"\0"


def test_every_flipped_byte_and_every_truncation() -> None:
    whole = FaultyStorage()
    write_parts(whole)
    files = {f"search/{name}": b"" for name in whole.list_directory("search")}
    files = {name: bytes(whole.content(name)) for name in files}
    model = expected()
    starts: dict[str, set[int]] = {}
    for name in files:
        for content in damages(files[name]):
            index = SearchIndex.open(storage_with(files | {name: content}))
            index.retain_streams({1, 2})
            position = index.indexed_position
            assert position < LOG[-1][0], f"{name} is damaged and the index does not know"
            starts.setdefault(name, set()).add(position)
            # What is left is right, and the rest can be added again.
            left = ReferenceIndex()
            for end, documents in LOG:
                if end <= position:
                    left.add(documents)
            assert_same(index.search("word", scope=None), left.search("word"))
            fill(index)
            assert_same(index.search("word w4", scope=None), model.search("word w4"))
            index.abandon()
    # A damaged part costs itself and what follows, not what stands before it.
    assert list(starts.values()) == [{0}, {30}, {60}, {0}]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_missing_part(tmp_path: Path, lost: int) -> None:
    storage = OsStorage(tmp_path)
    write_parts(storage)
    (tmp_path / "search" / f"{lost + 1:016x}.part").unlink()
    index = SearchIndex.open(storage)
    assert index.indexed_position == 30 * lost
    fill(index)
    index.close()
    index = SearchIndex.open(storage)
    index.retain_streams({1, 2})
    check(index, expected())


def test_a_part_of_another_index_is_not_taken(tmp_path: Path) -> None:
    storage = OsStorage(tmp_path)
    write_parts(storage)
    directory = tmp_path / "search"
    first, second = sorted(directory.glob("*.part"))[:2]
    second.write_bytes(first.read_bytes())
    assert SearchIndex.open(storage).indexed_position == 30


def test_another_analyzer_makes_the_index_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = OsStorage(tmp_path)
    write_parts(storage)
    monkeypatch.setattr("tailrace.search.part_list.ANALYZER_VERSION", 2)
    monkeypatch.setattr("tailrace.search.part.ANALYZER_VERSION", 2)
    assert SearchIndex.open(storage).indexed_position == 0


# ---- crashes and failing disks


def workload(storage: Storage, reached: list[int]) -> None:
    """Everything that writes. ``reached`` gets the positions that were durable on return."""
    index = SearchIndex.open(storage)
    fill(index, 2)
    index.flush()
    reached.append(index.durable_position)
    fill(index, 4)
    index.flush()
    reached.append(index.durable_position)
    fill(index, 6)
    index.flush()
    reached.append(index.durable_position)
    index.merge_if_needed()
    fill(index, 8)
    index.close()
    reached.append(80)


@pytest.fixture
def eager_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.search.merge.PARTS_PER_TIER", 3)


@pytest.mark.usefixtures("eager_merges")
def test_every_crash_point() -> None:
    whole = FaultyStorage()
    workload(whole, [])
    model = expected()
    assert whole.steps > 40
    for crash_at in range(1, whole.steps + 1):
        for mode in (DROPPED, KEPT, 1, 2, 3):
            storage = FaultyStorage()
            storage.crash_at = crash_at
            reached = [0]
            with pytest.raises(Crash):
                workload(storage, reached)
            image = storage.image(mode)
            for _ in range(2):  # a crash right after recovery changes nothing
                index = SearchIndex.open(image)
                assert index.indexed_position >= reached[-1]
                left = ReferenceIndex()
                for end, documents in LOG:
                    if end <= index.indexed_position:
                        left.add(documents)
                check(index, left)
                index.abandon()
            index = SearchIndex.open(image)
            fill(index)
            check(index, model)
            index.close()


@pytest.mark.usefixtures("eager_merges")
@pytest.mark.parametrize("kind", ["write", "sync", "create", "rename", "unlink", "sync_directory"])
def test_every_failing_call(kind: str) -> None:
    model = expected()
    for after in range(100):
        storage = FaultyStorage()
        index = SearchIndex.open(storage)
        fault = Fault(kind, errno.ENOSPC, after=after)
        storage.faults.append(fault)
        for end in (2, 4, 6, 8, 9):
            fill(index, end)
            for act in (index.flush, index.merge_if_needed):
                try:
                    act()
                except OSError:
                    act()  # once the disk has room again
        check(index, model)
        index.close()
        again = SearchIndex.open(storage)
        # A manifest that was renamed but whose directory did not sync may name less.
        fill(again)
        check(again, model)
        again.abandon()
        if not fault.hits:
            assert after > 0
            return
    pytest.fail("the workload never ends")


def test_memory_that_runs_out_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The C helper gives up in the middle of a call: what was added before stays hidden."""
    index = SearchIndex.open(OsStorage(tmp_path))
    fill(index, 3)
    real = NativeMemory.add

    def short(
        self: NativeMemory, older: list[NativePart], table: bytes, count: int, content: bytes
    ) -> int:
        return real(self, older, table, count, content[:-1])

    with monkeypatch.context() as patch:
        patch.setattr(NativeMemory, "add", short)
        with pytest.raises(MemoryError):
            index.add(LOG[3][1], LOG[3][0])
    assert index.indexed_position == 30
    assert index.search("word", scope=None).total == 6
    fill(index)
    check(index, expected())
    index.flush()
    check(index, expected())


# ---- bytes that no writer would write, with every checksum right


def test_a_bitmap_that_holds_more_than_it_says_is_damage() -> None:
    """A document's rank is its place among the frequencies: those before the scope count, too."""
    base, streams = fuzz_search_part.BASE, fuzz_search_part.STREAMS
    each = fuzz_search_part.DOCUMENTS // streams
    bits = encode_bitmap([i for i in range(each * streams) if (i % each * streams + i // each) % 2])
    assert len(bits) == 16 + 8192
    start = base.index(bits) + 16
    before_scope = each * (streams - 1) // 8
    raw = bytearray(base)
    raw[start : start + before_scope] = b"\xff" * before_scope
    fuzz_search_part.seal(raw)
    part = NativePart(bytes(raw))
    scope = scope_columns([ScopeItem(streams)])
    query = Query([b"second"], [1.0], scope, [], 50, NO_TIME_FROM, NO_TIME_UNTIL, False, 1.2, 0.75)
    with pytest.raises(DamagedPart):
        search([Source(part, None, part.documents, None)], query, Scratch())


def test_the_part_the_fuzzer_starts_from_is_valid() -> None:
    assert NativePart(fuzz_search_part.BASE).documents == fuzz_search_part.DOCUMENTS


@settings(max_examples=500)
@given(st.binary(max_size=64))
def test_any_edit_of_a_part_is_refused_or_harmless(edits: bytes) -> None:
    fuzz_search_part.TestOneInput(edits)


@given(st.binary(max_size=400))
def test_bytes_that_are_no_part_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidPart):
        NativePart(data)
