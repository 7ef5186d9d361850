"""Scores against an implementation of Lucene's BM25 that is not ours."""

from __future__ import annotations

import random
from pathlib import Path

import bm25s
import pytest

from tailrace.search.analyzer import analyze
from tailrace.search.document import Document
from tailrace.search.index import ScopeItem, SearchIndex
from tailrace.search.query import parse_query
from tailrace.storage import OsStorage
from tests.search.reference import event

WORDS = (
    "the the the agent tool wrote file error signature verification failed retry timeout server "
    "stream offset naïve résumé 日本語 検索 данные write_file fib.txt example.com POL-358 "
    "camelCase 3.14 don't cache segment checkpoint fibonacci numbers"
).split()
QUERIES = [
    "the",
    "signature verification failed",
    "write_file",
    "fib.txt fibonacci",
    "日本",
    "語",
    "RÉSUMÉ данные",
    "POL-358 example.com",
    "error error retry",
    "nothing-like-this",
    "don't",
]


def corpus(seed: int, size: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 60))) for _ in range(size)]


def independent_scores(texts: list[str], query: str) -> list[float]:
    model = bm25s.BM25(method="lucene", k1=1.2, b=0.75, dtype="float64")
    model.index([analyze(text) for text in texts], show_progress=False)
    tokens = [t for t, count in parse_query(query).items() for _ in range(count)]
    known = [token for token in tokens if token in model.vocab_dict]
    if not known:
        return [0.0] * len(texts)
    return [float(score) for score in model.get_scores(known)]


@pytest.fixture(params=["memory", "one part", "parts and memory"])
def indexed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[SearchIndex, list[str]]:
    """300 documents in streams 1 (even ordinals of the corpus) and 2 (odd)."""
    texts = corpus(7, 300)
    index = SearchIndex.open(OsStorage(tmp_path))
    for i, text in enumerate(texts):
        index.add([Document(1 + i % 2, i // 2, i, event(text))], i + 1)
        if request.param == "parts and memory" and i in (50, 51, 200):
            index.flush()
    if request.param == "one part":
        index.flush()
    return index, texts


def check(
    index: SearchIndex, texts: dict[tuple[int, int], str], scope: list[ScopeItem] | None
) -> None:
    keys = list(texts)
    for query in QUERIES:
        expected = independent_scores([texts[key] for key in keys], query)
        found = index.search(query, scope=scope, limit=1000)
        scores = {hit[:2]: hit.score for hit in found.hits}
        assert found.total == len(scores) == sum(score > 0 for score in expected)
        for key, score in zip(keys, expected, strict=True):
            assert scores.get(key, 0.0) == pytest.approx(score, abs=1e-4)
        assert [hit.score for hit in found.hits] == sorted(scores.values(), reverse=True)


def test_scores_are_lucenes(indexed: tuple[SearchIndex, list[str]]) -> None:
    index, texts = indexed
    check(index, {(1 + i % 2, i // 2): text for i, text in enumerate(texts)}, None)


def test_statistics_are_those_of_the_scope(indexed: tuple[SearchIndex, list[str]]) -> None:
    index, texts = indexed
    by_key = {(1 + i % 2, i // 2): text for i, text in enumerate(texts)}
    one = {key: text for key, text in by_key.items() if key[0] == 1}
    check(index, one, [ScopeItem(1)])
    part = {key: text for key, text in one.items() if 20 <= key[1] < 90}
    check(index, part, [ScopeItem(1, 20, 90)])
    forked = {k: t for k, t in by_key.items() if k[1] < 40 or k[0] == 2}
    check(index, forked, [ScopeItem(2), ScopeItem(1, 0, 40)])
