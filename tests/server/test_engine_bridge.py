"""The engine's threads ↔ Trio: nothing lost, one hop for each group."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

import tailrace
from tailrace.operation import Append, CreateBucket, Delete, StreamKey, StreamOptions
from tailrace.outcome import Appended, Reason, Rejection
from tailrace_server.engine_bridge import EngineBridge

KEY = StreamKey("sessions", "s")
OPTIONS = StreamOptions(content_type="application/json")


def append(text: bytes = b"1") -> Append:
    return Append(KEY, [text], create=OPTIONS)


async def attached(store: tailrace.Store) -> EngineBridge:
    bridge = EngineBridge(store)
    bridge.attach()
    await bridge.perform(CreateBucket("sessions"))
    return bridge


async def test_outcomes_and_rejections_are_values(tmp_path: Path) -> None:
    with tailrace.open(tmp_path) as store:
        bridge = await attached(store)
        done = await bridge.perform(append())
        assert isinstance(done, Appended) and done.tail == 1
        again = await bridge.perform(CreateBucket("sessions"))
        assert isinstance(again, Rejection) and again.reason is Reason.BUCKET_EXISTS
        missing = await bridge.perform(Delete(StreamKey("sessions", "none")))
        assert isinstance(missing, Rejection)


async def test_a_store_without_threads_answers_too(tmp_path: Path) -> None:
    with tailrace.open(tmp_path, options=tailrace.Options(background=False)) as store:
        bridge = await attached(store)
        outcome = await bridge.perform(append())
        assert isinstance(outcome, Appended)


async def test_many_in_flight_are_answered_group_by_group(tmp_path: Path) -> None:
    with tailrace.open(tmp_path) as store:
        bridge = await attached(store)
        groups: list[int] = []
        hops: list[int] = []
        on_group, deliver = store.on_group, bridge._deliver
        assert on_group is not None

        def grouped(group: tailrace.Group) -> None:
            if group.tickets:  # else it is one that the store has made for itself
                groups.append(len(group.tickets))
            on_group(group)

        def delivered(tickets: list[tailrace.Ticket], stream_ids: set[int]) -> None:
            hops.append(len(tickets))
            deliver(tickets, stream_ids)

        store.on_group = grouped
        bridge._deliver = delivered  # type: ignore[method-assign,assignment]
        bases: list[int] = []

        async def write() -> None:
            for _ in range(10):
                outcome = await bridge.perform(append())
                assert isinstance(outcome, Appended)
                bases.append(outcome.base)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(write)
        assert sorted(bases) == list(range(500))
        # How many there are is for the disk to say.
        assert sum(groups) == 500
        assert hops == groups


async def test_cancelling_ends_the_wait_alone(tmp_path: Path) -> None:
    with tailrace.open(tmp_path) as store:
        bridge = await attached(store)
        with trio.CancelScope() as scope:
            scope.cancel()
            await bridge.perform(append())
        assert scope.cancelled_caught
        await bridge.perform(append())
        assert store.head(KEY).tail == 2


async def test_a_change_between_subscribing_and_waiting_is_remembered(tmp_path: Path) -> None:
    with tailrace.open(tmp_path) as store:
        bridge = await attached(store)
        await bridge.perform(append())
        stream_id = store.head(KEY).stream_id
        with bridge.subscribe(stream_id) as subscription:
            await bridge.perform(append())
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(5):
                await subscription.wait()
            with trio.move_on_after(0.05) as scope:
                await subscription.wait()
            assert scope.cancelled_caught
        assert not bridge.subscribers


async def test_only_readers_of_the_changed_stream_wake(tmp_path: Path) -> None:
    with tailrace.open(tmp_path) as store:
        bridge = await attached(store)
        await bridge.perform(append())
        with bridge.subscribe(store.head(KEY).stream_id + 1) as other:
            await bridge.perform(append())
            with trio.move_on_after(0.05) as scope:
                await other.wait()
            assert scope.cancelled_caught
            bridge.wake_all()
            with trio.fail_after(5):
                await other.wait()


async def test_tickets_of_others_are_left_alone(tmp_path: Path) -> None:
    with tailrace.open(tmp_path) as store:
        bridge = await attached(store)
        for context in (None, 7, "x", object()):
            (ticket,) = store.submit([append()], context=context)
            ticket.wait(5)
        outcome = await bridge.perform(append())
        assert isinstance(outcome, Appended)
        assert outcome.tail == 5


async def test_reads_far_back_run_in_a_thread(tmp_path: Path) -> None:
    with tailrace.open(tmp_path) as store:
        bridge = await attached(store)
        await bridge.perform(append())
        here = await bridge.read(KEY, 0, max_bytes=100)
        store.is_resident = lambda key, ordinal: False  # type: ignore[method-assign]
        there = await bridge.read(KEY, 0, max_bytes=100)
        assert bytes(here.payload) == bytes(there.payload) == b"1,"
        with pytest.raises(tailrace.Rejected):
            await bridge.read(StreamKey("sessions", "none"), 0, max_bytes=100)


def test_a_group_after_the_loop_ended_is_no_error(tmp_path: Path) -> None:
    with tailrace.open(tmp_path) as store:
        trio.run(attached, store)
        store.append(KEY, [b"1"], create=OPTIONS)
        assert store.head(KEY).tail == 1
