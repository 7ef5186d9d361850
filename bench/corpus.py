"""The documents and queries of ``search``: Zipf-distributed words in many sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bench.events import Vocabulary

WORDS_PER_EVENT: Final = 34
WORDS_PER_QUERY: Final = 3
VOCABULARY_WORDS: Final = 50_000
BATCH_EVENTS: Final = 100
HITS: Final = 20


@dataclass(frozen=True, slots=True)
class Query:
    """Words that stand together in some event, and the session of that event."""

    words: tuple[str, ...]
    session: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that one session gets at once; ``first`` is the number of the first of them."""

    session: int
    first: int
    texts: list[str]


@dataclass(frozen=True, slots=True)
class Corpus:
    """``batches`` in the order in which they arrive; events are numbered in that order."""

    events: int
    sessions: int
    batches: list[Batch]
    queries: list[Query]

    def session_of(self, event: int) -> int:
        return self.batches[event // BATCH_EVENTS].session


def make_corpus(events: int, sessions: int, queries: int, seed: int = 7) -> Corpus:
    """Events of :data:`WORDS_PER_EVENT` words, dealt to the sessions a batch at a time."""
    vocabulary = Vocabulary(VOCABULARY_WORDS, seed)
    batches: list[Batch] = []
    for first in range(0, events, BATCH_EVENTS):
        count = min(BATCH_EVENTS, events - first)
        words = vocabulary.draw(count * WORDS_PER_EVENT)
        texts = [
            " ".join(words[start : start + WORDS_PER_EVENT])
            for start in range(0, len(words), WORDS_PER_EVENT)
        ]
        batches.append(Batch(len(batches) % sessions, first, texts))
    chosen: list[Query] = []
    for _ in range(queries):
        batch = batches[vocabulary.below(len(batches))]
        text = batch.texts[vocabulary.below(len(batch.texts))]
        words = vocabulary.choose(text.split(), WORDS_PER_QUERY)
        chosen.append(Query(tuple(words), batch.session))
    return Corpus(events, sessions, batches, chosen)


def marker(number: int) -> str:
    """A word that stands in no document, for timing when a new one can be found."""
    return f"zqmarker{number}"
