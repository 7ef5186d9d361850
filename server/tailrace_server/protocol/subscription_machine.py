"""The rules of subscriptions: (state, command, now) → events, without effects.

Commands return the events to append; the new state is those events applied. What has to be
done in the world (deliver a webhook, write a wake event) is no answer to a command but a
function of the state, :func:`wanted`: so a server that was killed between any two steps
knows, from what is on disk, what is left to do. Every such thing may be done twice and is
recognized: a webhook by its wake id, a wake event by its producer epoch.

Times are milliseconds since the Unix epoch.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tailrace_server.protocol.subscription_error import (
    ALREADY_CLAIMED,
    INVALID_OFFSET,
    NO_PENDING_WORK,
    SubscriptionError,
    fenced,
    invalid,
)
from tailrace_server.protocol.subscription_glob import glob_match
from tailrace_server.protocol.subscription_state import (
    Acked,
    Claimed,
    Delivered,
    Ended,
    Event,
    Extended,
    Failed,
    Link,
    Linked,
    State,
    Unlinked,
    Wake,
    Woken,
    apply,
)

RETRY_MS_MIN: Final = 1_000
RETRY_MS_MAX: Final = 60_000
RETRY_JITTER: Final = 0.2
_DOUBLINGS_MAX: Final = 16

assert RETRY_MS_MIN << _DOUBLINGS_MAX >= RETRY_MS_MAX


class Tail(NamedTuple):
    """A live stream's incarnation, and the ordinal its next record gets."""

    stream_id: int
    ordinal: int


Tails = Callable[[str], Tail | None]
"""A stream's tail by its name; None if there is no such stream."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What a command cannot make up itself: the time, a fresh wake id, a number in [-1, 1]."""

    now_ms: int
    wake_id: str
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Ack:
    """A worker's claim to be done with ``path`` before ``ordinal``."""

    path: str
    ordinal: int


class Wanted(enum.Enum):
    """What the state asks the world for."""

    DELIVER = "deliver"
    ANNOUNCE = "announce"


# ---- what the state means --------------------------------------------------------------


def matches(state: State, path: str) -> bool:
    """Whether the pattern has ``path``. A wake stream never wakes its own subscription."""
    config = state.config
    if config.pattern is None or path == config.wake_stream:
        return False
    return glob_match(config.pattern, path)


def link_of(state: State, path: str) -> Link | None:
    """The link of ``path``; None if it is no stream of this subscription."""
    link = state.links.get(path)
    if link is None and matches(state, path):
        return Link(False, 0, 0)
    return link


def acked(link: Link, tail: Tail | None) -> int:
    """What is processed of the stream as it is now: nothing of one that was made again."""
    if tail is None:
        return link.acked
    return link.acked if link.stream_id == tail.stream_id else 0


def is_pending(state: State, path: str, tails: Tails) -> bool:
    link, tail = link_of(state, path), tails(path)
    return link is not None and tail is not None and tail.ordinal > acked(link, tail)


def wanted(state: State, now_ms: int) -> Wanted | None:
    """What is to be done now, if it is not being done already."""
    wake = state.wake
    if wake is None:
        return None
    if state.config.type == "pull-wake":
        return Wanted.ANNOUNCE if wake.holder is None else None
    if wake.delivered or _waits_for_retry(state, now_ms):
        return None
    return Wanted.DELIVER


def is_undelivered(state: State) -> bool:
    """Whether a webhook is to be called, now or after a pause."""
    if state.config.type != "webhook":
        return False
    return state.retry_at_ms is not None or (state.wake is not None and not state.wake.delivered)


def deadline(state: State, now_ms: int) -> int | None:
    """When :func:`tick` has something to do next even if nothing happens; None for never."""
    times = [state.retry_at_ms, None if state.wake is None else state.wake.until_ms]
    return min((time for time in times if time is not None and time > now_ms), default=None)


def _waits_for_retry(state: State, now_ms: int) -> bool:
    return state.retry_at_ms is not None and now_ms < state.retry_at_ms


# ---- commands --------------------------------------------------------------------------


def tick(state: State, moment: Moment, candidates: Iterable[str], tails: Tails) -> list[Event]:
    """Time has passed, or a stream has changed.

    ``candidates`` are the paths that may have pending work.
    """
    events: list[Event] = []
    wake = state.wake
    if wake is not None and wake.until_ms is not None and moment.now_ms >= wake.until_ms:
        events.append(Ended())
        if (
            state.config.type == "webhook"
            and not wake.delivered
            and not _waits_for_retry(state, moment.now_ms)
        ):
            # Nobody answered in all of the lease: as good as a failed delivery.
            events.append(_failure(state, moment))
    return _and_next(state, events, moment, candidates, tails)


def link(state: State, paths: Sequence[str], tails: Tails) -> list[Event]:
    """Add streams by name, at their current tails; those already there stay where they are."""
    links = {}
    for path in paths:
        old = link_of(state, path)
        if path in state.links and state.links[path].explicit:
            continue
        if old is not None:
            links[path] = Link(True, old.stream_id, old.acked)
        else:
            links[path] = link_at(tails(path))
    return [Linked(links)] if links else []


def link_at(tail: Tail | None) -> Link:
    """A link made by name, that starts at the tail: what is there is not replayed."""
    return Link(True, 0, 0) if tail is None else Link(True, tail.stream_id, tail.ordinal)


def unlink(state: State, path: str) -> list[Event]:
    """Take back what :func:`link` did; a stream that the pattern matches stays."""
    found = state.links.get(path)
    if found is None or not found.explicit:
        return []
    return [Unlinked(path, matches(state, path))]


def claim(
    state: State, worker: str, moment: Moment, candidates: Iterable[str], tails: Tails
) -> tuple[list[Event], SubscriptionError | None]:
    """A worker takes the wake. With a refusal there may be events too."""
    if state.config.type != "pull-wake":
        return [], invalid("only a pull-wake subscription can be claimed")
    paths = list(candidates)
    events = tick(state, moment, paths, tails)
    state = _after(state, events)
    wake = state.wake
    if wake is not None and wake.holder is not None:
        return events, SubscriptionError(
            ALREADY_CLAIMED,
            f"worker {wake.holder!r} holds the lease",
            current_holder=wake.holder,
            generation=wake.generation,
        )
    if wake is None or _first_pending(state, paths, tails) is None:
        if wake is not None:
            # What it was for is gone. Left in flight, it would keep the next one back.
            events.append(Ended())
        return events, SubscriptionError(NO_PENDING_WORK, "nothing is pending")
    events.append(Claimed(worker, moment.now_ms + state.config.lease_ttl_ms))
    return events, None


def acknowledge(
    state: State,
    wake: tuple[str | None, int | None],
    acks: Sequence[Ack],
    moment: Moment,
    candidates: Iterable[str],
    tails: Tails,
    *,
    done: bool,
) -> list[Event]:
    """A callback or an ack of the wake (id, generation): cursors move, the lease is extended,
    or ends with ``done``. Raises :class:`SubscriptionError`; then nothing has moved.
    """
    current = _fence(state, wake, moment)
    moved: dict[str, tuple[int, int]] = {}
    for ack in acks:
        found, tail = link_of(state, ack.path), tails(ack.path)
        if found is None:
            raise _bad_offset(ack, "is no stream of this subscription")
        if tail is None:
            raise _bad_offset(ack, "does not exist")
        before = moved[ack.path][1] if ack.path in moved else acked(found, tail)
        if ack.ordinal < before:
            raise _bad_offset(ack, "is acknowledged beyond that already")
        if ack.ordinal > tail.ordinal:
            raise _bad_offset(ack, "ends before that")
        moved[ack.path] = (tail.stream_id, ack.ordinal)
    events: list[Event] = []
    if state.config.type == "webhook" and not current.delivered:
        events.append(Delivered())
    if moved:
        events.append(Acked(moved))
    if not done:
        events.append(Extended(moment.now_ms + state.config.lease_ttl_ms))
        return events
    events.append(Ended())
    return _and_next(state, events, moment, candidates, tails)


def release(
    state: State,
    wake: tuple[str | None, int | None],
    moment: Moment,
    candidates: Iterable[str],
    tails: Tails,
) -> list[Event]:
    """A worker gives the lease back; what is pending wakes another one."""
    _fence(state, wake, moment)
    return _and_next(state, [Ended()], moment, candidates, tails)


def delivered(
    state: State,
    wake_id: str,
    done: Mapping[str, Tail] | None,
    moment: Moment,
    candidates: Iterable[str],
    tails: Tails,
) -> list[Event]:
    """The webhook answered 2xx; ``done`` are the tails it was told of, if it is done with them."""
    if state.wake is None or state.wake.id != wake_id:
        return []
    events: list[Event] = [Delivered()]
    if done is None:
        return events
    moved = {}
    for path, tail in done.items():
        found = link_of(state, path)
        if found is not None and tail.ordinal > acked(found, tail):
            moved[path] = (tail.stream_id, tail.ordinal)
    if moved:
        events.append(Acked(moved))
    events.append(Ended())
    return _and_next(state, events, moment, candidates, tails)


def failed(state: State, wake_id: str, moment: Moment) -> list[Event]:
    """A delivery failed: try again later, and later each time (section 7.1)."""
    if state.wake is None or state.wake.id != wake_id or state.wake.delivered:
        return []
    return [_failure(state, moment)]


# ---- shared ----------------------------------------------------------------------------


def _after(state: State, events: Iterable[Event]) -> State:
    for event in events:
        state = apply(state, event)
    return state


def _failure(state: State, moment: Moment) -> Failed:
    delay_ms = min(RETRY_MS_MIN << min(state.retries, _DOUBLINGS_MAX), RETRY_MS_MAX)
    delay_ms = round(delay_ms * (1 + RETRY_JITTER * moment.jitter))
    return Failed(state.retries + 1, moment.now_ms + delay_ms)


def _fence(state: State, wake: tuple[str | None, int | None], moment: Moment) -> Wake:
    """The wake in flight, if it is that one and its lease has not run out (section 7.3)."""
    current = state.wake
    if current is None or (current.id, current.generation) != wake:
        raise fenced()
    if current.until_ms is None or moment.now_ms >= current.until_ms:
        raise fenced()
    return current


def _first_pending(state: State, candidates: Iterable[str], tails: Tails) -> str | None:
    return next((path for path in candidates if is_pending(state, path, tails)), None)


def _and_next(
    state: State, events: list[Event], moment: Moment, candidates: Iterable[str], tails: Tails
) -> list[Event]:
    """``events``, and a new wake if after them the subscription is idle and has work."""
    state = _after(state, events)
    if state.wake is not None or _waits_for_retry(state, moment.now_ms):
        return events
    path = _first_pending(state, candidates, tails)
    if path is None:
        return events
    lease = state.config.type == "webhook"
    until_ms = moment.now_ms + state.config.lease_ttl_ms if lease else None
    wake = Wake(moment.wake_id, state.generation + 1, path, moment.now_ms, until_ms)
    return [*events, Woken(wake)]


def _bad_offset(ack: Ack, why: str) -> SubscriptionError:
    return SubscriptionError(INVALID_OFFSET, f"acks: {ack.path!r} {why}")
