"""SQLite FTS5: one table, a transaction per batch of events, ``synchronous=FULL``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench.corpus import HITS, Corpus
from bench.peers.sqlite import connect

_TABLE = "CREATE VIRTUAL TABLE events USING fts5(session, text, content='', tokenize='unicode61')"
_INSERT = "INSERT INTO events (rowid, session, text) VALUES (?, ?, ?)"
_SEARCH = "SELECT rowid FROM events WHERE events MATCH ? ORDER BY rank LIMIT ?"


class Fts5:
    """The session is a column of its own, so that a filter is one more posting list."""

    def __init__(self, directory: Path) -> None:
        self._connection = connect(directory / "fts5.db")
        self._connection.execute(_TABLE)
        self._next = 0

    def index(self, corpus: Corpus) -> None:
        for batch in corpus.batches:
            session = f"s{batch.session}"
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                _INSERT,
                [(batch.first + index, session, text) for index, text in enumerate(batch.texts)],
            )
            self._connection.execute("COMMIT")
        self._next = corpus.events

    def search(self, words: Iterable[str], session: int | None) -> list[int]:
        query = "text : (" + " OR ".join(f'"{word}"' for word in words) + ")"
        if session is not None:
            query += f' AND session : "s{session}"'
        return [row[0] for row in self._connection.execute(_SEARCH, (query, HITS))]

    def add(self, text: str, session: int) -> bool:
        self._connection.execute(_INSERT, (self._next, f"s{session}", text))
        self._next += 1
        return True

    def scoped(self) -> bool:
        return True

    def close(self) -> None:
        self._connection.close()
