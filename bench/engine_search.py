"""The engine's side of ``search``: durable appends to searchable streams, then queries."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import tailrace
from bench.corpus import HITS, Corpus
from bench.engine_append import wait_until_indexed
from bench.events import stream_name
from tailrace.operation import StreamKey

_BUCKET: Final = "bench"


def _event(text: str) -> bytes:
    """An event with nothing to search but ``text``, and its type."""
    return json.dumps({"type": "note", "text": text}, separators=(",", ":")).encode("utf-8")


class Engine:
    """Unlike its peers it stores the events as well, durably, before it indexes them."""

    def __init__(self, directory: Path) -> None:
        self._store = tailrace.open(directory / "tailrace")
        self._store.create_bucket(_BUCKET)
        self._keys: list[StreamKey] = []
        self._numbers: dict[StreamKey, list[int]] = {}
        self._next = 0

    def index(self, corpus: Corpus) -> None:
        for session in range(corpus.sessions):
            key = StreamKey(_BUCKET, stream_name(session))
            self._store.create(key, content_type="application/json", searchable=True)
            self._keys.append(key)
            self._numbers[key] = []
        for batch in corpus.batches:
            key = self._keys[batch.session]
            self._store.append(key, [_event(text) for text in batch.texts])
            self._numbers[key] += range(batch.first, batch.first + len(batch.texts))
        wait_until_indexed(self._store)
        self._next = corpus.events

    def search(self, words: Iterable[str], session: int | None) -> list[int]:
        keys = None if session is None else [self._keys[session]]
        bucket = _BUCKET if session is None else None
        result = self._store.search(" ".join(words), keys, bucket=bucket, limit=HITS)
        return [self._numbers[hit.key][hit.ordinal] for hit in result.hits]

    def add(self, text: str, session: int) -> bool:
        key = self._keys[session]
        self._store.append(key, [_event(text)])
        self._numbers[key].append(self._next)
        self._next += 1
        return True

    def scoped(self) -> bool:
        return True

    def close(self) -> None:
        self._store.close()
