"""bm25s: all scores computed when the index is built; it has no filter and cannot grow."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import bm25s

from bench.corpus import HITS, Corpus


class Bm25sIndex:
    """Lucene's formula, k1 1.2, b 0.75: the same as tailrace's."""

    def __init__(self, _: Path) -> None:
        self._index = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
        self._events = 0

    def index(self, corpus: Corpus) -> None:
        texts = [text for batch in corpus.batches for text in batch.texts]
        tokens = bm25s.tokenize(texts, stopwords=None, show_progress=False)
        self._index.index(tokens, show_progress=False)
        self._events = len(texts)

    def search(self, words: Iterable[str], session: int | None) -> list[int]:
        assert session is None
        numbers, scores = self._index.retrieve(
            [list(words)], k=min(HITS, self._events), show_progress=False, n_threads=0
        )
        return [
            int(number) for number, score in zip(numbers[0], scores[0], strict=True) if score > 0
        ]

    def add(self, text: str, session: int) -> bool:
        return False

    def scoped(self) -> bool:
        return False

    def close(self) -> None:
        return
