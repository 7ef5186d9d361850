"""Long-polls that wait in the reactor: a handle each, and no task.

What a stream's change, or the time, brings is read and rendered once for all who are to get the
same, and everybody is answered with one call. Everything here happens in the Trio thread but
large calls, which have one of their own: neither appends nor other clients wait for a thousand
sends.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from typing import Final

import trio

from tailrace.errors import Overloaded
from tailrace_server.context import Found, Wait
from tailrace_server.fast.alike import AlikeBatch
from tailrace_server.fast.reactor import Reactor
from tailrace_server.fast.rooms import Group, Room, Waiter
from tailrace_server.fast.shared import Shared
from tailrace_server.fast.turn import LEFT
from tailrace_server.front import HALF_CLOSE_GRACE_S, InSteps
from tailrace_server.live import TOUCH_S_MIN
from tailrace_server.protocol.cursor import company
from tailrace_server.protocol.message import Response
from tailrace_server.service import Known
from tailrace_server.threads import in_thread_or_here

TOGETHER_S: Final = 0.01
"""Waits that end within so short a time end together, the first of them so much later."""
_CALL_HANDLES_MAX: Final = 32
_CALL_BYTES_MAX: Final = 512 * 1024
"""Larger calls than these, but for one client, are made in a thread."""
_CALL_THREADS: Final = 2


class Parked:
    """All who wait in one front.

    ``on_sent`` is called in the Trio thread after answers went out while the front drains.
    """

    def __init__(
        self,
        reactor: Reactor,
        service: InSteps,
        shared: Shared,
        *,
        on_sent: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._service = service
        self._shared = shared
        self._on_sent = on_sent
        self._waiting: dict[int, Waiter] = {}
        # Whose time is not over yet. All waits are equally long: these are in the order of their
        # ends.
        self._ends: OrderedDict[int, Waiter] = OrderedDict()
        self._leaving: OrderedDict[int, float] = OrderedDict()
        self._new: list[int] = []
        self._ready: dict[Group, None] = {}
        self._rooms: dict[int, Room] = {}
        self._mortal: set[Room] = set()
        self._touch_at = inf
        self._changed: dict[Room, None] = {}
        self._news = trio.Event()
        self._asleep_until = inf
        self._nursery: trio.Nursery | None = None
        self._threads = trio.CapacityLimiter(_CALL_THREADS)
        self.calls = 0
        """How many calls answered them."""
        self.answered = 0

    def figures(self) -> dict[str, int]:
        """How many wait, how many did, and how many calls answered those."""
        return {
            "parked": len(self._waiting),
            "parked_answered": self.answered,
            "parked_calls": self.calls,
        }

    # -- who comes and goes

    def add(self, handle: int, known: Known, wait: Wait, close: bool, began: float) -> None:
        """Let a request that is out wait, if there is nothing for it. Then :meth:`settle`."""
        now = trio.current_time()
        hub, stream_id = wait.hub, wait.head.stream_id
        room = self._rooms.get(stream_id)
        if room is None:
            room = self._open(wait, now)
        together = company(wait.cursor, hub.cursor(None))
        key = (wait.same, together, close, known.route, known.grant)
        group = room.groups.get(key)
        if group is None:
            group = room.groups[key] = Group(room, key, wait, known, close)
        elif wait.cursor is not None:
            group.cursor = max(group.cursor or 0, wait.cursor)
        hub.come(stream_id)
        group.handles[handle] = None
        waiter = Waiter(group, known, now + hub.patience_s, began)
        self._waiting[handle] = self._ends[handle] = waiter
        self._new.append(handle)
        if wait.start != wait.head.tail or wait.head.closed:
            self._ready[group] = None

    def settle(self) -> None:
        """Answer those who were added and need not wait; notice when the others leave."""
        if not self._new:
            return
        if self._ready:
            ready, self._ready = self._ready, {}
            batch = AlikeBatch()
            for group in ready:
                self._look(batch, group, list(group.handles), False)
            self._send(batch)
        new, self._new = self._new, []
        new = [handle for handle in new if handle in self._waiting]
        for handle, kind in self._reactor.park(new):
            self.left(handle, kind)
        self._hurry()

    def left(self, handle: int, kind: int) -> None:
        """A client has left, or may have. See :data:`HALF_CLOSE_GRACE_S`."""
        if handle not in self._waiting:
            return
        if kind == LEFT:
            self._drop(handle)
        elif handle not in self._leaving:
            self._leaving[handle] = trio.current_time() + HALF_CLOSE_GRACE_S
            self._hurry()

    def _drop(self, handle: int) -> None:
        self._release(self._waiting[handle].group, (handle,))
        taken = self._reactor.take(handle)
        if taken is not None:
            socket.close(taken.descriptor)
        if self._shared.draining:
            self._on_sent()

    def _open(self, wait: Wait, now: float) -> Room:
        """The room for a stream whose first wait this is."""
        head = wait.head
        room = self._rooms[head.stream_id] = Room(wait, self._mark)
        bridge = wait.hub.bridge
        bridge.add(head.stream_id, room)
        # What happened since it was looked at has woken nobody.
        if bridge.head(head.key, head.stream_id) != head:
            self._mark(room)
        if room.touch_s < inf:
            room.touch_at = now + room.touch_s
            self._mortal.add(room)
            self._touch_at = min(self._touch_at, room.touch_at)
        return room

    def _release(self, group: Group, handles: Iterable[int]) -> list[Waiter]:
        """Let some, or all, of a group go."""
        released = []
        for handle in handles:
            released.append(self._waiting.pop(handle))
            self._ends.pop(handle, None)
            del group.handles[handle]
            if self._leaving:
                self._leaving.pop(handle, None)
        room = group.room
        room.wait.hub.go(room.wait.head.stream_id, len(released))
        if not group.handles:
            del room.groups[group.key]
            if not room.groups:
                self._close(room)
        return released

    def _close(self, room: Room) -> None:
        stream_id = room.wait.head.stream_id
        del self._rooms[stream_id]
        self._mortal.discard(room)
        room.wait.hub.bridge.remove(stream_id, room)

    def _mark(self, room: Room) -> None:
        self._changed[room] = None
        self._news.set()

    def _hurry(self) -> None:
        """Wake our task if it is to wake sooner than it thinks."""
        if self._wake_at() < self._asleep_until:
            self._news.set()

    # -- what they wait for

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                while True:
                    self._asleep_until = self._wake_at()
                    with trio.move_on_at(self._asleep_until):
                        await self._news.wait()
                    self._news = trio.Event()
                    self._turn(trio.current_time())
        finally:
            for waiter in list(self._waiting.values()):
                if waiter.group.handles:
                    self._release(waiter.group, list(waiter.group.handles))

    def _wake_at(self) -> float:
        at = self._touch_at
        if self._ends:
            at = min(at, next(iter(self._ends.values())).deadline + TOGETHER_S)
        if self._leaving:
            at = min(at, next(iter(self._leaving.values())))
        return at

    def _turn(self, now: float) -> None:
        changed, self._changed = self._changed, {}
        batch = AlikeBatch()
        for room in changed:
            for group in list(room.groups.values()):
                self._look(batch, group, list(group.handles), False)
        due: dict[Group, list[int]] = {}
        while self._ends and next(iter(self._ends.values())).deadline <= now:
            handle, waiter = self._ends.popitem(last=False)
            due.setdefault(waiter.group, []).append(handle)
        for group, handles in due.items():
            self._look(batch, group, handles, True)
        while self._leaving and next(iter(self._leaving.values())) <= now:
            self._drop(next(iter(self._leaving)))
        if self._touch_at <= now:
            self._touch(now)
        self._send(batch)

    def _look(self, batch: AlikeBatch, group: Group, handles: list[int], over: bool) -> None:
        """See what there is for some of a group, whose time may be over."""
        wait = group.wait
        if not handles:
            return
        if not wait.hub.bridge.is_near(wait.head.key, wait.start):
            if over:
                group.overdue += handles
            if not group.far:
                group.far = True
                assert self._nursery is not None
                self._nursery.start_soon(self._look_far, group)
            return
        look = (group.room, wait.same, group.known.grant.revoked, over)
        if look in batch.looks:
            found = batch.looks[look]
        else:
            found = batch.looks[look] = self._service.look(group.known, wait, over=over)
        if isinstance(found, Wait):
            if over:
                group.overdue += handles
            self._go_on(group, found)
        elif found is not None:
            self._answer(batch, group, handles, found)

    async def _look_far(self, group: Group) -> None:
        wait = group.wait
        look = partial(self._service.look, group.known, wait, over=False)
        try:
            found = await wait.hub.bridge.near(wait.head.key, wait.start, look)
        except Overloaded as error:
            answer = self._service.fault(group.known, error)

            def found(_cursor: int) -> Response:
                return answer

        group.far = False
        if not group.handles:
            return
        if found is None:
            self._look_again(group)
        elif isinstance(found, Wait):
            self._go_on(group, found)
        else:
            batch = AlikeBatch()
            self._answer(batch, group, list(group.handles), found)
            self._send(batch)

    def _go_on(self, group: Group, wait: Wait) -> None:
        """There was nothing for a group but to wait from further on, perhaps with others."""
        self._look_again(group)
        groups = group.room.groups
        del groups[group.key]
        group.wait = wait
        group.key = (wait.same, *group.key[1:])
        other = groups.setdefault(group.key, group)
        if other is not group:
            for handle in group.handles:
                self._waiting[handle].group = other
            other.handles |= group.handles
            group.handles = {}
            if group.cursor is not None:
                other.cursor = max(other.cursor or 0, group.cursor)

    def _look_again(self, group: Group) -> None:
        """What could not be told until now is for the next turn, and so is who is overdue."""
        for handle in reversed(group.overdue):
            waiter = self._waiting.get(handle)
            if waiter is not None:
                self._ends[handle] = waiter
                self._ends.move_to_end(handle, last=False)
        group.overdue.clear()
        self._mark(group.room)

    def _answer(self, batch: AlikeBatch, group: Group, handles: list[int], found: Found) -> None:
        """Put the answer to some of a group into the batch; they wait no more."""
        close = group.close or self._shared.draining
        answer = batch.answer(found, group.wait.hub.cursor(group.cursor), close)
        batch.give(handles, answer, group.known.route)
        waiters = self._release(group, handles)
        if self._shared.access_log:
            for handle, waiter in zip(handles, waiters, strict=True):
                self._shared.log_request(
                    waiter.known.request,
                    answer.status,
                    answer.length,
                    waiter.began,
                    self._reactor.peer(handle),
                )

    def _send(self, batch: AlikeBatch) -> None:
        for (route, status), count in batch.counts.items():
            self.answered += count
            self._service.answered(route, status, count)
        count = len(batch.handles) + len(batch.large)
        if not count:
            self._sent()
            return
        self.calls += 1
        call = partial(self._send_here, batch)
        if count > _CALL_HANDLES_MAX or (count > 1 and batch.bytes > _CALL_BYTES_MAX):
            assert self._nursery is not None
            self._nursery.start_soon(self._send_in_thread, call)
        else:
            call()
            self._sent()

    def _send_here(self, batch: AlikeBatch) -> None:
        if batch.handles:
            self._reactor.answer_alike(batch.handles, batch.which, batch.pieces, bytes(batch.flags))
        for handle, answer in batch.large:
            self._reactor.answer_pieces(handle, answer.chunks, answer.flags)

    async def _send_in_thread(self, call: Callable[[], None]) -> None:
        # They are in no list any more, so nobody else would answer them.
        await in_thread_or_here(call, self._threads)
        self._sent()

    def _sent(self) -> None:
        if self._shared.draining:
            self._on_sent()

    def _touch(self, now: float) -> None:
        """Who waits keeps a sliding TTL alive (protocol section 5.1)."""
        for room in [room for room in self._mortal if room.touch_at <= now]:
            room.touch_at = now + room.touch_s
            room.wait.hub.touch(room.wait.head)
        first = min((room.touch_at for room in self._mortal), default=inf)
        self._touch_at = max(first, now + TOUCH_S_MIN)
