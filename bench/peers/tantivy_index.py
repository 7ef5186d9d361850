"""tantivy: one writer thread, one commit at the end of the indexing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import tantivy

from bench.corpus import HITS, Corpus

_HEAP_BYTES = 128 * 1024 * 1024


class TantivyIndex:
    """Text is indexed, not stored; the event's number is stored."""

    def __init__(self, directory: Path) -> None:
        builder = tantivy.SchemaBuilder()
        builder.add_unsigned_field("number", stored=True, indexed=False, fast=True)
        builder.add_text_field("session", tokenizer_name="raw", index_option="basic")
        builder.add_text_field("text", tokenizer_name="default", index_option="freq")
        self._schema = builder.build()
        path = directory / "tantivy"
        path.mkdir()
        self._index = tantivy.Index(self._schema, path=str(path))
        self._writer = self._index.writer(heap_size=_HEAP_BYTES, num_threads=1)
        self._searcher = self._index.searcher()
        self._next = 0

    def _put(self, number: int, session: int, text: str) -> None:
        document = tantivy.Document()
        document.add_unsigned("number", number)
        document.add_text("session", f"s{session}")
        document.add_text("text", text)
        self._writer.add_document(document)

    def _commit(self) -> None:
        self._writer.commit()
        self._index.reload()
        self._searcher = self._index.searcher()

    def index(self, corpus: Corpus) -> None:
        for batch in corpus.batches:
            for index, text in enumerate(batch.texts):
                self._put(batch.first + index, batch.session, text)
        self._commit()
        self._next = corpus.events

    def search(self, words: Iterable[str], session: int | None) -> list[int]:
        def term(field: str, value: str) -> tantivy.Query:
            return tantivy.Query.term_query(self._schema, field, value)

        query = tantivy.Query.boolean_query(
            [(tantivy.Occur.Should, term("text", word)) for word in words]
        )
        if session is not None:
            only = tantivy.Query.const_score_query(term("session", f"s{session}"), 0.0)
            query = tantivy.Query.boolean_query(
                [(tantivy.Occur.Must, query), (tantivy.Occur.Must, only)]
            )
        hits = self._searcher.search(query, limit=HITS, count=False).hits
        return [int(self._searcher.doc(address)["number"][0]) for _, address in hits]

    def add(self, text: str, session: int) -> bool:
        self._put(self._next, session, text)
        self._next += 1
        self._commit()
        return True

    def scoped(self) -> bool:
        return True

    def close(self) -> None:
        self._writer.wait_merging_threads()
