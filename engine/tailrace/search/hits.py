"""What a search is asked for and what it gives, as values. The best hits are picked in C."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from tailrace.limits import ORDINAL_MAX


class ScopeItem(NamedTuple):
    """Records of one stream: ordinals from ``start_ordinal`` to ``stop_ordinal``, exclusive."""

    stream_id: int
    start_ordinal: int = 0
    stop_ordinal: int = ORDINAL_MAX


class ScoredDocument(NamedTuple):
    """A hit. ``stream_id`` is the stream the record was indexed under."""

    stream_id: int
    ordinal: int
    score: float


class SearchHits(NamedTuple):
    """``hits``, best first; ``total`` matches; matches by stream, if they were asked for."""

    hits: list[ScoredDocument]
    total: int
    per_stream: dict[int, int]


def scope_columns(scope: Sequence[ScopeItem]) -> tuple[array[int], array[int], array[int]]:
    """Stream ids, starts and stops, sorted by stream, then start.

    Items of one stream may overlap: a record counts once.
    """
    if not scope:
        return array("Q"), array("Q"), array("Q")
    ids, starts, stops = zip(*sorted(scope, key=itemgetter(0, 1)), strict=True)
    return array("Q", ids), array("Q", starts), array("Q", stops)
