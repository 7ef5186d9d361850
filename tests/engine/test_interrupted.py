"""What goes wrong in between leaves nobody asleep, the log without a gap, and every batch whole."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tailrace import Append, Appended, Options, Overloaded
from tailrace.batch import decode_batch, join_records, split_records
from tailrace.native import write_out
from tailrace.operation import StreamOptions
from tailrace.plain_append import plain_append
from tailrace.plain_inbox import plain_run
from tailrace.staged import Staged
from tests.engine import test_plain_append as plain_lab
from tests.engine import test_plain_inbox as inbox_lab
from tests.engine.test_turns import Threads
from tests.engine.thread_lab import KEY, PATIENCE_S, opened
from tests.engine.workload import read_all

WITHOUT_MARKS = Options(segment_bytes=1 << 20, mark_idle_s=None)
LINES = 100  # more than any of the functions has


def meanwhile(number: int, inside: Callable[..., Any], do: Callable[[], object]) -> Any:
    """A trace function that calls ``do`` before the line of that number that a function runs."""
    left = number

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code is not inside.__code__:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                do()
        return trace

    return trace


def traced(
    number: int, inside: Callable[..., Any], do: Callable[[], object], call: Callable[[], Any]
) -> Any:
    """What ``call`` returns, or the exception that a caller would be told."""
    before = sys.gettrace()
    sys.settrace(meanwhile(number, inside, do))
    try:
        return call()
    except Exception as error:
        return error
    finally:
        sys.settrace(before)


CHANGES: list[Callable[[list[bytes]], object]] = [
    lambda records: records.append(b"more"),
    lambda records: records.clear(),
    lambda records: records.pop(),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("before", [[b"a"], [b"a", b"bcd"], [b"a", b"bcd", b"ef"]])
def test_a_list_that_another_thread_changes_is_taken_as_it_was_once(
    change: Callable[[list[bytes]], object], before: list[bytes]
) -> None:
    after = before.copy()
    change(after)
    for number in range(1, LINES):
        records = before.copy()
        catalog = plain_lab.catalog_with(StreamOptions("application/json"))
        operation = Append(plain_lab.KEY, records)
        found = traced(
            number,
            plain_append,
            lambda records=records: change(records),  # type: ignore[misc]
            lambda catalog=catalog, operation=operation: plain_lab.plain(  # type: ignore[misc]
                catalog, operation
            ),
        )
        if found is not None:
            batch = decode_batch(memoryview(b"".join(found.parts)))
            assert split_records(batch.payload, batch.ends, is_json=True) in (before, after)
        records = before.copy()
        ends, payload = traced(
            number,
            join_records,
            lambda records=records: change(records),  # type: ignore[misc]
            lambda records=records: join_records(records, True),  # type: ignore[misc]
        )
        assert split_records(payload, ends, is_json=True) in (before, after)


def test_a_list_that_another_thread_empties_ends_the_run_of_callers() -> None:
    for number in range(1, 20 * LINES):
        records = [b"1"]
        operations = [Append(inbox_lab.A, [b"0"])] * 5 + [Append(inbox_lab.A, records)]
        found = traced(
            number,
            plain_run,
            records.clear,
            lambda operations=operations: inbox_lab.run(operations),  # type: ignore[misc]
        )
        assert len(found.answers) in (5, 6)


def test_callers_are_answered_after_the_committer_thread_met_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise MemoryError

    with opened(tmp_path, WITHOUT_MARKS) as store:
        store.create(KEY)
        committer = store._core.committer
        with monkeypatch.context() as patch:
            patch.setattr("tailrace.staging.plain_run", fails)
            with committer.commit_lock:
                ticket = committer.perform(Append(KEY, [b"lost"]), None)
            with pytest.raises(Overloaded):
                ticket.wait(PATIENCE_S)
        (behind,) = store.submit([Append(KEY, [b"behind"])])
        assert isinstance(behind.wait(PATIENCE_S), Appended)
        assert read_all(store, KEY) == [b"behind"]


class _Interrupting(list[Staged]):
    def append(self, _: Staged) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("more_before", [0, 1])
@pytest.mark.parametrize("more_behind", [0, 1])
def test_who_is_interrupted_submitting_leaves_no_gap_in_the_log(
    tmp_path: Path, more_before: int, more_behind: int
) -> None:
    """By a signal, in the main thread: between the place that is taken and the queue."""
    with opened(tmp_path, WITHOUT_MARKS) as store:
        store.create(KEY)
        store.append(KEY, [b"first"])
        committer = store._core.committer
        staging = committer._staging
        with committer.commit_lock:
            tickets = store.submit([Append(KEY, [b"before"])] * more_before)
            queue, staging.queue = staging.queue, _Interrupting()
            with pytest.raises(KeyboardInterrupt):
                store.submit([Append(KEY, [b"interrupted"])])
            staging.queue = queue
            tickets += store.submit([Append(KEY, [b"behind"])] * more_behind)
        for ticket in tickets:
            with pytest.raises(Overloaded):
                ticket.wait(PATIENCE_S)
        if not tickets:
            with pytest.raises(Overloaded):
                store.append(KEY, [b"meets it"])
        store.append(KEY, [b"last"])
        assert read_all(store, KEY) == [b"first", b"last"]
    with opened(tmp_path) as store:
        assert read_all(store, KEY) == [b"first", b"last"]


def test_answers_that_need_no_sync_do_not_make_syncs_look_fast(tmp_path: Path) -> None:
    with opened(tmp_path, WITHOUT_MARKS) as store:
        store.create(KEY)
        committer = store._core.committer
        assumed = committer.sync_s
        for _ in range(50):
            with committer.commit_lock:
                ticket = committer.perform(Append(KEY, [b"x"], expected_ordinal=7), None)
            ticket.wait(PATIENCE_S)
        assert committer.sync_s == assumed


def test_who_never_takes_its_turn_holds_up_nobody_while_others_submit(tmp_path: Path) -> None:
    """Each of which has the committer thread look, so that its nap is never over."""
    with opened(tmp_path, WITHOUT_MARKS) as store:
        store.create(KEY)
        committer = store._core.committer
        threads = Threads()
        waiting = 4
        with committer.commit_lock:
            committer.perform(Append(KEY, [b"gone"]), None, patient=True)
            callers = [threads.start(lambda: store.append(KEY, [b"x"])) for _ in range(waiting)]
            while len(committer._inbox) <= waiting:
                threading.Event().wait(0.001)
        submitted = 0
        while any(caller.is_alive() for caller in callers) and submitted < 20_000:
            (ticket,) = store.submit([Append(KEY, [b"s"])])
            ticket.wait(PATIENCE_S)
            submitted += 1
        assert not any(caller.is_alive() for caller in callers), "asleep while others submit"
        threads.join()
        assert not threads.errors


def test_a_write_out_that_fails_is_told_as_no_sync_would_tell_it_again(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.write(descriptor, bytes(8192))
    write_out(descriptor, 0, 8192)
    os.close(descriptor)
    with pytest.raises(OSError, match="write out"):
        write_out(-1, 0, 8192)


def test_what_cannot_be_written_out_ahead_is_left_to_the_sync() -> None:
    read_end, write_end = os.pipe()
    try:
        write_out(write_end, 0, 4096)
    finally:
        os.close(read_end)
        os.close(write_end)
