"""Bounds, the lock, closing with work in flight, callers that misbehave."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tailrace
from tailrace import (
    Append,
    Appended,
    Corrupted,
    Create,
    ForkPoint,
    Options,
    Overloaded,
    Store,
    StoreClosed,
    StoreLocked,
    StreamKey,
    StreamOptions,
    Ticket,
)
from tests.engine.hooked_storage import HookedStorage, hold_log
from tests.engine.thread_lab import KEY, PATIENCE_S, SMALL, in_threads, opened
from tests.engine.workload import read_all
from tests.no_threads import no_threads


def test_staged_bytes_are_bounded(tmp_path: Path) -> None:
    storage = HookedStorage(tmp_path)
    options = Options(segment_bytes=1 << 20, staged_bytes_max=50_000)
    with opened(tmp_path, options, storage=storage) as store:
        store.create(KEY)
        gate, _ = hold_log(storage, PATIENCE_S)
        tickets: list[Ticket] = []
        with pytest.raises(Overloaded) as caught:
            for _ in range(1000):
                tickets += store.submit([Append(KEY, [bytes(1000)])])
        assert 40 <= len(tickets) <= 60
        assert caught.value.retry_after_s > 0
        with pytest.raises(Overloaded):
            store.submit([Append(KEY, [b"x"]), Append(KEY, [b"y"])])
        gate.set()
        for ticket in tickets:
            ticket.wait(PATIENCE_S)
        assert store.append(KEY, [b"x"]).base == len(tickets), "what was refused left nothing"


def test_a_directory_is_open_once_in_this_process(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for _ in range(2):
            with pytest.raises(StoreLocked, match=str(os.getpid())):
                tailrace.open(tmp_path)
        store.create(KEY)
    with opened(tmp_path) as store:
        assert store.head(KEY).tail == 0


def test_a_directory_is_open_once_among_processes(tmp_path: Path) -> None:
    script = (
        "import sys, tailrace\n"
        "try:\n"
        "    tailrace.open(sys.argv[1]).close()\n"
        "except tailrace.StoreLocked as error:\n"
        "    print('locked:', error)\n"
    )

    def other_process() -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            capture_output=True, text=True, timeout=PATIENCE_S, check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        return done.stdout

    with opened(tmp_path):
        assert f"process {os.getpid()}" in other_process()
    assert other_process() == ""


def test_mapped_bytes_and_what_reads_them_may_be_garbage_in_one_cycle(tmp_path: Path) -> None:
    """As in a store that nobody closed. Run apart: what is wrong here ends the process."""
    script = (
        "import gc, sys\n"
        "from tailrace import native\n"
        "class Owner: pass\n"
        "for _ in range(200):\n"
        "    with open(sys.argv[1], 'rb') as file:\n"
        "        data = native.map_file(file.fileno(), 4096)\n"
        "    owner = Owner()\n"  # behind it: what was made first is cleared first
        "    owner.itself, owner.data, owner.view = owner, data, native.View(data)\n"
        "    assert owner.view.check(0, 0) == native.BATCH_ZERO\n"
        "    del owner, data\n"
        "    gc.collect()\n"
        "print('whole')\n"
    )
    zeros = tmp_path / "zeros"
    zeros.write_bytes(bytes(4096))
    done = subprocess.run(
        [sys.executable, "-c", script, str(zeros)],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr


def test_closing_while_appends_are_in_flight_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    for round_number in range(5):
        directory = tmp_path / str(round_number)
        acknowledged: list[list[int]] = [[] for _ in range(4)]
        with opened(directory) as store:
            store.create(KEY)
            started = threading.Barrier(5)

            def write(number: int, store: Store = store, started: Any = started) -> None:
                mine = acknowledged[number]  # noqa: B023
                started.wait(PATIENCE_S)
                while True:
                    try:
                        appended = store.perform(Append(KEY, [b"%d" % number]), PATIENCE_S)
                    except StoreClosed:
                        return
                    assert isinstance(appended, Appended)
                    mine.append(appended.base)

            def close(store: Store = store, started: Any = started) -> None:
                started.wait(PATIENCE_S)
                time.sleep(0.05)
                store.close()

            in_threads(*(lambda n=n: write(n) for n in range(4)), close)
            store.close()
            with pytest.raises(StoreClosed):
                store.append(KEY, [b"x"])
            with pytest.raises(StoreClosed):
                store.read(KEY, 0)
        with opened(directory) as store:
            records = read_all(store, KEY, page_bytes=1 << 20)
            bases = sorted(base for own in acknowledged for base in own)
            assert bases == list(range(len(bases)))
            assert len(records) == len(bases), "everything staged was made durable, and answered"
            for number, own in enumerate(acknowledged):
                assert all(records[base] == b"%d" % number for base in own)


@pytest.mark.parametrize("started", [0, 1, 2])
def test_a_store_without_its_threads_is_not_opened(tmp_path: Path, started: int) -> None:
    with opened(tmp_path) as store:
        store.create(KEY)
        store.append(KEY, [b"kept"])
    running = threading.active_count()
    with no_threads(after=started), pytest.raises(Overloaded, match="no more threads"):
        tailrace.open(tmp_path)
    assert threading.active_count() == running
    with tailrace.open(tmp_path) as store:
        assert read_all(store, KEY) == [b"kept"]


def test_damage_met_by_a_search_is_left_to_the_next_start(tmp_path: Path) -> None:
    with opened(tmp_path, replace(SMALL, background=False)) as store:
        store.create(KEY, content_type="application/json", searchable=True)
        for n in range(20):
            store.append(KEY, [b'{"text":"needle%02d"}' % n])
        (segment,) = (tmp_path / "log").glob("*.segment")
        with segment.open("r+b") as file:
            file.seek(segment.read_bytes().index(b"needle07"))
            file.write(b"#")
        found = store.search("needle12", [KEY])
        assert len(found.hits) == 1
        assert [part.first for part in found.damaged] == [7]
    # Closed, and the directory given up: who opens it is told what is wrong with it.
    for _ in range(2):
        with pytest.raises(Corrupted, match="acknowledged data is damaged"):
            tailrace.open(tmp_path)


def test_submitted_operations_are_answered_when_the_store_closes(tmp_path: Path) -> None:
    store = tailrace.open(tmp_path, options=SMALL)
    store.create_bucket("bucket")
    tickets = store.submit([Append(KEY, [b"%d" % n], create=StreamOptions()) for n in range(500)])
    store.close()
    assert all(isinstance(ticket.outcome, Appended) for ticket in tickets)
    with opened(tmp_path) as store:
        assert len(read_all(store, KEY)) == 500


@pytest.mark.parametrize("where", ["on_done", "on_group"])
def test_a_callback_that_raises_does_not_stop_the_store(tmp_path: Path, where: str) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a caller's bug")

    with opened(tmp_path) as store:
        if where == "on_group":
            store.on_group = fail
        store.submit([Append(KEY, [b"1"], create=StreamOptions())], fail)[0].wait(PATIENCE_S)
        store.submit([Append(KEY, [b"2"])], fail)[0].wait(PATIENCE_S)
        store.perform(Append(KEY, [b"3"]), PATIENCE_S)
        assert store.head(KEY).tail == 3


def test_an_operation_that_cannot_be_encoded_fails_alone(tmp_path: Path) -> None:
    def bad_stamp(base: int, now_ms: int) -> list[bytes]:
        raise RuntimeError("a caller's bug")

    with opened(tmp_path) as store:
        store.create(KEY)
        good, bad, stamp, last = store.submit(
            [
                Append(KEY, [b"1"]),
                Append(KEY, ["text"]),  # type: ignore[list-item]
                Append(KEY, bad_stamp),
                Append(KEY, [b"2"]),
            ]
        )
        assert isinstance(good.wait(PATIENCE_S), Appended)
        with pytest.raises(tailrace.InvalidArgument, match="records"):
            bad.wait(PATIENCE_S)
        with pytest.raises(RuntimeError):
            stamp.wait(PATIENCE_S)
        assert isinstance(last.wait(PATIENCE_S), Appended)
        assert read_all(store, KEY) == [b"1", b"2"]
    with opened(tmp_path) as store:
        assert read_all(store, KEY) == [b"1", b"2"]


def test_forks_with_a_byte_sub_offset_may_share_a_submit(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.create(KEY, records=[b"hello"])
        forks = [Create(StreamKey("bucket", f"f{n}"), fork=ForkPoint(KEY, 0, n)) for n in range(6)]
        for n, ticket in enumerate(store.submit(forks)):
            ticket.wait(PATIENCE_S)
            assert b"".join(read_all(store, StreamKey("bucket", f"f{n}"))) == b"hello"[:n]
