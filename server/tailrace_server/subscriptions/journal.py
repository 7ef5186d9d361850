"""Where subscriptions live: a bucket of their own, one stream for each, one for the keys.

A subscription's stream holds the records of
:mod:`tailrace_server.protocol.subscription_state`; its state is their fold. One change is one
append, so it is on disk whole or not at all, and nobody is told of it before it is. The
bucket and the keys are made when they are first needed. When a stream has grown long, one
record that stands for all is appended and the stream is trimmed to it; between the two it
reads the same.

Nothing else is stored: after a crash, what is pending is found by comparing acknowledged
ordinals with the tails of the streams, and what was under way follows from the state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog
import trio

import tailrace
from tailrace import limits
from tailrace.errors import Rejected
from tailrace.operation import (
    Append,
    Create,
    CreateBucket,
    Delete,
    Operation,
    StreamKey,
    StreamOptions,
    Trim,
)
from tailrace.outcome import Appended, Created, Outcome, Reason, Rejection
from tailrace_server.config import SUBSCRIPTIONS_BUCKET
from tailrace_server.engine_bridge import EngineBridge
from tailrace_server.protocol.subscription_keys import Keys
from tailrace_server.protocol.subscription_state import Event, State, Whole, apply, decode, encode

PREFIX: Final = "subscription/"
KEYS: Final = StreamKey(SUBSCRIPTIONS_BUCKET, "keys")
_JSON: Final = StreamOptions("application/json")

_log = structlog.get_logger("tailrace.subscriptions")


@dataclass(frozen=True, slots=True)
class Stored:
    """A subscription as it was found: its state, its stream's tail and number of records."""

    id: str
    state: State
    tail: int
    records: int


class Journal:
    """Reads and writes subscriptions. Writing is never cut short by a cancellation."""

    def __init__(self, bridge: EngineBridge, clock: Callable[[], int]) -> None:
        self._bridge = bridge
        self._clock = clock
        self._keys: Keys | None = None
        self._making_keys = trio.Lock()

    async def keys(self) -> Keys:
        """The server's keys, made once and kept; others only come with :func:`rotate`."""
        async with self._making_keys:
            if self._keys is None:
                self._keys = await self._load_keys()
            return self._keys

    async def _load_keys(self) -> Keys:
        try:
            await self._must(CreateBucket(SUBSCRIPTIONS_BUCKET))
        except Rejected as error:
            if error.rejection.reason is not Reason.BUCKET_EXISTS:
                raise
        try:
            self._bridge.store.head(KEYS)
        except Rejected as error:
            if error.rejection.reason is not Reason.STREAM_NOT_FOUND:
                raise
            await self._must(Create(KEYS, _JSON, [Keys.first(self._clock() // 1000)]))
        return _keys(self._bridge.store)

    async def load(self) -> list[Stored]:
        """Every subscription there is."""
        found: list[Stored] = []
        after: str | None = None
        store = self._bridge.store
        try:
            store.bucket(SUBSCRIPTIONS_BUCKET)
        except Rejected:
            return found
        while True:
            page = store.list_streams(SUBSCRIPTIONS_BUCKET, prefix=PREFIX, after=after)
            for head in page.streams:
                name = head.key.stream.removeprefix(PREFIX)
                try:
                    state = await self._fold(head.key, head.start, head.tail)
                except (msgspec.MsgspecError, ValueError) as error:
                    _log.error("subscription unreadable", subscription=name, reason=str(error))
                    continue
                found.append(Stored(name, state, head.tail, head.tail - head.start))
                after = head.key.stream
            if not page.has_more or not page.streams:
                return found
            after = page.streams[-1].key.stream

    async def _fold(self, key: StreamKey, start: int, tail: int) -> State:
        state: State | None = None
        while start < tail:
            result = await self._bridge.read(key, start, max_bytes=limits.READ_BYTES_DEFAULT)
            for record in result.records():
                state = apply(state, decode(record))
            start = result.next
        if state is None:
            raise ValueError("it has no records")
        return state

    async def create(self, id: str, first: Whole) -> int:
        """Make a subscription's stream; its tail."""
        outcome = await self._must(Create(_key(id), _JSON, [encode(first)]))
        assert isinstance(outcome, Created)
        return outcome.tail

    async def append(self, id: str, tail: int, events: list[Event]) -> int:
        """One change of the subscription whose stream ends at ``tail``; the new tail."""
        records = [encode(event) for event in events]
        outcome = await self._must(Append(_key(id), records, expected_ordinal=tail))
        assert isinstance(outcome, Appended)
        return outcome.tail

    async def compact(self, id: str, tail: int, state: Whole) -> int:
        """Replace all records by one; the new tail."""
        new_tail = await self.append(id, tail, [state])
        await self._must(Trim(_key(id), tail))
        return new_tail

    async def delete(self, id: str) -> None:
        await self._must(Delete(_key(id)))

    async def _must(self, operation: Operation) -> Outcome:
        # What is staged becomes durable whoever waits for it: the state must follow.
        with trio.CancelScope(shield=True):
            outcome = await self._bridge.perform(operation)
        if isinstance(outcome, Rejection):
            raise Rejected(outcome)
        return outcome


def _keys(store: tailrace.Store) -> Keys:
    """Few and small: one read, that need not leave this thread."""
    result = store.read(KEYS, store.head(KEYS).start)
    return Keys(list(result.records()))


def rotate(store: tailrace.Store, now_s: int) -> Keys | None:
    """Add a key for webhooks, forget those nobody needs; None if there was none to begin with.

    For a store that no server has open: a server reads its keys once.
    """
    try:
        keys = _keys(store)
    except Rejected:
        return None
    store.append(KEYS, [keys.next(now_s)])
    store.trim(KEYS, store.head(KEYS).start + keys.unpublished(now_s))
    return _keys(store)


def _key(id: str) -> StreamKey:
    return StreamKey(SUBSCRIPTIONS_BUCKET, f"{PREFIX}{id}")
