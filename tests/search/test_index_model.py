"""The index against a model that looks at every document, through any history."""

from __future__ import annotations

import shutil
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tailrace.search.document import Document
from tailrace.search.index import ScopeItem, SearchIndex
from tailrace.storage import OsStorage
from tests.search.reference import ReferenceIndex, assert_same, event

WORDS = ["alpha", "beta", "gamma", "write_file", "fib.txt", "日本", "naïve", "z"]
STREAMS = st.integers(1, 6)
TEXTS = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
TYPES = st.sampled_from(["user", "agent", None])
SCOPES = st.none() | st.lists(
    st.builds(
        lambda s, a, n: ScopeItem(s, a, a + n), STREAMS, st.integers(0, 10), st.integers(0, 40)
    ),
    max_size=5,
)


class IndexMachine(RuleBasedStateMachine):
    """``log`` is what a caller would walk again after a crash."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("tailrace.search.merge.PARTS_PER_TIER", 2)
        self.directory = tempfile.mkdtemp()
        self.storage = OsStorage(self.directory)
        self.index = SearchIndex.open(self.storage, flush_documents=12)
        self.model = ReferenceIndex()
        self.log: list[tuple[int, list[Document]]] = []
        self.position = 0
        self.next: dict[int, int] = {}
        self.gone: set[int] = set()
        self.starts: dict[int, int] = {}
        self.clock = 0

    def teardown(self) -> None:
        self.index.close()
        self.patch.undo()
        shutil.rmtree(self.directory)

    @rule(
        events=st.lists(st.tuples(STREAMS, TEXTS, TYPES, st.integers(0, 2)), max_size=12),
        skip=st.integers(0, 2),
    )
    def add(self, events: list[tuple[int, str, str | None, int]], skip: int) -> None:
        documents = []
        for stream, text, kind, later in events:
            if stream in self.gone:
                continue
            ordinal = self.next.get(stream, 0) + skip
            self.next[stream] = ordinal + 1
            self.clock += later
            documents.append(Document(stream, ordinal, self.clock, event(text, kind)))
        self.position += 10
        self.log.append((self.position, documents))
        self.index.add(documents, self.position)
        self.model.add(documents)

    @rule()
    def flush(self) -> None:
        self.index.flush()
        assert self.index.durable_position == self.position

    @rule()
    def merge(self) -> None:
        self.index.merge_if_needed()

    @rule()
    def reopen(self) -> None:
        self.index.close()
        self.index = SearchIndex.open(self.storage, flush_documents=12)
        assert self.index.indexed_position == self.position

    @rule()
    def crash(self) -> None:
        durable = self.index.durable_position
        self.index.abandon()
        self.index = SearchIndex.open(self.storage, flush_documents=12)
        assert self.index.indexed_position == durable
        self.index.retain_streams(set(self.next) - self.gone)
        for stream, start in self.starts.items():
            if stream not in self.gone:
                self.index.truncate_stream(stream, start)
        for position, documents in self.log:
            if position > durable:
                live = [d for d in documents if d.stream_id not in self.gone]
                self.index.add(live, position)

    @rule(stream=STREAMS)
    def remove(self, stream: int) -> None:
        self.index.remove_stream(stream)
        self.gone.add(stream)
        self.model.truncate(stream, 1 << 60)

    @rule(stream=STREAMS, share=st.floats(0, 1))
    def truncate(self, stream: int, share: float) -> None:
        start = int(self.next.get(stream, 0) * share)
        if stream not in self.gone:
            self.starts[stream] = max(start, self.starts.get(stream, 0))
        self.index.truncate_stream(stream, start)
        self.model.truncate(stream, start)

    @rule(
        query=st.lists(st.sampled_from([*WORDS, "日", "write", "fib", "no"]), max_size=4).map(
            " ".join
        ),
        scope=SCOPES,
        types=st.sets(st.sampled_from(["user", "agent", "none"])),
        limit=st.integers(0, 30),
        times=st.none() | st.tuples(st.integers(0, 40), st.integers(0, 40)),
    )
    def search(
        self,
        query: str,
        scope: list[ScopeItem] | None,
        types: set[str],
        limit: int,
        times: tuple[int, int] | None,
    ) -> None:
        first, until = times or (None, None)
        found = self.index.search(
            query,
            scope=scope,
            types=types,
            limit=limit,
            created_from_ms=first,
            created_until_ms=until,
            count_streams=True,
        )
        expected = self.model.search(
            query,
            scope=scope,
            types=types,
            limit=limit,
            created_from_ms=first,
            created_until_ms=until,
        )
        assert_same(found, expected)
        assert found.per_stream == expected.per_stream

    @invariant()
    def everything_is_found(self) -> None:
        query = " ".join(WORDS)
        assert_same(
            self.index.search(query, scope=None, limit=1000), self.model.search(query, limit=1000)
        )

    @precondition(lambda self: self.gone)
    @invariant()
    def what_is_gone_is_not_found(self) -> None:
        scope = [ScopeItem(stream) for stream in self.gone]
        assert self.index.search("alpha beta", scope=scope).total == 0


TestIndexMachine = IndexMachine.TestCase
IndexMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
