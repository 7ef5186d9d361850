"""SQLite: write-ahead log, ``synchronous=FULL``, one transaction per durable write.

Two tables that both can hand out a stream from any ordinal: clustered by stream, so that a
stream is read in one sweep, and a heap with an index beside it, which is cheaper to write
and dearer to read.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from bench.events import STREAMS, stream_name
from bench.measure import Budget, Measurement, measure_steps
from bench.shapes import LostData, RowSource, Shape
from bench.systems import SQLITE, SQLITE_HEAP

_COLUMNS: Final = "ordinal INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (stream, ordinal)"
_TABLES: Final = {
    SQLITE: f"CREATE TABLE events (stream TEXT NOT NULL, {_COLUMNS}) WITHOUT ROWID",
    SQLITE_HEAP: f"CREATE TABLE events (stream INTEGER NOT NULL, {_COLUMNS})",
}
_INSERT: Final = "INSERT INTO events (stream, ordinal, body) VALUES (?, ?, ?)"


def connect(path: Path) -> sqlite3.Connection:
    """A connection that syncs at every commit and begins transactions only when told to."""
    connection = sqlite3.connect(path, isolation_level=None)
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    connection.execute("PRAGMA synchronous = FULL")
    if mode != "wal" or connection.execute("PRAGMA synchronous").fetchone()[0] != 2:
        raise RuntimeError(f"SQLite refused the settings this comparison rests on: {mode}")
    return connection


def stream_keys(table: str) -> list[str | int]:
    """What the streams are called in ``table``: names where they cluster, else numbers."""
    return [stream_name(number) if table == SQLITE else number for number in range(STREAMS)]


def append(directory: Path, budget: Budget, shape: Shape, table: str = SQLITE) -> Measurement:
    """Transactions of ``shape.rows`` rows, inserted with ``executemany``."""
    names = stream_keys(table)
    source = RowSource(shape, names)
    connection = connect(directory / "events.db")
    try:
        connection.execute(_TABLES[table])

        def step(number: int) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, source.rows(number))
            connection.execute("COMMIT")

        measurement = measure_steps(step, shape.rows, budget)
    finally:
        connection.close()
    _check(directory / "events.db", source, names)
    return measurement


def _check(path: Path, source: RowSource[str | int], names: list[str | int]) -> None:
    connection = sqlite3.connect(path)
    try:
        (count,) = connection.execute("SELECT count(*) FROM events").fetchone()
        if count != source.count():
            raise LostData(f"SQLite has {count} of {source.count()} rows")
        for row in source.newest():
            found = connection.execute(
                "SELECT body FROM events WHERE stream = ? AND ordinal = ?",
                (names[row.stream], row.ordinal),
            ).fetchone()
            if found != (row.body,):
                raise LostData(f"SQLite lost row {row.ordinal} of stream {row.stream}")
    finally:
        connection.close()
