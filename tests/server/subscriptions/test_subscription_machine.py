"""The rules of wakes, leases and cursors (protocol section 7), without any I/O."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tailrace_server.protocol import subscription_machine as machine
from tailrace_server.protocol.subscription_error import SubscriptionError
from tailrace_server.protocol.subscription_machine import Ack, Moment, Tail, Wanted
from tailrace_server.protocol.subscription_state import (
    Config,
    Ended,
    Event,
    Failed,
    Kind,
    Link,
    State,
    Whole,
    apply,
    decode,
    encode,
    whole,
)

LEASE_MS = 1000
PATHS = ["events/a", "events/b", "named", "other/c"]


def config(kind: Kind = "webhook", pattern: str | None = "events/*") -> Config:
    url = "https://worker.example/" if kind == "webhook" else None
    wake_stream = None if kind == "webhook" else "wake/pool"
    return Config(kind, pattern, (), url, wake_stream, LEASE_MS, None)


def made(kind: Kind = "webhook", links: dict[str, Link] | None = None) -> State:
    return apply(None, Whole(config(kind), "n", "http://host", 0, links or {}))


def after(state: State, events: list[Event]) -> State:
    for event in events:
        state = apply(state, decode(encode(event)))
    return state


def at(now_ms: int, wake_id: str = "w", jitter: float = 0.0) -> Moment:
    return Moment(now_ms, wake_id, jitter)


TAILS = {"events/a": Tail(1, 3)}
NO_TAILS: dict[str, Tail] = {}


def woken(kind: Kind = "webhook", now_ms: int = 0, wake_id: str = "w1") -> State:
    return after(made(kind), machine.tick(made(kind), at(now_ms, wake_id), TAILS, TAILS.get))


# ---- leases and retries ----------------------------------------------------------------


def test_7_3_a_webhook_lease_starts_with_the_wake_and_a_claim_s_with_the_claim() -> None:
    wake = woken().wake
    assert wake is not None
    assert (wake.generation, wake.until_ms, wake.stream) == (1, LEASE_MS, "events/a")
    state = woken("pull-wake")
    assert state.wake is not None
    assert state.wake.until_ms is None
    events, refusal = machine.claim(state, "me", at(500), TAILS, TAILS.get)
    claimed = after(state, events).wake
    assert refusal is None
    assert claimed is not None
    assert (claimed.id, claimed.holder, claimed.until_ms) == ("w1", "me", 500 + LEASE_MS)


def test_7_3_a_lease_that_ran_out_wakes_again_with_the_next_generation() -> None:
    state = woken("pull-wake")
    state = after(state, machine.claim(state, "me", at(0), TAILS, TAILS.get)[0])
    assert machine.deadline(state, 0) == LEASE_MS
    assert machine.tick(state, at(LEASE_MS - 1), TAILS, TAILS.get) == []
    state = after(state, machine.tick(state, at(LEASE_MS, "w2"), TAILS, TAILS.get))
    assert state.wake is not None
    assert (state.wake.id, state.wake.generation, state.wake.holder) == ("w2", 2, None)
    assert machine.wanted(state, LEASE_MS) is Wanted.ANNOUNCE


def test_7_3_a_lease_that_ran_out_fences_even_before_anybody_noticed() -> None:
    with pytest.raises(SubscriptionError) as refused:
        machine.acknowledge(woken(), ("w1", 1), [], at(LEASE_MS), TAILS, TAILS.get, done=True)
    assert refused.value.type == "FENCED"


def test_7_1_retries_back_off_from_1_to_60_seconds_with_20_percent_jitter() -> None:
    state = woken()
    for expected_s in (1, 2, 4, 8, 16, 32, 60, 60):
        for jitter in (-1.0, 0.0, 1.0):
            (event,) = machine.failed(state, "w1", at(0, jitter=jitter))
            assert isinstance(event, Failed)
            assert event.retry_at_ms == round(expected_s * 1000 * (1 + 0.2 * jitter))
        state = apply(state, event)
    state = replace(state, retries=10_000)
    (event,) = machine.failed(state, "w1", at(0))
    assert isinstance(event, Failed)
    assert event.retry_at_ms == 60_000


def test_7_1_a_retry_is_waited_for_though_the_lease_runs_out_meanwhile() -> None:
    state = replace(woken(), retries=3)
    state = after(state, machine.failed(state, "w1", at(0)))
    assert machine.wanted(state, 1) is None
    state = after(state, machine.tick(state, at(LEASE_MS, "w2"), TAILS, TAILS.get))
    assert state.wake is None
    assert state.retry_at_ms == 8000
    assert machine.deadline(state, LEASE_MS) == 8000
    assert machine.tick(state, at(7999, "w2"), TAILS, TAILS.get) == []
    state = after(state, machine.tick(state, at(8000, "w2"), TAILS, TAILS.get))
    assert state.generation == 2
    assert machine.wanted(state, 8000) is Wanted.DELIVER


def test_7_1_a_webhook_that_never_answers_counts_as_a_failure() -> None:
    events = machine.tick(woken(), at(LEASE_MS, "w2"), TAILS, TAILS.get)
    assert events == [Ended(), Failed(1, LEASE_MS + 1000)]


# ---- cursors ---------------------------------------------------------------------------


def test_7_1_done_acknowledges_what_was_told_and_wakes_for_what_came_after() -> None:
    later = {"events/a": Tail(1, 5)}
    events = machine.delivered(woken(), "w1", TAILS, at(9, "w2"), later, later.get)
    state = after(woken(), events)
    assert state.links["events/a"] == Link(False, 1, 3)
    assert state.wake is not None
    assert (state.wake.id, state.wake.generation) == ("w2", 2)


def test_7_1_the_answer_to_a_wake_that_is_over_changes_nothing() -> None:
    assert machine.delivered(woken(), "w0", TAILS, at(9), TAILS, TAILS.get) == []
    assert machine.failed(woken(), "w0", at(9)) == []


@pytest.mark.parametrize("wake", [("w0", 1), ("w1", 0), ("w1", 2), (None, 1), ("w1", None)])
def test_7_3_another_wake_or_generation_is_fenced(wake: tuple[str | None, int | None]) -> None:
    state = woken("pull-wake")
    state = after(state, machine.claim(state, "me", at(0), TAILS, TAILS.get)[0])
    with pytest.raises(SubscriptionError) as refused:
        machine.acknowledge(state, wake, [], at(1), TAILS, TAILS.get, done=True)
    assert refused.value.type == "FENCED"
    with pytest.raises(SubscriptionError):
        machine.release(state, wake, at(1), TAILS, TAILS.get)


@pytest.mark.parametrize("ack", [Ack("events/a", 4), Ack("events/b", 0), Ack("elsewhere", 0)])
def test_7_2_an_ack_beyond_the_tail_or_of_no_stream_moves_nothing(ack: Ack) -> None:
    with pytest.raises(SubscriptionError) as refused:
        machine.acknowledge(
            woken(),
            ("w1", 1),
            [Ack("events/a", 1), ack],
            at(1),
            TAILS,
            TAILS.get,
            done=False,
        )
    assert refused.value.type == "INVALID_OFFSET"


def test_7_2_a_cursor_does_not_go_back() -> None:
    state = after(
        woken(),
        machine.acknowledge(
            woken(), ("w1", 1), [Ack("events/a", 2)], at(1), TAILS, TAILS.get, done=False
        ),
    )
    assert state.wake is not None
    assert state.wake.until_ms == 1 + LEASE_MS
    with pytest.raises(SubscriptionError):
        machine.acknowledge(
            state, ("w1", 1), [Ack("events/a", 1)], at(2), TAILS, TAILS.get, done=False
        )


def test_6_1_a_stream_that_was_made_again_starts_over() -> None:
    state = made(links={"events/a": Link(False, 1, 3)})
    assert not machine.is_pending(state, "events/a", TAILS.get)
    assert machine.is_pending(state, "events/a", {"events/a": Tail(2, 1)}.get)
    assert not machine.is_pending(state, "events/a", NO_TAILS.get)


def test_6_1_removing_the_explicit_link_keeps_the_glob_link_and_its_cursor() -> None:
    state = made(links={"events/a": Link(True, 1, 3), "named": Link(True, 2, 1)})
    for path in ("events/a", "named", "absent"):
        state = after(state, machine.unlink(state, path))
    assert machine.link_of(state, "events/a") == Link(False, 1, 3)
    assert machine.link_of(state, "named") is None


def test_7_2_a_claim_of_what_is_gone_does_not_keep_the_next_wake_back() -> None:
    state = woken("pull-wake")
    events, refusal = machine.claim(state, "me", at(1), ["events/a"], NO_TAILS.get)
    assert refusal is not None
    assert refusal.type == "NO_PENDING_WORK"
    assert after(state, events).wake is None


def test_7_2_a_wake_stream_does_not_wake_its_own_subscription() -> None:
    state = apply(None, Whole(config("pull-wake", "**"), "n", "", 0, {}))
    assert machine.link_of(state, "wake/pool") is None
    assert machine.link_of(state, "wake/other") is not None


def test_a_record_that_nobody_wrote_is_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode(b'{"type":"unheard-of"}')
    with pytest.raises(ValueError, match="first record"):
        apply(None, Ended())


# ---- any order of events ---------------------------------------------------------------


class Subscriptions(RuleBasedStateMachine):
    """Commands in any order, with a crash between any two: the state is read from the records."""

    kind: Kind = "webhook"

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.wakes = 0
        self.tails: dict[str, Tail] = {}
        self.incarnations = 0
        self.records = [encode(Whole(config(self.kind), "n", "", 0, {"named": Link(True, 0, 0)}))]
        self.state = apply(None, decode(self.records[0]))
        self.claimed: tuple[str, int] | None = None
        self.ended: set[tuple[str, int]] = set()

    def moment(self) -> Moment:
        self.wakes += 1
        return Moment(self.now_ms, f"w{self.wakes}", 0.5)

    def commit(self, events: list[Event]) -> None:
        before = self.state
        for event in events:
            self.state = apply(self.state, event)
            self.records.append(encode(event))
        if before.wake is not None and (
            self.state.wake is None or self.state.wake.id != before.wake.id
        ):
            self.ended.add((before.wake.id, before.wake.generation))
        assert self.state.generation >= before.generation
        for path, link in before.links.items():
            new = self.state.links.get(path)
            if new is not None and new.stream_id == link.stream_id:
                assert new.acked >= link.acked

    def tick(self) -> None:
        self.commit(machine.tick(self.state, self.moment(), PATHS, self.tails.get))

    @rule(path=st.sampled_from(PATHS))
    def append(self, path: str) -> None:
        tail = self.tails.get(path)
        if tail is None:
            self.incarnations += 1
            tail = Tail(self.incarnations, 0)
        self.tails[path] = Tail(tail.stream_id, tail.ordinal + 1)

    @rule(path=st.sampled_from(PATHS))
    def remove(self, path: str) -> None:
        self.tails.pop(path, None)

    @rule(by_ms=st.sampled_from([1, 500, 1000, 70_000]))
    def wait(self, by_ms: int) -> None:
        self.now_ms += by_ms

    @rule()
    def look(self) -> None:
        self.tick()

    @rule()
    def crash(self) -> None:
        state: State | None = None
        for record in self.records:
            state = apply(state, decode(record))
        assert state == self.state

    @rule()
    def compact(self) -> None:
        self.records = [encode(whole(self.state))]

    @rule(path=st.sampled_from(PATHS), add=st.booleans())
    def membership(self, path: str, add: bool) -> None:
        if add:
            self.commit(machine.link(self.state, [path], self.tails.get))
        else:
            self.commit(machine.unlink(self.state, path))

    @rule(done=st.booleans(), works=st.booleans())
    def answer(self, done: bool, works: bool) -> None:
        if machine.wanted(self.state, self.now_ms) is Wanted.DELIVER and self.state.wake:
            wake, told = self.state.wake.id, dict(self.tails)
            events = (
                machine.delivered(
                    self.state, wake, told if done else None, self.moment(), PATHS, self.tails.get
                )
                if works
                else machine.failed(self.state, wake, self.moment())
            )
            self.commit(events)

    @rule()
    def claim(self) -> None:
        events, refusal = machine.claim(self.state, "me", self.moment(), PATHS, self.tails.get)
        self.commit(events)
        assert (refusal is None) == (events != [] and type(events[-1]).__name__ == "Claimed")

    @rule(path=st.sampled_from(PATHS), back=st.integers(-1, 3), done=st.booleans())
    def acknowledge(self, path: str, back: int, done: bool) -> None:
        if self.state.wake is None:
            return
        wake, before = self.state.wake, self.state
        tail = self.tails.get(path, Tail(0, 0))
        ack = Ack(path, max(0, tail.ordinal - back))
        try:
            events = machine.acknowledge(
                before,
                (wake.id, wake.generation),
                [ack],
                self.moment(),
                PATHS,
                self.tails.get,
                done=done,
            )
        except SubscriptionError:
            return
        assert wake.until_ms is not None
        assert self.now_ms < wake.until_ms
        assert ack.ordinal <= tail.ordinal
        self.commit(events)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def stale(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(sorted(self.ended)))
        with pytest.raises(SubscriptionError):
            machine.acknowledge(
                self.state, old, [], self.moment(), PATHS, self.tails.get, done=True
            )

    @invariant()
    def no_wake_is_lost(self) -> None:
        """Once what is due was done, work that is pending has a wake or a time to get one."""
        state = self.state
        for event in machine.tick(state, self.moment(), PATHS, self.tails.get):
            state = apply(state, event)
        if any(machine.is_pending(state, path, self.tails.get) for path in PATHS):
            waits = state.retry_at_ms is not None and state.retry_at_ms > self.now_ms
            assert state.wake is not None or waits
            assert (
                machine.wanted(state, self.now_ms) is not None
                or machine.deadline(state, self.now_ms) is not None
            )


class PullWakes(Subscriptions):
    kind: Kind = "pull-wake"


TestWebhooks = Subscriptions.TestCase
TestPullWakes = PullWakes.TestCase
