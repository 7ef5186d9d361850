"""What blocking callers leave is bounded, and an interruption or a close leaves none asleep."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tailrace import Append, Appended, Options, Overloaded, SetMetadata, StoreClosed, TailraceError
from tailrace.inbox import Inbox
from tailrace.ticket import Ticket
from tests.engine.test_turns import Threads
from tests.engine.thread_lab import KEY, PATIENCE_S, opened
from tests.engine.workload import read_all

WITHOUT_MARKS = Options(segment_bytes=1 << 20, mark_idle_s=None)
SMALL_BOUND = Options(segment_bytes=1 << 20, mark_idle_s=None, staged_bytes_max=10_000)


def test_an_inbox_takes_no_more_than_its_bound() -> None:
    inbox = Inbox(1000)
    operations: list[Any] = [
        Append(KEY, [bytes(300), bytes(300)]),
        Append(KEY, lambda _base, _at: [b"made when it is decided"]),
        SetMetadata(KEY, bytes(300)),
        Append(KEY, [bytes(10_000)]),
    ]
    waiting = [(operation, None, Ticket(None, None)) for operation in operations]
    assert [inbox.put(one) for one in waiting] == [True, True, True, False]
    assert inbox.look() == waiting[:3]
    inbox.take(waiting[:2])
    assert inbox.look() == waiting[2:3]
    assert inbox.put(waiting[3]), "there is room again"
    inbox.take(waiting)
    assert (len(inbox), inbox.bytes) == (0, 0)


class _Interrupting(deque[Any]):
    def append(self, item: Any) -> None:
        raise KeyboardInterrupt

    def popleft(self) -> Any:
        super().popleft()
        raise KeyboardInterrupt


def test_an_inbox_that_was_interrupted_takes_what_comes_next() -> None:
    waiting = Append(KEY, [bytes(2000)]), None, Ticket(None, None)
    inbox = Inbox(1000)
    inbox._waiting = _Interrupting()
    with pytest.raises(KeyboardInterrupt):
        inbox.put(waiting)
    inbox._waiting = deque()
    assert inbox.put(waiting)
    inbox._waiting = _Interrupting(inbox._waiting)
    with pytest.raises(KeyboardInterrupt):
        inbox.take([waiting])
    inbox._waiting = deque(inbox._waiting)
    assert inbox.put(waiting)
    assert not inbox.put(waiting)
    inbox.take([waiting])
    assert inbox.bytes == 0


@pytest.mark.parametrize("records", [5, [5], [None, b"x"], None])
def test_an_inbox_takes_what_is_going_to_be_refused(records: Any) -> None:
    inbox = Inbox(1000)
    waiting = Append(KEY, records), None, Ticket(None, None)
    assert inbox.put(waiting)
    assert inbox.bytes > 0
    inbox.take([waiting])
    assert inbox.bytes == 0


def test_callers_beyond_the_bound_are_told_to_come_back(tmp_path: Path) -> None:
    """While a sync hangs, those whose patience is over leave their operations behind."""
    with opened(tmp_path, SMALL_BOUND) as store:
        store.create(KEY)
        committer = store._core.committer
        stored = 0
        with committer.commit_lock:  # as whoever syncs
            with pytest.raises(Overloaded) as caught:
                for _ in range(1000):
                    with pytest.raises(TimeoutError):
                        store.perform(Append(KEY, [bytes(1000)]), 0)
                    stored += 1
            assert caught.value.retry_after_s > 0
            assert 5 <= stored <= 10
            assert committer.staged_bytes >= 10_000, "they are seen to wait"
            assert store._core.counters()["staged_bytes"] >= 10_000
        assert store.wait(KEY, stored - 1, PATIENCE_S), "what was left behind is stored"
        assert store.append(KEY, [b"last"]).base == stored
        assert committer.staged_bytes == 0


@pytest.mark.parametrize("background", [True, False])
def test_a_full_inbox_that_nobody_saw_to_is_emptied(tmp_path: Path, background: bool) -> None:
    """Who put the last operation there was interrupted before the committer was told."""
    options = replace(SMALL_BOUND, background=background)
    with opened(tmp_path, options) as store:
        store.create(KEY)
        committer = store._core.committer
        ticket = Ticket(None, None)
        assert committer._inbox.put((Append(KEY, [bytes(20_000)]), None, ticket))
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                base = store.append(KEY, [b"next"]).base
                break
            except Overloaded:
                time.sleep(0.01)
        else:
            raise AssertionError("nobody looks into the inbox")
        assert base == 1 and ticket.wait(0) is not None


def interrupts(function: Callable[..., Any]) -> Callable[..., Any]:
    """As a signal may: when the call has returned, before anything is done with the result."""
    calls = 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        found = function(*arguments)
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt
        return found

    return interrupted


PLACES = [
    "_staging.decide_each",
    "_staging.take",
    "_inbox.look",
    "_inbox.take",
    "_write",
    "_publish",
    "_answers.give",
    "_answers._on_group",
    "_turns.add",
    "_turns._next",
    "Ticket.answer",
    "Ticket.settle",
    "Ticket.wake",
]


@pytest.mark.parametrize("place", PLACES)
def test_who_is_interrupted_committing_leaves_nobody_asleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    with opened(tmp_path, WITHOUT_MARKS) as store:
        store.create(KEY)
        committer = store._core.committer
        acknowledged: list[bytes] = []
        threads = Threads()

        def call(number: int) -> None:
            record = b"caller %d" % number
            try:
                store.append(KEY, [record])
            except TailraceError:
                return
            acknowledged.append(record)

        with committer.commit_lock:
            tickets = store.submit([Append(KEY, [b"ticket %d" % n]) for n in range(3)])
            for number in range(6):
                threads.start(lambda number=number: call(number))  # type: ignore[misc]
            deadline = time.monotonic() + PATIENCE_S
            while len(committer._inbox) < 6 and time.monotonic() < deadline:
                time.sleep(0.001)
            *path, name = place.split(".")
            owner: Any = committer
            if path == ["Ticket"]:
                owner, path = Ticket, []
            for part in path:
                owner = getattr(owner, part)
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, interrupts(getattr(owner, name)))
                with pytest.raises(KeyboardInterrupt):
                    committer.commit()
        threads.join()
        assert not threads.errors
        for number, ticket in enumerate(tickets):
            try:
                assert isinstance(ticket.wait(PATIENCE_S), Appended)
            except TailraceError:
                continue
            acknowledged.append(b"ticket %d" % number)
        if committer.poison is None:
            store.append(KEY, [b"behind"])
            acknowledged.append(b"behind")
            assert sorted(read_all(store, KEY)) == sorted(acknowledged)
    with opened(tmp_path) as store:
        kept = read_all(store, KEY)
        assert set(acknowledged) <= set(kept)
        assert len(set(kept)) == len(kept)


def test_runs_that_are_interrupted_before_the_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, WITHOUT_MARKS) as store:
        store.create(KEY)
        committer = store._core.committer
        with committer.commit_lock:
            (ticket,) = store.submit([Append(KEY, [b"x"])])
            with monkeypatch.context() as patch:
                patch.setattr("tailrace.commit.runs_of", interrupts(lambda *_: None))
                with pytest.raises(KeyboardInterrupt):
                    committer.commit()
        with pytest.raises(Overloaded):
            ticket.wait(PATIENCE_S)
        assert store.append(KEY, [b"behind"]).base == 0


def test_a_committed_group_is_not_held_on_to(tmp_path: Path) -> None:
    with opened(tmp_path, WITHOUT_MARKS) as store:
        store.create(KEY)
        store.append(KEY, [bytes(100_000)])
        assert store._core.committer._staging.taken == []


def test_who_comes_as_the_last_look_is_over_does_not_keep_a_store_from_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller commits for itself; nobody tells the committer thread, which has no naps."""
    with opened(tmp_path, WITHOUT_MARKS) as store:
        store.create(KEY)
        committer = store._core.committer
        threads = Threads()
        looks = 0
        due = committer._due

        def late() -> None:
            with pytest.raises(StoreClosed):
                store.append(KEY, [b"late"])

        def last_look() -> bool:
            nonlocal looks
            if due():
                return True
            looks += committer._closing
            if looks == 2:
                threads.start(late)
                deadline = time.monotonic() + PATIENCE_S
                while not committer._inbox and time.monotonic() < deadline:
                    time.sleep(0.001)
            return False

        monkeypatch.setattr(committer, "_due", last_look)
        closing = Threads()
        closing.start(store.close)
        closing.join()
        assert not closing.errors
        threads.join()
        assert not threads.errors
        assert looks > 2
