"""Appends in columns on a failing disk and among threads: one ticket, told once, what is true."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

import tailrace
from tailrace import (
    Append,
    CreateBucket,
    Group,
    LogPoisoned,
    Options,
    Overloaded,
    RowsTaken,
    StreamKey,
    Ticket,
)
from tailrace.rows import AppendedRows
from tests.engine.hooked_storage import HookedStorage, hold_log
from tests.engine.rows_lab import columns, one_group, perform_as_rows
from tests.engine.thread_lab import PATIENCE_S, callbacks_are_over, in_threads, opened
from tests.engine.workload import read_all

KEYS = [StreamKey("bucket", name) for name in "abc"]
TYPE = "application/json"
ALONE = Options(segment_bytes=64 * 1024, mark_idle_s=None, background=False)


def appends(*records: bytes) -> list[Append]:
    """The same records to each of the streams."""
    return [Append(key, list(records), TYPE) for key in KEYS]


def make_streams(store: tailrace.Store) -> None:
    for key in KEYS:
        store.create(key, content_type=TYPE)


def ticket_of(taken: RowsTaken) -> Ticket:
    assert taken.ticket is not None
    assert taken.left == []
    return taken.ticket


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_failed_write_or_sync_is_told_to_the_one_ticket(tmp_path: Path, kind: str) -> None:
    storage = HookedStorage(tmp_path)
    with opened(tmp_path, storage=storage) as store:
        make_streams(store)
        perform_as_rows(store, appends(b"0"))
        told: list[Group] = []
        store.on_group = told.append
        failure = OSError(errno.EIO, os.strerror(errno.EIO))
        gate, held = hold_log(storage, PATIENCE_S, at=kind, error=failure)
        tickets = [ticket_of(store.submit_rows(columns(appends(b"1")), None))]
        assert held.wait(PATIENCE_S)
        tickets += [ticket_of(store.submit_rows(columns(appends(b"2", b"3")), None))]
        tickets += store.submit([Append(KEYS[0], [b"4"])])
        gate.set()
        errors = set()
        for ticket in tickets:
            with pytest.raises(LogPoisoned) as raised:
                ticket.wait(PATIENCE_S)
            errors.add(id(raised.value))
        assert len(errors) == len(tickets), "an exception for each who is told"
        callbacks_are_over(store)
        assert [ticket for group in told for ticket in group.tickets] == tickets
        assert not any(group.stream_ids for group in told)
        storage.hook = lambda kind, name: None
        with pytest.raises(LogPoisoned):
            store.submit_rows(columns(appends(b"5")), None)
        assert [read_all(store, key) for key in KEYS] == [[b"0"]] * 3
    with opened(tmp_path) as store:
        for key in KEYS:
            found = read_all(store, key)
            # What was never acknowledged may be there, but then whole and in order.
            assert found == [b"0", b"1", b"2", b"3", b"4"][: len(found)]
            assert len(found) != 3, "a batch is never cut"
        assert ticket_of(store.submit_rows(columns(appends(b"6")), None)).wait(PATIENCE_S)


def test_no_room_for_a_segment_lets_go_of_all_that_is_staged(tmp_path: Path) -> None:
    storage = HookedStorage(tmp_path)
    with tailrace.open(tmp_path, options=ALONE, storage=storage) as store:
        store.create_bucket("bucket")
        make_streams(store)
        perform_as_rows(store, appends(b"0"))

        def full(kind: str, name: str) -> None:
            if kind == "create" and ".segment" in name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

        storage.hook = full
        half = b'"%s"' % (b"x" * 40_000)
        store.append(KEYS[0], [half])
        told: list[Group] = []
        store.on_group = told.append
        with one_group(store):
            first = ticket_of(store.submit_rows(columns(appends(b"1")), None))
            turning = store.submit([Append(KEYS[0], [half])])
            second = ticket_of(store.submit_rows(columns(appends(b"2", b"3")), None))
            close = store.submit([Append(KEYS[1], close=True), CreateBucket("later")])
            assert store.submit_rows(columns(appends(b"4")), None).left == [1]
            assert store.counters()["staged_bytes"] > 40_000
        for ticket in (first, *turning, second, *close):
            with pytest.raises(Overloaded):
                ticket.wait(PATIENCE_S)
        assert len(told) == 1
        assert store.counters()["staged_bytes"] == 0
        assert [len(read_all(store, key)) for key in KEYS] == [2, 1, 1]
        # Staging began anew: no ordinal was lost, and nothing is closed.
        again = ticket_of(store.submit_rows(columns(appends(b"5")), None)).wait(PATIENCE_S)
        assert isinstance(again, AppendedRows)
        assert list(again.firsts) == [2, 1, 1]
        storage.hook = lambda kind, name: None
        perform_as_rows(store, appends(*[b'"%s"' % (b"x" * 9_000)] * 4))
        perform_as_rows(store, appends(b"6"))
    with opened(tmp_path, ALONE) as store:
        for key in KEYS:
            found = read_all(store, key)
            assert [record for record in found if len(record) == 1] == [b"0", b"5", b"6"]
            assert len(found) == 7 + (key == KEYS[0])


def test_columns_and_single_appends_of_many_threads_lose_nothing(tmp_path: Path) -> None:
    rounds = 120
    with opened(tmp_path) as store:
        make_streams(store)
        acknowledged: dict[tuple[StreamKey, int], bytes] = {}
        lock = threading.Lock()

        def note(key: StreamKey, first: int, records: list[bytes]) -> None:
            with lock:
                for ordinal, record in enumerate(records, first):
                    assert acknowledged.setdefault((key, ordinal), record) is record

        def in_rows(name: int) -> None:
            for number in range(rounds):
                records = [b"[%d,%d,%d]" % (name, number, i) for i in range(1 + number % 3)]
                patience_s = 1.0 if number % 2 else 0.0
                asked = columns(appends(*records))
                taken = store.submit_rows(asked, None, patience_s=patience_s)
                rest = store.submit([Append(KEYS[i], records) for i in taken.left])
                for i, ticket in zip(taken.left, rest, strict=True):
                    outcome = ticket.wait(PATIENCE_S)
                    assert isinstance(outcome, tailrace.Appended)
                    note(KEYS[i], outcome.base, records)
                if taken.ticket is None:
                    continue
                rows = taken.ticket.wait(PATIENCE_S)
                assert isinstance(rows, AppendedRows)
                for i, key in enumerate(KEYS):
                    assert bool(rows.stream_ids[i]) == (i not in taken.left)
                    if rows.stream_ids[i]:
                        note(key, rows.firsts[i], records)

        def one_by_one(name: int) -> None:
            for number in range(rounds):
                key, record = KEYS[number % 3], b"[%d,%d]" % (name, number)
                note(key, store.append(key, [record]).base, [record])

        in_threads(*(lambda n=n: in_rows(n) for n in range(3)), lambda: one_by_one(9))
        assert store.counters()["staged_bytes"] == 0
    with opened(tmp_path) as store:
        for key in KEYS:
            found = read_all(store, key)
            own = {ordinal: record for (of, ordinal), record in acknowledged.items() if of == key}
            assert found == [own[ordinal] for ordinal in range(len(own))]


def test_a_waiting_reader_is_woken(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        make_streams(store)

        def write() -> None:
            ticket_of(store.submit_rows(columns(appends(b"1", b"2")), None)).wait(PATIENCE_S)

        woken = in_threads(*(lambda k=key: store.wait(k, 1, PATIENCE_S) for key in KEYS), write)
        assert woken[:3] == [True] * 3
