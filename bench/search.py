"""``search``: indexing and querying many sessions, beside other search engines."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Final

from bench.conditions import conditions, warnings
from bench.corpus import BATCH_EVENTS, WORDS_PER_EVENT, WORDS_PER_QUERY, Corpus, make_corpus
from bench.engine_search import Engine
from bench.measure import Case
from bench.optional import Missing, load
from bench.report import Report
from bench.run import Options, add_options, run_cases
from bench.search_system import Found, Maker, agreement, measure_search
from bench.systems import BM25S, FTS5, TAILRACE, TANTIVY

SUMMARY: Final = "index and query speed, beside SQLite FTS5, tantivy and bm25s"

EVENTS: Final = 300_000
SESSIONS: Final = 1000
QUERIES: Final = 300

_PEERS: Final = (
    (FTS5, "fts5", "Fts5"),
    (TANTIVY, "tantivy_index", "TantivyIndex"),
    (BM25S, "bm25s_index", "Bm25sIndex"),
)

_COLUMNS: Final = {
    "all_p50_ms": "all p50 ms",
    "all_p99_ms": "p99",
    "session_p50_ms": "session p50 ms",
    "session_p99_ms": "p99",
    "visible_ms": "visible after ms",
}

_NOTES: Final = (
    "events/s: taking in all events until all can be found. tailrace stores every event durably",
    f"in that time too ({BATCH_EVENTS} a call, one sync each) and FTS5 syncs every {BATCH_EVENTS};",
    "tantivy commits once, at the end; bm25s builds in memory. FTS5 and tantivy do not store text.",
    f"Queries are {WORDS_PER_QUERY} different words of one event, any of them may match; 20 best.",
    "visible after: from handing in one event until a search has found it (bm25s: build anew).",
)


def _cases(corpus: Corpus, found: Found) -> tuple[list[Case], list[str]]:
    makers: list[tuple[str, Maker]] = [(TAILRACE, Engine)]
    missing: list[str] = []
    for system, module_name, class_name in _PEERS:
        module = load(f"peers.{module_name}")
        if isinstance(module, Missing):
            missing.append(str(module))
        else:
            makers.append((system, getattr(module, class_name)))
    job = f"{corpus.events:,} events of {WORDS_PER_EVENT} words, {corpus.sessions:,} sessions"
    return [
        Case(
            job,
            system,
            partial(measure_search, make=make, corpus=corpus, system=system, found=found),
        )
        for system, make in makers
    ], missing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, seconds=5.0, rounds=1)
    parser.add_argument("--events", type=int, default=EVENTS, help=f"default {EVENTS:,}")
    parser.add_argument("--sessions", type=int, default=SESSIONS, help=f"default {SESSIONS:,}")


def run(arguments: argparse.Namespace, options: Options, place: Path) -> Report:
    found_conditions = conditions(place)
    options.say(f"making {arguments.events:,} events")
    sessions = min(arguments.sessions, -(-arguments.events // BATCH_EVENTS))
    corpus = make_corpus(arguments.events, sessions, QUERIES)
    found: Found = {}
    cases, missing = _cases(corpus, found)
    series = run_cases(options, cases, place)
    notes = list(_NOTES)
    ours = found.get(TAILRACE)
    for system, theirs in found.items():
        share = None if ours is None else agreement(ours, theirs)
        if system != TAILRACE and share is not None:
            notes.append(f"Of tailrace's 10 best hits, {share:.0%} are among {system}'s 20 best.")
    return Report(
        command="search",
        title=f"Full-text search, BM25, {WORDS_PER_QUERY}-word queries",
        unit="events",
        conditions=found_conditions,
        warnings=warnings(found_conditions) + missing,
        settings=options.settings() | {"events": corpus.events, "sessions": corpus.sessions},
        series=series,
        verdicts=[],
        notes=notes,
        columns=_COLUMNS,
    )
