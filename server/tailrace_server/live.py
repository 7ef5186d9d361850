"""Live reads: following a stream over SSE, and waiting for it in a long-poll.

Every reader goes through the log at its own pace with what its client accepts, so there are
no queues to grow. What readers of one stream have in common is encoded once and shared.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import structlog
import trio

import tailrace
from tailrace import limits
from tailrace.errors import Corrupted, Overloaded, Rejected, StoreClosed
from tailrace_server.audience import Member, Wire
from tailrace_server.broadcast import Broadcast
from tailrace_server.config import ServiceConfig
from tailrace_server.engine_bridge import EngineBridge, Subscription
from tailrace_server.following import Batch, BatchCache, Follow
from tailrace_server.protocol import sse
from tailrace_server.protocol.cursor import JITTER_S_MAX, next_cursor
from tailrace_server.protocol.errors import RequestError, overloaded
from tailrace_server.protocol.message import HeaderList

Send = Callable[[bytes], Awaitable[None]]

BATCH_BYTES_MAX: Final = 256 * limits.KIB
CACHE_BYTES_MAX: Final = 16 * limits.MIB
LIFETIME_JITTER: Final = 0.1
RECONNECT_MS: Final = (250, 1500)
CAPACITY_RETRY_S: Final = 5
TOUCH_S_MIN: Final = 0.05

_log = structlog.get_logger("tailrace.live")


@dataclass(frozen=True, slots=True)
class LiveResponse:
    """A response whose body is made while it is sent.

    The front awaits ``run(send)`` in a cancel scope of its own and cancels it when the client
    leaves; it returns when the stream is to end, or raises :class:`CutOff`.

    ``length``: the bytes that ``run`` will send, where that is known. If it sends fewer, the
    client is left with an answer that is visibly cut short; more are never sent. ``ends``: it
    comes to an end by itself, so a client that closed its sending side may still be reading.
    What is held for it is let go of by :meth:`close`, which the front calls whether it ran or not.
    """

    status: int
    headers: HeaderList
    run: Callable[[Send], Awaitable[None]]
    length: int | None = None
    ends: bool = False
    on_close: Callable[[], None] | None = None

    def close(self) -> None:
        if self.on_close is not None:
            self.on_close()


class CutOff(Exception):
    """The rest of a live response cannot be had.

    The front ends the connection, or the stream, but not the response: the client sees that
    it is not whole.
    """


class Hub:
    """All live readers of the server."""

    def __init__(self, bridge: EngineBridge, config: ServiceConfig) -> None:
        self.bridge: Final = bridge
        self._config = config
        self.broadcast = Broadcast(bridge, config)
        self._batches = BatchCache(CACHE_BYTES_MAX)
        self._readers_of: Counter[int] = Counter()
        self._all_left = trio.Event()
        self._jitter = (0, 0)
        self.readers = 0
        self.draining = False

    @property
    def patience_s(self) -> float:
        """How long a long-poll waits."""
        return self._config.long_poll_timeout_s

    def check_capacity(self) -> None:
        """503 when there is no room for one more reader; those already here stay."""
        if self.draining:
            raise overloaded("the server is stopping; connect again in a moment", 1)
        if self.readers >= self._config.live_readers_max:
            raise overloaded(
                f"all {self._config.live_readers_max} live readers are taken; try again later",
                CAPACITY_RETRY_S,
            )

    @contextmanager
    def reader(self, stream_id: int) -> Iterator[Subscription]:
        """Count one reader and subscribe it."""
        self.check_capacity()
        self.come(stream_id)
        try:
            with self.bridge.subscribe(stream_id) as subscription:
                yield subscription
        finally:
            self.go(stream_id)

    def come(self, stream_id: int) -> None:
        """Count one reader, for whom :meth:`check_capacity` has found room."""
        self.readers += 1
        self._readers_of[stream_id] += 1

    def go(self, stream_id: int, count: int = 1) -> None:
        """Readers that came have left."""
        self.readers -= count
        self._readers_of[stream_id] -= count
        if not self._readers_of[stream_id]:
            del self._readers_of[stream_id]
        if not self.readers:
            self._all_left.set()

    async def drain(self) -> None:
        """End every live reader, and wait for them a while."""
        self.draining = True
        self._all_left = trio.Event()
        self.bridge.wake_all()
        if self.readers:
            with trio.move_on_after(self._config.drain_timeout_s):
                await self._all_left.wait()

    def cursor(self, client: int | None) -> int:
        """A cursor beyond the client's, or of this moment (protocol section 10.1).

        Jitter is drawn once a second: clients that stand together go on together, and what
        they ask next is the same request for whoever collapses requests.
        """
        now_s = time.time()
        second, jitter_s = self._jitter
        if second != int(now_s):
            jitter_s = random.randint(1, JITTER_S_MAX)
            self._jitter = int(now_s), jitter_s
        return next_cursor(now_s, client, jitter_s)

    def touch_step_s(self, head: tailrace.Head) -> float:
        """How often a wait for a stream has to renew its TTL (protocol section 5.1)."""
        if head.ttl_ms is None:
            return math.inf
        return max(TOUCH_S_MIN, head.ttl_ms / 1000 / limits.TOUCH_FRACTION)

    def touch(self, head: tailrace.Head) -> bool:
        """Renew a stream's sliding TTL, if it is time to; False if the stream is gone."""
        try:
            self.bridge.store.read(head.key, head.tail, max_bytes=1)
        except (Rejected, StoreClosed):
            return False
        return True

    async def wait(self, subscription: Subscription, head: tailrace.Head, deadline: float) -> bool:
        """Wait for a change until ``deadline`` (Trio's clock); False if it passed.

        A waiting reader keeps a sliding TTL alive (protocol section 5.1).
        """
        step_s = self.touch_step_s(head)
        while True:
            if head.ttl_ms is not None and not self.touch(head):
                return True
            with trio.move_on_at(min(deadline, trio.current_time() + step_s)):
                await subscription.wait()
                return True
            if trio.current_time() >= deadline:
                return False

    async def follow(self, reader: Follow, send: Send) -> None:
        """Send the stream from ``reader.start``, then what arrives, until it is to end.

        It ends when the stream is closed and all was sent, when the stream is deleted or the
        key revoked, when the server stops, and after the lifetime of a connection.
        """
        try:
            with self.reader(reader.stream_id) as subscription:
                await self._follow(reader, send, subscription)
        except (RequestError, Overloaded):
            await send(sse.retry(CAPACITY_RETRY_S * 1000))
        except (Rejected, StoreClosed):
            return  # deleted, trimmed away below a reader that lagged, or all is over
        except Corrupted as error:
            _log.error("corrupted", stream=str(reader.key), error=str(error))

    async def _follow(self, reader: Follow, send: Send, subscription: Subscription) -> None:
        config = self._config
        control = reader.encoding.control
        ordinal = reader.start
        cursor = self.cursor(reader.cursor)
        jitter = 1 + random.uniform(-LIFETIME_JITTER, LIFETIME_JITTER)
        end_at = trio.current_time() + config.sse_lifetime_s * jitter
        told_up_to_date = False
        held_until: float | None = None
        member = Member(send) if isinstance(send, Wire) else None
        if not control:
            await send(sse.OPENED)
        heartbeat_at = trio.current_time() + config.sse_heartbeat_s
        while True:
            head = self.bridge.head(reader.key, reader.stream_id)
            if head is None or reader.grant.revoked:
                return
            over = self.draining or trio.current_time() >= end_at
            frames = b""
            held = False
            if ordinal < head.tail and not over:
                patient = held_until is None or trio.current_time() < held_until
                batch = await self._batch(reader, ordinal, patient and not head.closed)
                # The head after the read: it cannot be behind the batch.
                head = self.bridge.head(reader.key, reader.stream_id)
                if head is None:
                    return
                held = batch.next == ordinal
                if not held:
                    frames, ordinal, held_until = batch.frames, batch.next, None
                    told_up_to_date = False
                elif held_until is None:
                    held_until = trio.current_time() + config.sse_heartbeat_s
            at_tail = ordinal >= head.tail
            closed = at_tail and head.closed
            if control and not held and (closed or not told_up_to_date):
                cursor = max(cursor, self.cursor(None))
                frames += sse.control(
                    ordinal,
                    up_to_date=at_tail,
                    closed=closed,
                    cursor=cursor,
                    tight=reader.tight,
                )
                told_up_to_date = at_tail
            if over:
                frames += sse.retry(random.randint(*RECONNECT_MS))
            if not frames and trio.current_time() >= heartbeat_at:
                frames = sse.HEARTBEAT
            if frames:
                await send(frames)
                heartbeat_at = trio.current_time() + config.sse_heartbeat_s
            if closed or over:
                return
            if not at_tail and not held:
                await trio.lowlevel.checkpoint()
                continue
            if member is not None and not held:
                member.ordinal, member.cursor = ordinal, cursor
                member.heartbeat_at = heartbeat_at
                if await self.broadcast.attend(reader, member, subscription, end_at):
                    ordinal, cursor = member.ordinal, member.cursor
                    heartbeat_at = member.heartbeat_at
                    told_up_to_date = member.up_to_date
                    await member.catch_up()
                    continue
            until = heartbeat_at if held_until is None else min(heartbeat_at, held_until)
            await self.wait(subscription, head, min(until, end_at))

    async def _batch(self, reader: Follow, ordinal: int, patient: bool) -> Batch:
        """The next records, encoded; none if they must wait for what is behind them.

        Not ``patient``: they are sent as they are.
        """
        shared = self._readers_of[reader.stream_id] > 1
        key = (reader.stream_id, ordinal, reader.encoding.name)
        if shared and (cached := self._batches.get(key)) is not None:
            return cached
        result = await self._read(reader, ordinal, patient)
        if result is None or result.stream_id != reader.stream_id:
            return Batch(ordinal, b"")  # waits, or deleted and made again: the caller sees that
        batch = Batch(result.next, reader.encoding.encode(result))
        if shared and batch.next > ordinal:
            self._batches.put(key, batch)
        return batch

    async def _read(
        self, reader: Follow, ordinal: int, patient: bool
    ) -> tailrace.ReadResult | None:
        result = await self.bridge.read(reader.key, ordinal, max_bytes=BATCH_BYTES_MAX)
        whole = reader.encoding.whole(result) if patient else result.count
        if whole == result.count:
            return result
        if whole:
            return await self.bridge.read(
                reader.key, ordinal, max_bytes=BATCH_BYTES_MAX, stop=ordinal + whole
            )
        # A record as large as a batch does not wait: it would come back alone each time.
        return None if result.up_to_date else result
