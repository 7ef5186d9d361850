"""Blocking callers are woken in turn: everyone is, whatever the others do."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import (
    Append,
    Appended,
    LogPoisoned,
    Options,
    Overloaded,
    StoreClosed,
    StreamKey,
    Ticket,
)
from tailrace.turns import Turns
from tests.effort import lengthened
from tests.engine.hooked_storage import HookedStorage, hold_log
from tests.engine.thread_lab import KEY, PATIENCE_S, SMALL, opened
from tests.engine.workload import read_all

WITHOUT_MARKS = Options(segment_bytes=1 << 20, mark_idle_s=None)


class Sleeper:
    def __init__(self) -> None:
        self.left = False
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


class Threads:
    """Threads that a test which fails does not wait for."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def start(self, call: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            try:
                call()
            except BaseException as error:  # told by join(), in the test's own thread
                self.errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def join(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert not any(thread.is_alive() for thread in self._threads), "a caller was never woken"


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


# ---- the queue alone


def test_one_is_woken_at_a_time_in_order() -> None:
    over: list[int] = []
    turns = Turns(lambda: over.append(1))
    sleepers = [Sleeper() for _ in range(4)]
    assert turns.add(sleepers[:3])
    assert turns.add(sleepers[3:])
    for number, sleeper in enumerate(sleepers):
        assert turns.busy
        assert not over
        assert [s.woken for s in sleepers] == [1] * (number + 1) + [0] * (3 - number)
        turns.taken(sleeper)
        turns.taken(sleeper)
    assert not turns.busy
    assert over == [1]


def test_who_does_not_move_is_passed_over_at_the_second_look() -> None:
    turns = Turns(lambda: None)
    first, second, third = Sleeper(), Sleeper(), Sleeper()
    assert turns.add([first, second, third])
    turns.hurry()
    assert second.woken == 0
    turns.hurry()
    assert second.woken == 1
    turns.taken(first)
    assert third.woken == 0, "it is no longer the first one's turn"
    turns.taken(second)
    turns.taken(third)
    assert not turns.busy


def test_few_and_those_of_a_closed_store_are_woken_at_once() -> None:
    turns = Turns(lambda: None)
    few = [Sleeper(), Sleeper()]
    assert not turns.add(few)
    many = [Sleeper() for _ in range(5)]
    assert turns.add(many)
    turns.close()
    late = [Sleeper() for _ in range(5)]
    assert not turns.add(late)
    assert [sleeper.woken for sleeper in [*few, *many, *late]] == [1] * 12
    assert not turns.busy


_STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "take", "leave", "hurry"]), st.integers(0, 9)), max_size=60
)


@given(_STEPS)
def test_everyone_is_woken_once_unless_it_left(steps: list[tuple[str, int]]) -> None:
    turns = Turns(lambda: None)
    sleepers: list[Sleeper] = []
    asleep: list[Sleeper] = []
    for step, number in steps:
        if step == "add":
            new = [Sleeper() for _ in range(number)]
            sleepers += new
            asleep += new
            turns.add(new)
        elif step == "hurry":
            turns.hurry()
        elif step == "take" and (awake := [s for s in asleep if s.woken]):
            asleep.remove(awake[0])
            turns.taken(awake[0])
        elif step == "leave" and asleep:
            turns.leave(asleep.pop(number % len(asleep)))
        assert turns.busy or not turns.waiting
    turns.hurry()
    while turns.busy:
        turns.hurry()
    assert all(sleeper.woken == 1 for sleeper in sleepers if not sleeper.left)
    assert all(sleeper.woken <= 1 for sleeper in sleepers)


# ---- callers of a store


def test_callers_that_loop_that_come_once_and_that_submit_are_all_answered(tmp_path: Path) -> None:
    with opened(tmp_path, WITHOUT_MARKS) as store:
        store.create(KEY)
        stop = time.monotonic() + lengthened(2)
        threads = Threads()
        counts: list[int] = []

        def loop(seed: int) -> None:
            dice = random.Random(seed)
            count = 0
            while time.monotonic() < stop:
                store.append(KEY, [b"%d" % seed])
                count += 1
                if dice.random() < 0.02:
                    time.sleep(dice.random() * 0.003)
            counts.append(count)

        def submit() -> None:
            count = 0
            while time.monotonic() < stop:
                tickets = store.submit([Append(KEY, [b"s"])] * 3)
                assert isinstance(tickets[-1].wait(PATIENCE_S), Appended)
                count += 3
            counts.append(count)

        def impatient() -> None:
            count = 0
            while time.monotonic() < stop:
                operation = Append(KEY, [b"i"])
                assert isinstance(store.perform(operation, PATIENCE_S), Appended)
                count += 1
            counts.append(count)

        for seed in range(24):
            threads.start(lambda seed=seed: loop(seed))  # type: ignore[misc]
        threads.start(submit)
        threads.start(impatient)
        once = 0
        while time.monotonic() < stop:
            for _ in range(8):
                threads.start(lambda: store.append(KEY, [b"o"]))
                once += 1
            time.sleep(0.01)
        threads.join()
        assert not threads.errors
        assert store.head(KEY).tail == sum(counts) + once


@pytest.mark.parametrize("round_number", range(8))
def test_a_store_that_closes_leaves_no_caller_asleep(tmp_path: Path, round_number: int) -> None:
    with opened(tmp_path, WITHOUT_MARKS) as store:
        store.create(KEY)
        threads = Threads()
        counts = [0] * 32

        def loop(number: int) -> None:
            while True:
                try:
                    store.append(KEY, [b"x"])
                except StoreClosed:
                    return
                counts[number] += 1

        for number in range(len(counts)):
            threads.start(lambda number=number: loop(number))  # type: ignore[misc]
        time.sleep(0.02 + 0.01 * round_number)
        store.close()
        threads.join()
        assert not threads.errors
    with opened(tmp_path) as store:
        assert len(read_all(store, KEY)) == sum(counts)


def test_a_caller_that_is_interrupted_keeps_no_other_asleep(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(_signal: int, _frame: object) -> None:
        raise Interrupted

    storage = HookedStorage(tmp_path)
    with opened(tmp_path, WITHOUT_MARKS, storage=storage) as store:
        store.create(KEY)
        inbox = store._core.committer._inbox
        gate, held = hold_log(storage, PATIENCE_S)
        threads = Threads()
        threads.start(lambda: store.append(KEY, [b"first"]))
        assert held.wait(PATIENCE_S)
        for _ in range(4):
            threads.start(lambda: store.append(KEY, [b"before"]))
        until(lambda: len(inbox) == 4)

        def interrupt_the_fifth() -> None:
            until(lambda: len(inbox) == 5)
            os.kill(os.getpid(), signal.SIGALRM)

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            with pytest.raises(Interrupted):
                threads.start(interrupt_the_fifth)
                store.append(KEY, [b"interrupted"])
        finally:
            signal.signal(signal.SIGALRM, before)
        for _ in range(4):
            threads.start(lambda: store.append(KEY, [b"behind"]))
        until(lambda: len(inbox) == 9)
        gate.set()
        threads.join()
        assert not threads.errors
        assert sorted(read_all(store, KEY)) == sorted(
            [b"first", *[b"before"] * 4, b"interrupted", *[b"behind"] * 4]
        )


def test_a_caller_that_never_takes_its_turn_holds_up_no_other(tmp_path: Path) -> None:
    """Its thread may be gone: nothing of it runs any more."""
    with opened(tmp_path, WITHOUT_MARKS) as store:
        store.create(KEY)
        committer = store._core.committer
        with committer.commit_lock:  # so that all of them come into one group
            threads = Threads()
            for number in range(8):
                if number % 2:
                    threads.start(lambda: store.append(KEY, [b"x"]))
                    time.sleep(0.02)
                else:
                    committer.perform(Append(KEY, [b"gone"]), None, patient=True)
        threads.join()
        assert not threads.errors
        assert store.head(KEY).tail == 8


def test_who_is_interrupted_staging_for_others_leaves_none_asleep_and_the_log_whole(
    tmp_path: Path,
) -> None:
    def interrupted(_ordinal: int, _created_at_ms: int) -> list[bytes]:
        raise KeyboardInterrupt

    with opened(tmp_path, WITHOUT_MARKS) as store:
        store.create(KEY)
        committer = store._core.committer
        threads = Threads()
        with committer.commit_lock:
            (submitted,) = store.submit([Append(KEY, [b"submitted"])])
            for _ in range(8):
                threads.start(lambda: store.append(KEY, [b"dropped"]))
            until(lambda: len(committer._inbox) == 8)
            own = Ticket(None, None)
            assert committer._inbox.put((Append(KEY, interrupted), None, own))
            threads.start(lambda: store.append(KEY, [b"dropped"]))
            until(lambda: len(committer._inbox) == 10)
            with pytest.raises(KeyboardInterrupt):
                committer.commit()
        threads.join()
        assert [type(error) for error in threads.errors] == [Overloaded] * 9
        for ticket in (submitted, own):
            with pytest.raises(Overloaded):
                ticket.wait(PATIENCE_S)
        assert store.append(KEY, [b"behind"]).base == 0
    with opened(tmp_path) as store:
        assert read_all(store, KEY) == [b"behind"]


def test_callers_in_turn_are_told_that_the_log_is_poisoned(tmp_path: Path) -> None:
    storage = HookedStorage(tmp_path)
    with opened(tmp_path, SMALL, storage=storage) as store:
        keys = [StreamKey("bucket", f"s{number}") for number in range(32)]
        for key in keys:
            store.create(key)
        threads = Threads()

        def loop(key: StreamKey) -> None:
            while True:
                store.append(key, [b"x"])

        for key in keys:
            threads.start(lambda key=key: loop(key))  # type: ignore[misc]
        time.sleep(0.1)

        def hook(kind: str, name: str) -> None:
            if kind == "sync" and name.endswith(".segment"):
                raise OSError("the disk is gone")

        storage.hook = hook
        threads.join()
        assert len(threads.errors) == len(keys)
        assert all(isinstance(error, LogPoisoned) for error in threads.errors)
