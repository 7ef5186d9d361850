"""A subscription as the fold of its records (protocol sections 6.1 and 7).

Every change is one batch of the records below, appended to the subscription's own stream in
one step. :class:`Whole` is the first record; later ones of its kind stand for all before
them, so that the stream can be trimmed. What is pending is never stored: it follows from
the tails of the streams and what was acknowledged of each.

A link remembers the incarnation (``stream_id``) of what was acknowledged, so the cursor of a
stream that was deleted and made again starts over by itself. A stream that the pattern
matches needs no stored link as long as nothing of it was acknowledged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec
from immutables import Map

Kind = Literal["webhook", "pull-wake"]


class Config(msgspec.Struct, frozen=True):
    """What the client asked for, normalized: two equal ones are the same subscription.

    ``streams`` are sorted and without repetition. Times are milliseconds.
    """

    type: Kind
    pattern: str | None
    streams: tuple[str, ...]
    webhook_url: str | None
    wake_stream: str | None
    lease_ttl_ms: int
    description: str | None


class Link(msgspec.Struct, frozen=True, array_like=True):
    """A stream of the subscription: everything before ordinal ``acked`` is processed.

    ``stream_id`` is the incarnation that ``acked`` counts in, 0 if there was none yet.
    """

    explicit: bool
    stream_id: int
    acked: int


class Wake(msgspec.Struct, frozen=True):
    """A wake in flight.

    ``stream`` made it necessary at ``at_ms``. ``until_ms`` is when its lease ends; a pull-wake
    has none before it is claimed by ``holder``. ``delivered``: the webhook took it.
    """

    id: str
    generation: int
    stream: str
    at_ms: int
    until_ms: int | None
    holder: str | None = None
    delivered: bool = False


class Whole(msgspec.Struct, frozen=True, tag="whole"):
    """All of a subscription. ``nonce`` tells it from an earlier one with the same id.

    ``base_url`` is how the client reached this server: callbacks come back that way.
    """

    config: Config
    nonce: str
    base_url: str
    created_at_ms: int
    links: dict[str, Link]
    generation: int = 0
    wake: Wake | None = None
    retries: int = 0
    retry_at_ms: int | None = None


class Rebased(msgspec.Struct, frozen=True, tag="rebased"):
    """The client reaches this server by another address now."""

    base_url: str


class Linked(msgspec.Struct, frozen=True, tag="linked"):
    """Streams were added by name."""

    links: dict[str, Link]


class Unlinked(msgspec.Struct, frozen=True, tag="unlinked"):
    """A stream that was added by name is no longer; ``keep`` if the pattern still has it."""

    path: str
    keep: bool


class Woken(msgspec.Struct, frozen=True, tag="woken"):
    wake: Wake


class Claimed(msgspec.Struct, frozen=True, tag="claimed"):
    holder: str
    until_ms: int


class Extended(msgspec.Struct, frozen=True, tag="extended"):
    until_ms: int


class Acked(msgspec.Struct, frozen=True, tag="acked"):
    """``acks``: stream name → (incarnation, ordinal after the last processed record)."""

    acks: dict[str, tuple[int, int]]


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """The wake is over: done, released, or its lease has run out."""


class Delivered(msgspec.Struct, frozen=True, tag="delivered"):
    """The webhook took the wake."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A delivery failed, for the ``retries``-th time in a row."""

    retries: int
    retry_at_ms: int


Event = (
    Whole
    | Rebased
    | Linked
    | Unlinked
    | Woken
    | Claimed
    | Extended
    | Acked
    | Ended
    | Delivered
    | Failed
)

_DECODER: Final = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    return msgspec.json.encode(event)


def decode(record: bytes | memoryview) -> Event:
    """Raises :class:`msgspec.MsgspecError` for what :func:`encode` did not write."""
    event: Event = _DECODER.decode(record)
    return event


@dataclass(frozen=True, slots=True)
class State:
    """A subscription between two changes."""

    config: Config
    nonce: str
    base_url: str
    created_at_ms: int
    links: Map[str, Link]
    generation: int = 0
    wake: Wake | None = None
    retries: int = 0
    retry_at_ms: int | None = None


def apply(state: State | None, event: Event) -> State:
    """The state after ``event``. Total: a record that does not fit changes nothing it should not.

    Only :class:`Whole` may come first; ValueError otherwise.
    """
    if isinstance(event, Whole):
        return State(
            event.config,
            event.nonce,
            event.base_url,
            event.created_at_ms,
            Map(event.links),
            event.generation,
            event.wake,
            event.retries,
            event.retry_at_ms,
        )
    if state is None:
        raise ValueError("a subscription's first record must be a whole one")
    if isinstance(event, Rebased):
        return replace(state, base_url=event.base_url)
    if isinstance(event, Linked | Unlinked | Acked):
        return replace(state, links=_links(state, event))
    if isinstance(event, Woken):
        return replace(state, generation=event.wake.generation, wake=event.wake)
    if isinstance(event, Ended):
        return replace(state, wake=None)
    if isinstance(event, Failed):
        return replace(state, retries=event.retries, retry_at_ms=event.retry_at_ms)
    wake = state.wake
    if isinstance(event, Delivered):
        if wake is not None:
            wake = msgspec.structs.replace(wake, delivered=True)
        return replace(state, wake=wake, retries=0, retry_at_ms=None)
    if wake is None:
        return state
    if isinstance(event, Claimed):
        claimed = msgspec.structs.replace(wake, holder=event.holder, until_ms=event.until_ms)
        return replace(state, wake=claimed)
    return replace(state, wake=msgspec.structs.replace(wake, until_ms=event.until_ms))


def _links(state: State, event: Linked | Unlinked | Acked) -> Map[str, Link]:
    links = state.links
    if isinstance(event, Linked):
        return links.update(event.links)
    if isinstance(event, Acked):
        return links.update(
            {
                path: Link(path in links and links[path].explicit, stream_id, ordinal)
                for path, (stream_id, ordinal) in event.acks.items()
            }
        )
    if event.path not in links:
        return links
    if event.keep:
        link = links[event.path]
        return links.set(event.path, Link(False, link.stream_id, link.acked))
    return links.delete(event.path)


def whole(state: State, links: Map[str, Link] | None = None) -> Whole:
    """The record that stands for all before it, with other links if they are given."""
    return Whole(
        state.config,
        state.nonce,
        state.base_url,
        state.created_at_ms,
        dict(state.links if links is None else links),
        state.generation,
        state.wake,
        state.retries,
        state.retry_at_ms,
    )
