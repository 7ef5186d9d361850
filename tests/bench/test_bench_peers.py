"""The peers do the work they are compared for: all bytes on disk, a sync for every write."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bench.events import EVENT_BYTES, small_batches
from bench.measure import Budget
from bench.peers import raw, sqlite
from bench.shapes import LostData, RowSource, Shape
from bench.systems import RAW, ROCKSDB, SQLITE, SQLITE_HEAP, TAILRACE

ROOT = Path(__file__).resolve().parents[2]
STEPS = 20
STEPS_WITH_WARM_UP = 22
NEVER_S = 600.0
BUDGET = Budget(NEVER_S, STEPS)


def test_raw_writes_every_event_in_order(tmp_path: Path) -> None:
    measurement = raw.append(tmp_path, BUDGET, Shape(64))
    assert (measurement.units, measurement.syncs) == (STEPS * 64, STEPS)
    batches = small_batches(64)
    expected = b"".join(
        event for step in range(STEPS_WITH_WARM_UP) for event in batches[step % len(batches)]
    )
    data = (tmp_path / "raw").read_bytes()
    assert data[: len(expected)] == expected
    assert len(expected) == STEPS_WITH_WARM_UP * 64 * EVENT_BYTES
    assert not any(data[len(expected) :])


@pytest.mark.parametrize("table", [SQLITE, SQLITE_HEAP])
@pytest.mark.parametrize("shape", [Shape(1), Shape(64), Shape(64, spread=True)])
def test_sqlite_holds_every_row(tmp_path: Path, table: str, shape: Shape) -> None:
    measurement = sqlite.append(tmp_path, BUDGET, shape, table)
    assert measurement.units == STEPS * shape.rows
    connection = sqlite3.connect(tmp_path / "events.db")
    rows = connection.execute("SELECT stream, ordinal, body FROM events").fetchall()
    connection.close()
    assert len(rows) == STEPS_WITH_WARM_UP * shape.rows
    source = RowSource(shape, sqlite.stream_keys(table))
    expected = [row for step in range(STEPS_WITH_WARM_UP) for row in source.rows(step)]
    assert sorted(rows) == sorted(expected)


def test_sqlite_with_a_row_missing_is_noticed(tmp_path: Path) -> None:
    class Forgetful(sqlite3.Connection):
        def close(self) -> None:
            self.execute("DELETE FROM events WHERE ordinal = 0")
            super().close()

    def connect(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, factory=Forgetful)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "connect", connect)
        with pytest.raises(LostData):
            sqlite.append(tmp_path, BUDGET, Shape(4), SQLITE)


@pytest.mark.parametrize("shape", [Shape(1), Shape(64), Shape(64, spread=True)])
def test_rocksdb_holds_every_row(tmp_path: Path, shape: Shape) -> None:
    rocksdb = pytest.importorskip("bench.peers.rocksdb")
    measurement = rocksdb.append(tmp_path, BUDGET, shape)
    assert measurement.units == STEPS * shape.rows
    database = rocksdb.open_database(tmp_path)
    found = sorted((bytes(key), bytes(value)) for key, value in database.items())
    database.close()
    source = RowSource(shape, range(64))
    expected = sorted(
        (rocksdb.KEY.pack(stream, ordinal), body)
        for step in range(STEPS_WITH_WARM_UP)
        for stream, ordinal, body in source.rows(step)
    )
    assert found == expected


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("system", [RAW, SQLITE, ROCKSDB, TAILRACE])
def test_every_durable_write_is_a_sync_of_the_kernel(tmp_path: Path, system: str) -> None:
    if system == ROCKSDB:
        pytest.importorskip("rocksdict")
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o", str(trace)]
    command += [sys.executable, "-m", "bench", "append", "--quiet", "--rounds", "1"]
    command += ["--seconds", str(NEVER_S), "--steps", str(STEPS), "--dir", str(tmp_path)]
    command += ["--only", f"1 event per call | {system}"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "engine")])}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    syncs = re.findall(r"f(?:data)?sync\(\d+\)\s+= 0", trace.read_text(encoding="utf-8"))
    writes = STEPS_WITH_WARM_UP
    if system == SQLITE:
        writes *= 2  # the heap's case has "SQLite" in its name, too
    assert len(syncs) >= writes
