"""Directories that earlier versions wrote open, and hold what they held, for ever."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

import tailrace
from tailrace import Append, Appended, Producer, Reason, Rejected, Rejection, StreamKey
from tailrace.check import read_existing_manifest
from tailrace.manifest import FORMAT
from tailrace.storage import OsStorage
from tests.engine.snapshot_lab import content_of
from tests.engine.workload import Clock, observe
from tests.golden.make_golden import HERE, KEYS, LOST, plain, put_snapshot

ARCHIVES = sorted(HERE.glob("format-*.tar.xz"))


def test_there_are_golden_files() -> None:
    assert {path.name for path in ARCHIVES} >= {
        "format-1-closed.tar.xz",
        "format-1-crashed.tar.xz",
        "format-2-closed.tar.xz",
        "format-2-crashed.tar.xz",
        "format-3-closed.tar.xz",
        "format-3-crashed.tar.xz",
        "format-3-repaired.tar.xz",
    }


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name.partition(".")[0])
def test_a_golden_directory_opens(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    stem = archive.name.split(".")[0].rpartition("-")[0]
    expected = json.loads((HERE / f"{stem}-expected.json").read_text(encoding="utf-8"))
    clock = Clock(expected.pop("now_ms"))
    for _ in range(2):
        with tailrace.open(tmp_path, now_ms=clock) as store:
            seen = observe(store, KEYS)
            assert json.loads(json.dumps(plain(seen))) == expected
            found = store.search("golden", [("alpha", "json")])
            assert sorted(hit.ordinal for hit in found.hits) == [0, 1, 4]
            check_writer_state(store)
    assert read_existing_manifest(OsStorage(tmp_path)).format == FORMAT
    assert tailrace.check(tmp_path).ok


def test_a_directory_of_an_older_format_may_have_snapshots_once_it_was_opened(
    tmp_path: Path,
) -> None:
    with tarfile.open(HERE / "format-1-crashed.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    key = StreamKey("alpha", "json")
    for opening in range(2):
        with tailrace.open(tmp_path) as store:
            if opening == 0:
                put_snapshot(store, key, 3, b"folded", "text/plain")
            assert content_of(store, key) == b"folded"


def test_a_repaired_directory_keeps_what_stands_behind_the_damage(tmp_path: Path) -> None:
    with tarfile.open(HERE / "format-3-repaired.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    for _ in range(2):
        with tailrace.open(tmp_path) as store:
            assert bytes(store.read(LOST, 0).payload) == b"0 of what is lost"
            with pytest.raises(tailrace.RecordsLost) as caught:
                store.read(LOST, 1)
            assert (caught.value.first, caught.value.stop) == (1, 2)
            assert bytes(store.read(LOST, 2).payload) == b"2 of what is lost3 of what is lost"
            assert store.head(LOST).tail == 4


def test_an_unopened_directory_of_an_older_format_is_checked_as_it_is(tmp_path: Path) -> None:
    with tarfile.open(HERE / "format-1-closed.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    assert tailrace.check(tmp_path).ok
    assert read_existing_manifest(OsStorage(tmp_path)).format == 1


def check_writer_state(store: tailrace.Store) -> None:
    """Producers, sequences and closures are as they were: nothing here changes anything."""
    key = tailrace.StreamKey("alpha", "json")
    again = store.append(key, [b"0"], producer=Producer("p", 1, 1))
    assert again.duplicate
    fenced = store.perform(Append(key, [b"0"], producer=Producer("p", 0, 9)))
    assert isinstance(fenced, Rejection)
    assert (fenced.reason, fenced.producer_epoch) == (Reason.PRODUCER_FENCED, 1)
    with pytest.raises(Rejected) as caught:
        store.append(key, [b"0"], stream_seq="b")
    assert caught.value.rejection.reason is Reason.STREAM_SEQ_REGRESSED
    closed = tailrace.StreamKey("alpha", "closed")
    outcome = store.perform(Append(closed, [b"0"], producer=Producer("closer", 3, 0), close=True))
    assert isinstance(outcome, Appended)
    assert outcome.duplicate
    hidden = store.perform(Append(tailrace.StreamKey("alpha", "hidden"), [b"0"]))
    assert isinstance(hidden, Rejection)
    assert hidden.reason is Reason.STREAM_GONE
