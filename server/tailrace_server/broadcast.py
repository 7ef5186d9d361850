"""Serves audiences: what a stream gets is read and encoded once and sent by one C call.

One task looks at the audiences whose streams have changed. A small call is made at once, a
large one in a thread, so that neither appends nor other readers wait for the kernel to
write to a thousand sockets; what arrives meanwhile goes out together in the next call.
"""

from __future__ import annotations

import time
from functools import partial
from math import inf
from typing import Final

import structlog
import trio

from tailrace import limits
from tailrace.errors import Corrupted, Rejected, StoreClosed
from tailrace_server import fanout
from tailrace_server.audience import Audience, Member, Step
from tailrace_server.config import ServiceConfig
from tailrace_server.engine_bridge import EngineBridge, Subscription
from tailrace_server.following import Follow
from tailrace_server.protocol import sse
from tailrace_server.protocol.cursor import INTERVAL_S, JITTER_S_MAX, next_cursor
from tailrace_server.threads import in_thread_or_here

STEP_BYTES_MAX: Final = 64 * limits.KIB
"""About what one call sends to each member, and so what a slow one may leave behind."""
_CALL_MEMBERS_MAX: Final = 32
_CALL_BYTES_MAX: Final = 512 * limits.KIB
"""Larger calls than these are made in a thread."""
_CALL_THREADS: Final = 2
_SERVED_BETWEEN_YIELDS: Final = 16
_CURSOR_LEAD_MAX: Final = JITTER_S_MAX // INTERVAL_S + 1
"""No cursor that this server minted is further ahead of the present one."""
_TICK_S_MAX: Final = 0.25
_TICKS_PER_HEARTBEAT: Final = 4
_TICKS_PER_TOUCH: Final = 4

_log = structlog.get_logger("tailrace.live")

_Key = tuple[int, str, bool, int]


class Broadcast:
    """All audiences of the server."""

    def __init__(self, bridge: EngineBridge, config: ServiceConfig) -> None:
        self._bridge = bridge
        self._heartbeat_s = config.sse_heartbeat_s
        self._tick_s = min(_TICK_S_MAX, config.sse_heartbeat_s / _TICKS_PER_HEARTBEAT)
        self._audiences: dict[_Key, Audience] = {}
        self._kept: dict[Audience, _Key] = {}
        self._changed: dict[Audience, None] = {}
        self._news = trio.Event()
        self._some = trio.Event()
        self._threads = trio.CapacityLimiter(_CALL_THREADS)
        self._running = False

    @property
    def audiences(self) -> int:
        return len(self._kept)

    @property
    def members(self) -> int:
        return sum(len(audience.members) for audience in self._kept)

    async def attend(
        self, reader: Follow, member: Member, subscription: Subscription, until: float
    ) -> bool:
        """Be in an audience until the member must act by itself, or ``until`` (Trio's clock).

        False, at once, if it cannot be in one now. Afterwards its fields say where it stands,
        and the rest of what was begun is to be sent before anything else.
        """
        head = self._bridge.head(reader.key, reader.stream_id)
        if not self._running or subscription.changed:
            return False
        if head is None or head.closed or head.tail != member.ordinal:
            return False
        touch_s = inf
        if head.ttl_ms is not None:
            # A waiting reader keeps a sliding TTL alive (protocol section 5.1).
            touch_s = head.ttl_ms / 1000 / limits.TOUCH_FRACTION
            if touch_s < _TICKS_PER_TOUCH * self._tick_s:
                return False
            self._touch(reader, head.tail)
        audience = self._audience(reader, member)
        audience.touch_s = touch_s
        audience.touch_at = min(audience.touch_at, trio.current_time() + touch_s)
        audience.join(member)
        if member.index < 0:
            self._mark(audience)
        with subscription.paused():
            try:
                with trio.move_on_at(until):
                    await member.released.wait()
            finally:
                if member.audience is not None:
                    await audience.leave(member)
                self._mark(audience)
        return True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_awake)
                self._running = True
                task_status.started()
                served = 0
                while True:
                    await self._news.wait()
                    self._news = trio.Event()
                    changed, self._changed = self._changed, {}
                    for audience in changed:
                        self._look(audience, nursery)
                        served += 1
                        if served % _SERVED_BETWEEN_YIELDS == 0:
                            await trio.lowlevel.checkpoint()
        finally:
            self._running = False
            for audience in list(self._kept):
                audience.dissolve()
                self._forget(audience)

    def _audience(self, reader: Follow, member: Member) -> Audience:
        # Members share the greatest of their cursors. One that no server of ours has minted
        # would carry all others with it, so its reader stays among its like.
        far = 0
        if member.cursor > self._cursor() + _CURSOR_LEAD_MAX:
            far = member.cursor
        key = (reader.stream_id, reader.encoding.name, reader.tight, far)
        audience = self._audiences.get(key)
        if audience is None or audience.over:
            audience = Audience(reader, member.ordinal, self._mark)
            self._audiences[key] = audience
            self._kept[audience] = key
            self._bridge.add(reader.stream_id, audience)
            self._some.set()
        return audience

    def _forget(self, audience: Audience) -> None:
        audience.over = True
        key = self._kept.pop(audience)
        if self._audiences.get(key) is audience:
            del self._audiences[key]
        self._bridge.remove(audience.reader.stream_id, audience)

    def _mark(self, audience: Audience) -> None:
        self._changed[audience] = None
        self._news.set()

    def _look(self, audience: Audience, nursery: trio.Nursery) -> None:
        """See what an audience needs. While a call is busy, its end makes us look again."""
        if audience.busy or audience not in self._kept:
            return
        if not audience.members:
            audience.start_over()
        step = self._next(audience)
        if audience.is_empty:
            self._forget(audience)
        elif step is not None:
            self._take(audience, step, nursery)

    def _take(self, audience: Audience, step: Step, nursery: trio.Nursery) -> None:
        """Bring an audience one step forward."""
        count = len(audience.members)
        if count > _CALL_MEMBERS_MAX or count * len(step.data) > _CALL_BYTES_MAX:
            audience.busy = True
            nursery.start_soon(self._take_in_thread, audience, step)
            return
        shorts: list[fanout.Short] = []
        if step.data:
            shorts = fanout.send_to_all(audience.descriptors, step.data)
        audience.settle(step, shorts)
        if not (step.up_to_date and audience.members):
            self._mark(audience)

    async def _take_in_thread(self, audience: Audience, step: Step) -> None:
        call = partial(fanout.send_to_all, audience.descriptors, step.data)
        # Not abandoned when cancelled: the call has descriptors in use.
        shorts = await in_thread_or_here(call, self._threads)
        audience.settle(step, shorts)
        self._mark(audience)

    def _next(self, audience: Audience) -> Step | None:
        """What an audience gets next; None if nothing, or if it is over."""
        if audience.over:
            return None
        try:
            return self._encode(audience)
        except (Rejected, StoreClosed, Corrupted):
            pass  # each member will meet that by itself, and knows what to do
        except Exception:
            _log.exception("broadcast failed", stream=str(audience.reader.key))
        audience.dissolve()
        return None

    def _encode(self, audience: Audience) -> Step | None:
        """The next records as frames. What is no plain append, each member takes for itself."""
        reader, store = audience.reader, self._bridge.store
        head = self._bridge.head(reader.key, reader.stream_id)
        if head is None or head.closed:
            audience.dissolve()
            return None
        if audience.ordinal >= head.tail or not audience.members:
            return None
        if not store.is_resident(reader.key, audience.ordinal):
            audience.dissolve()
            return None
        result = store.read(reader.key, audience.ordinal, max_bytes=STEP_BYTES_MAX)
        if (
            result.stream_id != reader.stream_id
            or result.closed
            or reader.encoding.whole(result) < result.count
        ):
            audience.dissolve()
            return None
        frames = reader.encoding.encode(result)
        cursor = audience.cursor
        if reader.encoding.control:
            cursor = max(cursor, self._cursor())
            frames += sse.control(
                result.next,
                up_to_date=result.up_to_date,
                closed=False,
                cursor=cursor,
                tight=reader.tight,
            )
        heartbeat_at = audience.heartbeat_at
        if frames:
            heartbeat_at = trio.current_time() + self._heartbeat_s
            frames = audience.members[0].wire.frame(frames)
        return Step(frames, result.next, result.up_to_date, cursor, heartbeat_at)

    async def _keep_awake(self) -> None:
        """Heartbeats for silent streams, and touches for those that live by being read."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._some.wait()
                await trio.sleep(self._tick_s)
                now = trio.current_time()
                for audience in [a for a in self._kept if not (a.busy or a.over)]:
                    if audience.touch_at <= now:
                        audience.touch_at = now + audience.touch_s
                        self._touch(audience.reader, audience.ordinal)
                    if audience.heartbeat_at <= now and audience.members:
                        self._take(audience, self._heartbeat(audience, now), nursery)
                if not self._kept:
                    self._some = trio.Event()

    def _heartbeat(self, audience: Audience, now: float) -> Step:
        data = audience.members[0].wire.frame(sse.HEARTBEAT)
        return Step(
            data, audience.ordinal, audience.up_to_date, audience.cursor, now + self._heartbeat_s
        )

    def _touch(self, reader: Follow, ordinal: int) -> None:
        try:
            self._bridge.store.read(reader.key, ordinal, max_bytes=1)
        except (Rejected, StoreClosed):
            return  # gone: whoever follows it is woken by that

    def _cursor(self) -> int:
        return next_cursor(time.time(), None, JITTER_S_MAX)
