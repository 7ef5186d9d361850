"""A part of several windows of 65,536 documents, with every kind of container."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tailrace.search.document import Document
from tailrace.search.index import ScopeItem, SearchIndex
from tailrace.storage import OsStorage
from tests.search.reference import idf, term_score

SIZE = 140_000
# Every document holds "every" (runs), every second one "second" (bitmaps), every thirtieth
# "thirtieth" (arrays); every thousandth repeats "often" up to 300 times.


def terms_of(i: int) -> dict[str, int]:
    terms = {"every": 1}
    if i % 2 == 0:
        terms["second"] = 1
    if i % 30 == 0:
        terms["thirtieth"] = 1 + i % 3
    if i % 1000 == 0:
        terms["often"] = 250 + i // 1000 % 50
    return terms


def body_of(i: int) -> bytes:
    text = " ".join(term for term, count in terms_of(i).items() for _ in range(count))
    return b'{"type":"t%d","text":"%s"}' % (i % 3, text.encode())


@pytest.fixture(scope="module", params=["disk", "merged", "memory"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SearchIndex:
    """Stream 1 has the documents below 100,000, stream 2 the rest."""
    directory: Path = tmp_path_factory.mktemp("large")
    made = SearchIndex.open(OsStorage(directory), flush_documents=10**9, flush_bytes=10**9)
    for start in range(0, SIZE, 10_000):
        documents = [
            Document(1 if i < 100_000 else 2, i, i, body_of(i))
            for i in range(start, start + 10_000)
        ]
        made.add(documents, start + 10_000)
        if request.param == "merged" and start % 20_000 == 0:
            made.flush()
    if request.param != "memory":
        made.flush()
    while made.merge_if_needed():
        pass
    return made


SCOPES = [
    ([ScopeItem(1), ScopeItem(2)], [(0, SIZE)]),
    ([ScopeItem(1)], [(0, 100_000)]),
    ([ScopeItem(2)], [(100_000, SIZE)]),
    ([ScopeItem(1, 70_001, 70_100)], [(70_001, 70_100)]),
    ([ScopeItem(1, 65_530, 65_545)], [(65_530, 65_545)]),
    (
        [ScopeItem(1, 10, 1000), ScopeItem(1, 60_000, 70_000), ScopeItem(2, 130_001, 131_100)],
        [(10, 1000), (60_000, 70_000), (130_001, 131_100)],
    ),
]
QUERIES = ["every", "second", "thirtieth", "often", "second thirtieth often", "often every every"]


HITS = 50


class Expected(NamedTuple):
    total: int
    hits: list[tuple[float, int]]
    per_stream: Counter[int]


@functools.cache
def expected_of(ranges: tuple[tuple[int, int], ...], types: tuple[str, ...]) -> dict[str, Expected]:
    """What each query has to find, counted document by document; whatever the index is made of."""
    documents = {i: terms_of(i) for first, end in ranges for i in range(first, end)}
    lengths = {i: sum(terms.values()) for i, terms in documents.items()}
    average = sum(lengths.values()) / len(documents)
    answers = {}
    for query in QUERIES:
        weights = {}
        for word in dict.fromkeys(query.split()):
            frequency = sum(word in terms for terms in documents.values())
            weights[word] = idf(len(documents), frequency) * query.split().count(word)
        found = []
        for i, terms in documents.items():
            present = [word for word in weights if word in terms]
            if present and (not types or f"t{i % 3}" in types):
                score = 0.0
                for word in present:
                    score += term_score(weights[word], terms[word], lengths[i], average)
                found.append((score, i))
        found.sort(reverse=True)
        per_stream = Counter(1 if i < 100_000 else 2 for _, i in found)
        answers[query] = Expected(len(found), found[:HITS], per_stream)
    return answers


@pytest.mark.parametrize(("scope", "ranges"), SCOPES)
@pytest.mark.parametrize("types", [[], ["t1"], ["t0", "t2"]])
def test_scores(
    index: SearchIndex, scope: list[ScopeItem], ranges: list[tuple[int, int]], types: list[str]
) -> None:
    for query, expected in expected_of(tuple(ranges), tuple(types)).items():
        found = index.search(query, scope=scope, types=types, limit=HITS, count_streams=True)
        assert found.total == expected.total
        assert [hit.ordinal for hit in found.hits] == [i for _, i in expected.hits]
        assert [hit.score for hit in found.hits] == pytest.approx(
            [score for score, _ in expected.hits], rel=1e-12
        )
        assert found.per_stream == expected.per_stream


def test_everything_is_the_scope_of_all_streams(index: SearchIndex) -> None:
    for query in QUERIES:
        named = index.search(query, scope=[ScopeItem(2), ScopeItem(1)], limit=100)
        assert index.search(query, scope=None, limit=100) == named
