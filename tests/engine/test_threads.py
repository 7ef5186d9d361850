"""Many threads on the real disk: nothing lost, nothing out of order, nobody left waiting."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import tailrace
from tailrace import (
    Append,
    Appended,
    InvalidArgument,
    Options,
    Producer,
    Reason,
    Rejected,
    Rejection,
    StreamKey,
    StreamOptions,
    Ticket,
)
from tests.effort import lengthened
from tests.engine.hooked_storage import HookedStorage, hold_log
from tests.engine.thread_lab import KEY, PATIENCE_S, callbacks_are_over, in_threads, opened
from tests.engine.workload import read_all

# ---- writers


def test_50_first_appends_at_once_all_succeed(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for round_number in range(10):
            key = StreamKey("bucket", f"new{round_number}")
            barrier = threading.Barrier(50)

            def first(number: int, key: StreamKey = key, barrier: Any = barrier) -> Appended:
                barrier.wait(PATIENCE_S)
                return store.append(key, [b"%d" % number], create=StreamOptions("text/plain"))

            made = in_threads(*(lambda n=n: first(n) for n in range(50)))
            assert sorted(appended.base for appended in made) == list(range(50))
            assert sum(appended.created for appended in made) == 1
            records = read_all(store, key)
            for number, appended in enumerate(made):
                assert records[appended.base] == b"%d" % number


def test_blocking_writers_all_get_their_answer(tmp_path: Path) -> None:
    """Leaders and followers: no append waits for a commit that nobody makes."""
    options = Options(segment_bytes=256 * 1024, mark_idle_s=None)
    with opened(tmp_path, options) as store:
        store.create(KEY)
        stop = time.monotonic() + lengthened(3)

        def write(number: int) -> int:
            dice = random.Random(number)
            count = 0
            while time.monotonic() < stop:
                outcome = store.perform(Append(KEY, [b"%d:%d" % (number, count)]), PATIENCE_S)
                assert isinstance(outcome, Appended)
                count += 1
                if dice.random() < 0.05:
                    time.sleep(dice.random() * 0.002)
            return count

        counts = in_threads(*(lambda n=n: write(n) for n in range(4)))
        records = read_all(store, KEY, page_bytes=1 << 20)
        for number, count in enumerate(counts):
            prefix = b"%d:" % number
            own = [record for record in records if record.startswith(prefix)]
            assert own == [b"%d:%d" % (number, n) for n in range(count)]


def test_one_blocking_writer_at_a_time_never_stalls(tmp_path: Path) -> None:
    """Two threads in turn: the one must not leave the other's batch behind as it stops."""
    with opened(tmp_path, Options(segment_bytes=1 << 20, mark_idle_s=None)) as store:
        store.create(KEY)
        stop = time.monotonic() + lengthened(2)

        def submit_and_wait() -> None:
            while time.monotonic() < stop:
                (ticket,) = store.submit([Append(KEY, [b"a"])])
                ticket.wait(PATIENCE_S)

        def perform() -> None:
            while time.monotonic() < stop:
                store.perform(Append(KEY, [b"b"]), 20.0)

        in_threads(submit_and_wait, perform)


def test_writers_and_readers_together(tmp_path: Path) -> None:
    """Readers see a prefix that only grows, each record as it was acknowledged."""
    keys = [StreamKey("bucket", f"s{n}") for n in range(3)]
    with opened(tmp_path) as store:
        for key in keys:
            store.create(key, content_type="application/json", searchable=True)
        done = threading.Event()

        def write(number: int) -> None:
            dice = random.Random(number)
            producer = [0, 0, 0]
            for _ in range(300):
                at = dice.randrange(3)
                size = dice.choice((0, 10, 500))
                tickets = store.submit(
                    [
                        Append(
                            keys[at],
                            lambda base, now_ms: [b"[%d]" % base, b"[%d]" % (base + 1)],
                            producer=Producer(f"w{number}", 0, producer[at]),
                        ),
                        Append(keys[dice.randrange(3)], [b'"' + b"x" * size + b'"']),
                    ]
                )
                producer[at] += 1
                for ticket in tickets:
                    assert isinstance(ticket.wait(PATIENCE_S), Appended)

        def read(number: int) -> None:
            dice = random.Random(number)
            seen: dict[StreamKey, list[bytes]] = {key: [] for key in keys}
            while True:
                last = done.is_set()
                for key in keys:
                    known = seen[key]
                    start = dice.randint(0, len(known))
                    page = store.read(key, start, max_bytes=dice.choice((1, 100, 100_000)))
                    got = [bytes(record) for record in page.records()]
                    assert page.first == start
                    overlap = known[start : start + len(got)]
                    assert got[: len(overlap)] == overlap
                    seen[key] = known[:start] + got if len(got) > len(overlap) else known
                    for ordinal, record in enumerate(seen[key]):
                        if record.startswith(b"["):
                            assert record == b"[%d]" % ordinal
                if last:
                    return

        writers = [lambda n=n: write(n) for n in range(3)]
        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read, n) for n in range(3)]
            in_threads(*writers)
            done.set()
            for reader in readers:
                reader.result(PATIENCE_S)
        assert sum(len(read_all(store, key)) for key in keys) == 3 * 300 * 3
    with opened(tmp_path) as store:
        assert sum(len(read_all(store, key)) for key in keys) == 3 * 300 * 3


def test_readers_of_streams_that_are_trimmed_and_deleted_get_data_or_a_reason(
    tmp_path: Path,
) -> None:
    """Segments are reclaimed under readers; a reader sees right bytes or a rejection."""
    keys = [StreamKey("bucket", f"s{n}") for n in range(4)]
    options = Options(segment_bytes=64 * 1024, checkpoint_every_bytes=20 * 1024)
    with opened(tmp_path, options) as store:
        done = threading.Event()
        served = [threading.Event() for _ in range(3)]
        patience_ends = time.monotonic() + PATIENCE_S

        def write() -> None:
            dice = random.Random(1)
            for round_number in count():
                if round_number >= 150 and all(event.is_set() for event in served):
                    break
                assert time.monotonic() < patience_ends, "a reader got nothing"
                key = keys[round_number % 4]
                outcome = store.perform(
                    Append(
                        key,
                        lambda base, now_ms: [b"%d." % n * 300 for n in range(base, base + 12)],
                        create=StreamOptions("text/plain"),
                    )
                )
                assert isinstance(outcome, Appended)
                if dice.random() < 0.5:
                    start = max(store.head(key).start, outcome.tail - dice.randint(0, 20))
                    store.trim(key, start)
                if dice.random() < 0.1:
                    store.delete(key)
            done.set()

        def read(number: int) -> None:
            dice = random.Random(number)
            while not done.is_set():
                key = dice.choice(keys)
                try:
                    head = store.head(key)
                    page = store.read(key, dice.randint(head.start, head.tail), max_bytes=50_000)
                except Rejected as error:
                    if error.rejection.reason in (Reason.STREAM_NOT_FOUND, Reason.TRIMMED):
                        continue
                    raise
                for ordinal, record in zip(
                    range(page.first, page.next), page.records(), strict=True
                ):
                    assert bytes(record) == b"%d." % ordinal * 300
                if page.count:
                    served[number].set()

        in_threads(write, *(lambda n=n: read(n) for n in range(3)))


def test_tickets_and_groups_are_called_back_exactly_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        lock = threading.Lock()
        done: dict[int, int] = {}
        grouped: dict[int, int] = {}

        def on_done(ticket: Ticket) -> None:
            assert ticket.done
            assert ticket.context == "mine"
            with lock:
                done[id(ticket)] = done.get(id(ticket), 0) + 1

        def on_group(group: tailrace.Group) -> None:
            for ticket in group.tickets:
                assert ticket.done
                with lock:
                    grouped[id(ticket)] = grouped.get(id(ticket), 0) + 1

        store.on_group = on_group
        kept: list[Ticket] = []

        def write(number: int) -> None:
            dice = random.Random(number)
            for n in range(200):
                key = StreamKey("bucket", f"s{dice.randrange(5)}")
                operations = [
                    Append(key, [b"x"], create=StreamOptions()),
                    Append(key, [b"x"], expected_ordinal=10**9),
                    Append(StreamKey("bucket", "none"), [b"x"]),
                    Append(
                        key, [b"y"], producer=Producer(f"p{number}", n, 0), create=StreamOptions()
                    ),
                ][: dice.randint(1, 4)]
                tickets = store.submit(operations, on_done, "mine")
                assert len(tickets) == len(operations)
                with lock:
                    kept.extend(tickets)
                if dice.random() < 0.3:
                    tickets[-1].wait(PATIENCE_S)

        in_threads(*(lambda n=n: write(n) for n in range(4)))
        for ticket in kept:
            ticket.wait(PATIENCE_S)
        store.perform(Append(KEY, [b"last"], create=StreamOptions()))
    assert set(done) == {id(ticket) for ticket in kept}
    assert set(done.values()) == {1}
    assert set(done) <= set(grouped)
    assert set(grouped.values()) == {1}


def test_operations_of_many_callers_succeed_and_fail_apart(tmp_path: Path) -> None:
    grouped: list[Ticket] = []
    with opened(tmp_path) as store:
        store.create(KEY)
        store.on_group = lambda group: grouped.extend(group.tickets)
        good = Append(KEY, [b"x"])
        invalid = Append(KEY, [b"y"], stream_seq="")
        missing = Append(StreamKey("bucket", "none"), [b"z"])
        tickets = store.submit_each([good, invalid, missing, good], ["a", "b", "c", "d"])
        with pytest.raises(InvalidArgument, match="stream_seq"):
            tickets[1].wait(PATIENCE_S)
        outcomes = [tickets[n].wait(PATIENCE_S) for n in (0, 2, 3)]
        assert isinstance(outcomes[1], Rejection)
        assert [ticket.context for ticket in tickets] == ["a", "b", "c", "d"]
        assert store.read(KEY, 0).payload == b"xx"
        with pytest.raises(ValueError, match="one for each operation"):
            store.submit_each([good], [])
        callbacks_are_over(store)
        store.on_group = None
    assert sorted(str(ticket.context) for ticket in grouped) == ["a", "b", "c", "d"]


def test_a_patient_caller_commits_itself_while_syncs_are_quick(tmp_path: Path) -> None:
    committing: list[int] = []
    here = threading.get_ident()
    with opened(tmp_path) as store:
        store.create(KEY)
        store.on_group = lambda _: committing.append(threading.get_ident())

        def submit(patience_s: float) -> set[int]:
            committing.clear()
            for _ in range(20):
                callbacks_are_over(store)  # and who committed last is not at it any more
                (ticket,) = store.submit_each([Append(KEY, [b"x"])], [None], patience_s=patience_s)
                ticket.wait(PATIENCE_S)
            return set(committing)

        assert here not in submit(0.0)
        assert here not in submit(1e-9)  # no sync is that quick
        assert here in submit(1000.0)
        store.on_group = None
        assert store.head(KEY).tail == 60


def test_a_rejection_waits_for_the_state_it_reveals(tmp_path: Path) -> None:
    storage = HookedStorage(tmp_path)
    with opened(tmp_path, storage=storage) as store:
        store.create(KEY)
        gate, held = hold_log(storage, PATIENCE_S)
        closing, refused, duplicate = store.submit(
            [
                Append(KEY, [b"x"], producer=Producer("p", 0, 0), close=True),
                Append(KEY, [b"y"]),
                Append(KEY, [b"x"], producer=Producer("p", 0, 0), close=True),
            ]
        )
        assert held.wait(PATIENCE_S)
        (later,) = store.submit([Append(KEY, [b"z"])])
        try:
            for ticket in (closing, refused, duplicate, later):
                assert not ticket.done
                with pytest.raises(TimeoutError):
                    ticket.wait(0.05)
            head = store.head(KEY)
            assert (head.tail, head.closed) == (0, False)
            assert store.read(KEY, 0).count == 0
            assert store.wait(KEY, 0, 0.05) is False
        finally:
            gate.set()
        assert isinstance(closing.wait(PATIENCE_S), Appended)
        outcome = refused.wait(PATIENCE_S)
        assert isinstance(outcome, Rejection)
        assert (outcome.reason, outcome.tail) == (Reason.STREAM_CLOSED, 1)
        assert duplicate.wait(PATIENCE_S).duplicate  # type: ignore[union-attr]
        later.wait(PATIENCE_S)
        assert store.head(KEY).closed


# ---- waiting


def test_wait_wakes_for_data_closure_and_deletion(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.create(KEY)
        assert store.wait(KEY, 0, 0.01) is False
        changes = [
            lambda: store.append(KEY, [b"x"]),
            lambda: store.append(KEY, [b"y"]),
            lambda: store.close_stream(KEY),
        ]
        for ordinal, change in enumerate(changes):
            waiters = [lambda o=ordinal: store.wait(KEY, o, PATIENCE_S) for _ in range(5)]
            assert in_threads(*waiters, change)[:5] == [True] * 5
        assert store.wait(KEY, 2, PATIENCE_S) is True, "a closed stream has nothing to wait for"
        other = StreamKey("bucket", "other")
        store.create(other)
        assert in_threads(lambda: store.wait(other, 0, PATIENCE_S), lambda: store.delete(other))[0]
        with pytest.raises(Rejected):
            store.wait(other, 0, 0.01)


def test_closing_the_store_lets_waiters_go(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.create(KEY)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(store.wait, KEY, 0, PATIENCE_S)
            time.sleep(0.05)
            store.close()
            waiting.result(PATIENCE_S)


@pytest.mark.parametrize("atomic", [True, False])
def test_a_live_reader_gets_the_last_append_before_the_close(tmp_path: Path, atomic: bool) -> None:
    with opened(tmp_path) as store:
        for number in range(40):
            key = StreamKey("bucket", f"live{number}")
            store.create(key)

            def follow(key: StreamKey = key) -> list[bytes]:
                got: list[bytes] = []
                while True:
                    page = store.read(key, len(got), max_bytes=1)
                    got += [bytes(record) for record in page.records()]
                    if page.closed and page.up_to_date:
                        return got
                    if page.up_to_date:
                        assert store.wait(key, len(got), PATIENCE_S)

            def write(key: StreamKey = key) -> None:
                store.append(key, [b"1"])
                if atomic:
                    store.append(key, [b"2", b"3"], close=True)
                else:
                    store.submit([Append(key, [b"2", b"3"]), Append(key, close=True)])

            assert in_threads(follow, write)[0] == [b"1", b"2", b"3"]
