"""Hypercorn's HTTP/2, where it must differ.

* An answer that the application leaves without an end is reset (RFC 9113 section 8.1): nobody
  may take what came of it for the whole.
* Who sends waits for a client that takes nothing, instead of filling memory, and no longer than
  the connection is there.
* A connection is idle after its last stream, however that one ended, and the end of an answer is
  sent before its connection's.
* A client that goes on sending after its answer is told to stop; its other streams go on.
* Methods are told apart by case, and a path that is not ASCII ends its own stream alone.
* A request that comes during a drain is refused as one that nothing was done for (section 8.7).
  No limit of streams is set to 0 for it: client libraries that then wait for a stream to become
  free before they read on would not get the answers in progress.
* Priorities are not looked at (section 5.3.2): Hypercorn keeps a place for each stream that they
  name, without end, and fails when they are too many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import h2.events
import trio
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hypercorn.events import Closed, Event, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h2 import (
    BUFFER_HIGH_WATER,
    BUFFER_LOW_WATER,
    BufferCompleteError,
    H2Protocol,
    StreamBuffer,
)
from hypercorn.typing import AppWrapper
from hypercorn.typing import Event as IOEvent

from tailrace_server.asgi import CUTS_OFF
from tailrace_server.front import (
    CONTENT_LENGTH,
    METHODS,
    FrontLimits,
    Refusal,
    has_body,
    target_not_ascii,
    unknown_method,
)
from tailrace_server.front_counters import FrontCounters
from tailrace_server.hypercorn_parts import parts_of

_METHODS: Final = frozenset(method.encode() for method in METHODS)


class _Buffer(StreamBuffer):
    """Bytes of one answer that wait for the client's window."""

    def __init__(self, event_class: type[IOEvent]) -> None:
        super().__init__(event_class)
        self.gone = trio.Event()
        """The answer has ended, or nobody is there for it."""

    async def push(self, data: bytes) -> None:
        if self._complete:
            raise BufferCompleteError
        self.buffer.extend(data)
        await self._is_empty.clear()
        while len(self.buffer) >= BUFFER_HIGH_WATER and not self._complete:
            await self._paused.clear()
            await self._paused.wait()

    async def pop(self, max_length: int) -> bytes:
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data


class Http2(H2Protocol):
    """The protocol of one connection, in place of the one that ``wrapper`` has."""

    stream_buffers: dict[int, _Buffer]  # type: ignore[assignment]

    def __init__(
        self, wrapper: ProtocolWrapper, limits: FrontLimits, counters: FrontCounters
    ) -> None:
        super().__init__(*parts_of(wrapper, _told(wrapper.app)))
        self._limits = limits
        self._counters = counters

    async def handle(self, event: Event) -> None:
        await super().handle(event)
        if isinstance(event, Closed):
            for buffer in self.stream_buffers.values():
                await buffer.close()
                buffer.gone.set()

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, StreamClosed):
            await self._reset_unless_ended(event.stream_id)
        elif event.stream_id not in self.streams:
            await trio.lowlevel.checkpoint()  # whoever sends to nobody is to hear of it
        await super().stream_send(event)

    async def _reset_unless_ended(self, stream_id: int) -> None:
        buffer = self.stream_buffers.get(stream_id)
        if buffer is None:
            return
        if buffer.complete:
            await buffer.gone.wait()
            return
        with trio.move_on_after(self._limits.linger_s):
            await buffer.drain()
        await self._reset(stream_id, ErrorCodes.INTERNAL_ERROR)
        await buffer.close()
        await self._window_updated(stream_id)  # the sending task finds it closed, and drops it

    async def _send_data(self, stream_id: int) -> None:
        buffer = self.stream_buffers[stream_id]
        await super()._send_data(stream_id)
        if stream_id not in self.stream_buffers:
            buffer.gone.set()

    async def _close_stream(self, stream_id: int) -> None:
        try:
            await super()._close_stream(stream_id)
        finally:
            # Not here: a client's reset tells nobody, and who ends an answer may be cancelled.
            if not self.closed:
                self.task_group.spawn(self._tell_if_idle)

    async def _tell_if_idle(self) -> None:
        await self.send(Updated(idle=not self.streams))

    async def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        try:
            self.connection.reset_stream(stream_id, code)
        except ProtocolError:
            return  # its client did that already, or has left
        await self._flush()

    async def _handle_events(self, events: Sequence[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.DataReceived) and event.stream_id not in self.streams:
                self.connection.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )
                await self._reset(event.stream_id, ErrorCodes.NO_ERROR)
            elif isinstance(event, h2.events.PriorityUpdated):
                continue
            elif isinstance(event, h2.events.RequestReceived):
                refusal = _refusal(event)
                if self.context.terminated.is_set():
                    await self._reset(event.stream_id, ErrorCodes.REFUSED_STREAM)
                elif refusal is None:
                    await super()._handle_events([event])
                else:
                    await self._refuse(event, refusal)
            else:
                await super()._handle_events([event])
        await self._flush()

    async def _create_stream(self, request: h2.events.RequestReceived) -> None:
        await super()._create_stream(request)
        assert not self.stream_buffers[request.stream_id].buffer  # the application has not begun
        self.stream_buffers[request.stream_id] = _Buffer(self.context.event_class)

    async def _refuse(self, request: h2.events.RequestReceived, refusal: Refusal) -> None:
        """Answer a request that Hypercorn would not know how to hand on. It is a small answer."""
        stream_id = request.stream_id
        self._counters.refusals[refusal.status] += 1
        response = refusal.response()
        body = b"".join(response.body)
        headers = [(b":status", b"%d" % refusal.status)]
        headers += [(name.lower().encode(), value.encode()) for name, value in response.headers]
        headers += [(CONTENT_LENGTH.encode(), b"%d" % len(body))]
        headers += self.config.response_headers("h2")
        bare = not has_body(_method(request).decode("latin-1"), refusal.status)
        try:
            self.connection.send_headers(stream_id, headers, end_stream=bare)
        except ProtocolError:
            return  # its client took it back in the same breath, or has left
        if bare:
            await self._flush()
        elif self.connection.local_flow_control_window(stream_id) >= len(body):
            self.connection.send_data(stream_id, body, end_stream=True)
            await self._flush()
        else:
            await self._reset(stream_id, ErrorCodes.REFUSED_STREAM)


def _method(request: h2.events.RequestReceived) -> bytes:
    return dict(request.headers or ()).get(b":method", b"")


def _refusal(request: h2.events.RequestReceived) -> Refusal | None:
    if _method(request) not in _METHODS:
        return unknown_method()
    if not dict(request.headers or ()).get(b":path", b"").isascii():
        return target_not_ascii()
    return None


def _told(app: AppWrapper) -> AppWrapper:
    """``app``, told what happens to an answer that it does not end."""

    async def told(scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
        scope["extensions"][CUTS_OFF] = {}
        await app(scope, receive, send, sync_spawn, call_soon)

    return told
