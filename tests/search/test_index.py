"""The index: found at once, filtered, counted, kept, forgotten."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from tailrace.errors import StoreClosed
from tailrace.search.document import Document
from tailrace.search.index import ScopeItem, SearchIndex
from tailrace.storage import OsStorage
from tests.search.reference import ReferenceIndex, assert_same, event


def keys(
    index: SearchIndex, query: str, scope: list[ScopeItem] | None = None
) -> list[tuple[int, int]]:
    return [hit[:2] for hit in index.search(query, scope=scope).hits]


@pytest.fixture
def index(tmp_path: Path) -> SearchIndex:
    return SearchIndex.open(OsStorage(tmp_path))


QUICKSTART = [
    b'{"type":"user.message","content":[{"type":"text","text":"20 fibonacci numbers in fib.txt"}]}',
    b'{"type":"agent.tool_use","name":"write_file","input":{"path":"fib.txt","content":"0,1,34"}}',
]


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_quickstart_is_found(index: SearchIndex, on_disk: bool) -> None:
    index.add([Document(1, i, 1000 + i, body) for i, body in enumerate(QUICKSTART)], 100)
    if on_disk:
        index.flush()
    assert keys(index, "fibonacci") == [(1, 0)]
    assert keys(index, "write_file") == keys(index, "WRITE") == keys(index, "file") == [(1, 1)]
    assert set(keys(index, "fib.txt")) == set(keys(index, "txt")) == {(1, 0), (1, 1)}
    assert keys(index, "34") == [(1, 1)]
    assert index.search("fib", scope=None, types=["agent.tool_use"]).total == 1
    assert index.search("fibonacci", scope=None, types=["agent.tool_use"]).hits == []


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize(
    ("text", "queries"),
    [
        ("ticket POL-358 reopened", ["POL-358", "pol-358", "358", "(POL-358"]),
        ("it is a'b here", ["a'b", "'a'b'", "a’b"]),
        ("see https://example.com/x", ["example.com", "EXAMPLE", '"example.com']),
        ("call apply_secrets()", ["apply_secrets", "secrets", "apply_secrets("]),
        ("error: signature verification failed", ["signature verification failed"]),
        ("日本語のテスト", ["日本語", "本", "テスト", "語の"]),
        ("中文搜索很好", ["搜索", "中", "很好"]),
        ("한국어 검색", ["한국어", "검색", "색"]),
    ],
)
def test_words_are_found(index: SearchIndex, on_disk: bool, text: str, queries: list[str]) -> None:
    index.add([Document(1, 0, 0, event(text)), Document(1, 1, 1, event("something else"))], 10)
    if on_disk:
        index.flush()
    for query in queries:
        assert keys(index, query) == [(1, 0)], query


@pytest.mark.parametrize(
    "query", ["", " ", '"', "'", "\\", "\0", "*:*", "AND OR NOT", "(((", "\ud800"]
)
def test_no_query_is_an_error(index: SearchIndex, query: str) -> None:
    index.add([Document(1, 0, 0, event("plain words"))], 10)
    assert index.search(query, scope=None).hits == []


def test_what_is_not_json_is_a_document_without_text(index: SearchIndex) -> None:
    index.add([Document(1, 0, 0, b"\xff{"), Document(1, 1, 0, event("word"))], 10)
    index.flush()
    assert keys(index, "word") == [(1, 1)]
    assert index.counters()["documents"] == 2


def test_the_type_is_no_text_but_a_filter(index: SearchIndex) -> None:
    index.add([Document(1, 0, 0, event("x", "special")), Document(1, 1, 0, event("x", None))], 10)
    for _ in range(2):
        assert keys(index, "special") == []
        assert index.search("x", scope=None, types=["special"]).total == 1
        assert index.search("x", scope=None, types=["special", "other"]).total == 1
        assert index.search("x", scope=None, types=["other"]).total == 0
        assert index.search("x", scope=None, types=[""]).total == 0
        index.flush()


def test_equal_scores_put_the_newer_first(index: SearchIndex) -> None:
    times = [5, 9, 9, 1]
    index.add([Document(1, i, t, event("same words")) for i, t in enumerate(times[:2])], 10)
    index.flush()
    index.add([Document(2, i, t, event("same words")) for i, t in enumerate(times[2:])], 20)
    assert keys(index, "same") == [(1, 1), (2, 0), (1, 0), (2, 1)]
    assert [h[:2] for h in index.search("same", scope=None, limit=2).hits] == [
        (1, 1),
        (2, 0),
    ]


def test_times_and_limits(index: SearchIndex) -> None:
    index.add([Document(1, i, i * 10, event("word")) for i in range(10)], 10)
    for _ in range(2):
        found = index.search("word", scope=None, created_from_ms=20, created_until_ms=50)
        assert [hit.ordinal for hit in found.hits] == [4, 3, 2]
        assert index.search("word", scope=None, created_from_ms=91).total == 0
        assert index.search("word", scope=None, created_until_ms=0).total == 0
        few = index.search("word", scope=None, limit=3)
        assert (len(few.hits), few.total) == (3, 10)
        none = index.search("word", scope=None, limit=0)
        assert (none.hits, none.total) == ([], 10)
        index.flush()


def test_hits_are_counted_by_stream_over_parts(index: SearchIndex) -> None:
    for position in range(3):
        index.add([Document(s, position, 0, event("word")) for s in (1, 2, 3)], position + 1)
        index.add([Document(4, position, 0, event("other"))], position + 1)
        if position < 2:
            index.flush()
    found = index.search("word", scope=None, limit=1, count_streams=True)
    assert found.per_stream == {1: 3, 2: 3, 3: 3}
    assert index.search("word", scope=None).per_stream == {}
    two = index.search("word", scope=[ScopeItem(2)], count_streams=True)
    assert two.per_stream == {2: 3}


def test_scopes_may_overlap_and_be_empty(index: SearchIndex) -> None:
    index.add([Document(1, i, i, event("word")) for i in range(10)], 10)
    for _ in range(2):
        scope = [ScopeItem(1, 5, 8), ScopeItem(1, 0, 6), ScopeItem(99)]
        assert sorted(h.ordinal for h in index.search("word", scope=scope).hits) == [*range(8)]
        assert index.search("word", scope=[]).total == 0
        assert index.search("word", scope=[ScopeItem(1, 4, 4)]).total == 0
        index.flush()


def test_a_document_is_never_there_twice(index: SearchIndex) -> None:
    documents = [Document(1, i, i, event("word")) for i in range(3)]
    index.add(documents, 10)
    index.add(documents, 10)
    index.flush()
    index.add([*documents, Document(1, 3, 3, event("word"))], 20)
    assert index.search("word", scope=None).total == 4
    index.flush()
    assert index.search("word", scope=None).total == 4


def test_positions_survive_a_restart(tmp_path: Path) -> None:
    storage = OsStorage(tmp_path)
    index = SearchIndex.open(storage)
    assert (index.indexed_position, index.durable_position) == (0, 0)
    index.add([Document(1, 0, 0, event("one"))], 100)
    assert (index.indexed_position, index.durable_position) == (100, 0)
    index.flush()
    assert index.durable_position == 100
    index.add([Document(1, 1, 0, event("two"))], 200)
    index.abandon()

    index = SearchIndex.open(storage)
    assert (index.indexed_position, index.durable_position) == (100, 100)
    assert (keys(index, "one"), keys(index, "two")) == ([(1, 0)], [])
    index.add([Document(1, 1, 0, event("two"))], 200)
    index.add([], 300)
    index.close()
    index.close()

    index = SearchIndex.open(storage)
    assert index.indexed_position == 300
    assert keys(index, "two") == [(1, 1)]


def test_a_closed_index_says_so(index: SearchIndex) -> None:
    index.close()
    with pytest.raises(StoreClosed):
        index.search("x", scope=None)
    with pytest.raises(StoreClosed):
        index.add([], 1)
    with pytest.raises(StoreClosed):
        index.flush()
    assert not index.merge_if_needed()


def test_memory_is_flushed_when_it_is_full(tmp_path: Path) -> None:
    index = SearchIndex.open(OsStorage(tmp_path), flush_documents=10)
    for i in range(35):
        index.add([Document(1, i, i, event("word"))], i + 1)
    counters = index.counters()
    assert (counters["parts"], counters["memory_documents"]) == (3, 5)
    assert index.search("word", scope=None).total == 35
    assert not index.flush_if_needed()


@pytest.mark.parametrize("flushed", [False, True])
def test_removed_streams_are_gone_for_good(tmp_path: Path, flushed: bool) -> None:
    storage = OsStorage(tmp_path)
    index = SearchIndex.open(storage)
    expected = ReferenceIndex()
    kept = [Document(2, i, i, event("word kept")) for i in range(5)]
    index.add([Document(1, i, i, event("word gone longer text")) for i in range(5)] + kept, 10)
    expected.add(kept)
    if flushed:
        index.flush()
    index.remove_stream(1)
    for _ in range(2):
        assert_same(index.search("word", scope=None), expected.search("word"))
        assert keys(index, "gone") == keys(index, "word", [ScopeItem(1)]) == []
        index.close()
        index = SearchIndex.open(storage)
    while index.merge_if_needed():
        pass
    assert index.counters()["documents"] == 5
    assert_same(index.search("word", scope=None), expected.search("word"))


@pytest.mark.parametrize("flushed", [False, True])
def test_truncated_streams_lose_their_beginning(tmp_path: Path, flushed: bool) -> None:
    storage = OsStorage(tmp_path)
    index = SearchIndex.open(storage)
    expected = ReferenceIndex()
    documents = [Document(s, i, i, event("word " * (i + 1))) for s in (1, 2) for i in range(9)]
    index.add(documents, 10)
    expected.add(documents)
    if flushed:
        index.flush()
    index.truncate_stream(1, 6)
    index.truncate_stream(1, 3)
    expected.truncate(1, 6)
    for _ in range(2):
        assert_same(index.search("word", scope=None), expected.search("word"))
        for scope in ([ScopeItem(1)], [ScopeItem(1, 2, 8), ScopeItem(2, 0, 2)]):
            assert_same(index.search("word", scope=scope), expected.search("word", scope=scope))
        index.close()
        index = SearchIndex.open(storage)


def test_only_retained_streams_are_kept(index: SearchIndex) -> None:
    for stream in range(1, 5):
        index.add([Document(stream, 0, 0, event("word"))], stream)
        if stream == 2:
            index.flush()
    index.retain_streams({2, 3})
    assert sorted(keys(index, "word")) == [(2, 0), (3, 0)]


def test_strangers_in_the_directory_are_removed(tmp_path: Path) -> None:
    storage = OsStorage(tmp_path)
    index = SearchIndex.open(storage)
    index.add([Document(1, 0, 0, event("word"))], 1)
    index.close()
    for name in ("00000000000000ff.part", "MANIFEST.tmp"):
        (tmp_path / "search" / name).write_bytes(b"half")
    index = SearchIndex.open(storage)
    assert keys(index, "word") == [(1, 0)]
    assert sorted(p.name for p in (tmp_path / "search").iterdir()) == [
        "0000000000000001.part",
        "MANIFEST",
    ]


def test_searches_see_each_add_whole_while_all_else_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.search.merge.PARTS_PER_TIER", 2)
    index = SearchIndex.open(OsStorage(tmp_path), flush_documents=200)
    done = threading.Event()
    problems: list[str] = []

    def look() -> None:
        last = 0
        while not done.is_set():
            scope = random.choice([None, [ScopeItem(1), ScopeItem(2), ScopeItem(3)]])
            total = index.search("word", scope=scope).total
            if total % 7 or total < last:
                problems.append(f"{last} then {total}")
            last = total

    def merge() -> None:
        while not done.is_set():
            index.merge_if_needed()

    threads = [threading.Thread(target=look) for _ in range(2)]
    threads.append(threading.Thread(target=merge))
    for thread in threads:
        thread.start()
    for i in range(300):
        stream = 1 + i % 3
        index.add([Document(stream, i * 7 + j, i, event(f"word n{j}")) for j in range(7)], i + 1)
    done.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert index.search("word", scope=None).total == 2100
    index.close()
