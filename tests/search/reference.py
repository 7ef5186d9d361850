"""Search as it should be, in plain Python: every document is looked at for every query."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from tailrace.limits import ORDINAL_MAX
from tailrace.search import bm25
from tailrace.search.analyzer import analyze
from tailrace.search.document import Document, values_and_type
from tailrace.search.index import ScopeItem, ScoredDocument, SearchHits
from tailrace.search.query import parse_query


class Entry(NamedTuple):
    created_at_ms: int
    terms: Counter[str]
    type: str | None

    @property
    def length(self) -> int:
        return self.terms.total()


def event(text: str, kind: str | None = "message") -> bytes:
    """An event that holds ``text``."""
    fields: dict[str, object] = {"id": "evt_1", "offset": "00000000", "text": text}
    if kind is not None:
        fields["type"] = kind
    return json.dumps(fields).encode()


def entry_of(document: Document) -> Entry:
    values, kind = values_and_type(document.body)
    terms = Counter(term for value in values for term in analyze(value))
    return Entry(document.created_at_ms, terms, kind)


def idf(documents: int, frequency: int) -> float:
    """How much a term says that ``frequency`` of ``documents`` hold."""
    return math.log(1 + (documents - frequency + 0.5) / (frequency + 0.5))


def term_score(idf_value: float, frequency: int, length: int, average_length: float) -> float:
    """What a term that stands ``frequency`` times in a document of ``length`` terms adds."""
    norm = bm25.K1 * (1 - bm25.B) + bm25.K1 * bm25.B / average_length * length
    return idf_value * (frequency / (frequency + norm))


class ReferenceIndex:
    """What a :class:`tailrace.search.index.SearchIndex` must agree with."""

    def __init__(self) -> None:
        self.entries: dict[tuple[int, int], Entry] = {}

    def add(self, documents: Collection[Document]) -> None:
        for document in documents:
            self.entries[document.stream_id, document.ordinal] = entry_of(document)

    def truncate(self, stream_id: int, start: int) -> None:
        for key in [k for k in self.entries if k[0] == stream_id and k[1] < start]:
            del self.entries[key]

    def search(
        self,
        query: str,
        *,
        scope: Sequence[ScopeItem] | None = None,
        types: Collection[str] = (),
        limit: int = 20,
        created_from_ms: int | None = None,
        created_until_ms: int | None = None,
    ) -> SearchHits:
        items = [ScopeItem(i, 0, ORDINAL_MAX) for i in {k[0] for k in self.entries}]
        items = items if scope is None else list(scope)
        inside = {
            key: entry
            for key, entry in self.entries.items()
            if any(
                i.stream_id == key[0] and i.start_ordinal <= key[1] < i.stop_ordinal for i in items
            )
        }
        terms = parse_query(query)
        total_length = sum(entry.length for entry in inside.values())
        if not terms or not total_length:
            return SearchHits([], 0, {})
        average = total_length / len(inside)
        weights = {}
        for term, count in terms.items():
            frequency = sum(term in entry.terms for entry in inside.values())
            weights[term] = idf(len(inside), frequency) * count
        found = []
        for (stream_id, ordinal), entry in inside.items():
            if types and entry.type not in types:
                continue
            if created_from_ms is not None and entry.created_at_ms < created_from_ms:
                continue
            if created_until_ms is not None and entry.created_at_ms >= created_until_ms:
                continue
            present = [term for term in terms if term in entry.terms]
            if not present:
                continue
            score = 0.0
            for term in present:
                score += term_score(weights[term], entry.terms[term], entry.length, average)
            found.append((score, entry.created_at_ms, ordinal, stream_id))
        found.sort(reverse=True)
        hits = [ScoredDocument(stream, ordinal, score) for score, _, ordinal, stream in found]
        per_stream = Counter(hit.stream_id for hit in hits)
        return SearchHits(hits[:limit], len(found), dict(per_stream))


def assert_same(found: SearchHits, expected: SearchHits) -> None:
    """Same documents in the same order, scores equal but for the last digits."""
    assert [hit[:2] for hit in found.hits] == [hit[:2] for hit in expected.hits]
    for hit, wanted in zip(found.hits, expected.hits, strict=True):
        assert abs(hit.score - wanted.score) <= 1e-12 * wanted.score
    assert found.total == expected.total
