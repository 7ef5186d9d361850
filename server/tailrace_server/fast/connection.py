"""One connection of the fast front that needs a task: requests in, answers out, in order.

It begins with what the reactor has read of it and not sent yet, and goes back there when it
is idle: what its client asks next is most likely plain. One whose requests are not (as from a
client that sends all its bodies chunked) stays until it rests for a moment.

One Trio task, one cancel scope. Everything that ends a connection early (a deadline, the
client leaving, a drain, a client that stopped taking its answer) cancels that scope and
says why; the handler that was waiting is cancelled with it, which ends its wait and
nothing else. Deadlines are plain numbers that the listener's sweeper looks at, so that a
request pays for none of its timeouts.
"""

from __future__ import annotations

import socket
import time
from math import inf
from typing import Final

import structlog
import trio

from tailrace_server.body import BodyShare
from tailrace_server.fast import writer
from tailrace_server.fast.parser import Message, RequestParser
from tailrace_server.fast.shared import Shared
from tailrace_server.fast.socket_body import SocketBody
from tailrace_server.fast.socket_io import End, SocketIo
from tailrace_server.fast.wire import ChunkedWire
from tailrace_server.front import (
    HALF_CLOSE_GRACE_S,
    SAFE_METHODS,
    BadLength,
    FrontLimits,
    Refusal,
    body_late,
    handle_safely,
    has_body,
    head_late,
    live_length,
    no_room_for_body,
)
from tailrace_server.live import CutOff, LiveResponse
from tailrace_server.protocol.message import Chunk, Request, Response

_RETURNS_MAX: Final = 4
"""How often in a row a connection goes back at once, with no plain request in between."""
_REST_S: Final = 1.0
"""One that went back more often goes back after resting for so long."""

_log = structlog.get_logger("tailrace.front")

_LATE: Final = {
    End.HEAD_LATE: head_late(),
    End.BODY_LATE: body_late(),
}


class Connection:
    """Serves one connected, non-blocking socket until either side ends it or it goes back.

    ``data`` was received from it, ``output`` is still to be sent; with ``closing`` nothing more
    is answered after that. ``tag`` is how often it went back to the reactor in a row.
    """

    __slots__ = (
        "_body",
        "_body_started",
        "_broken",
        "_closing",
        "_end",
        "_half_closed",
        "_handling",
        "_input",
        "_io",
        "_limits",
        "_live",
        "_output",
        "_parser",
        "_peer",
        "_returning",
        "_safe",
        "_scope",
        "_share",
        "_shared",
        "_socket",
        "_tag",
    )

    def __init__(
        self,
        sock: socket.socket,
        shared: Shared,
        data: bytes,
        *,
        output: bytes = b"",
        closing: bool = False,
        tag: int = 0,
    ) -> None:
        self._socket = sock
        self._io = SocketIo(sock, shared.limits)
        self._peer = ""
        self._shared = shared
        self._output = output
        self._closing = closing
        self._tag = tag
        self._returning = False
        self._limits: FrontLimits = shared.limits
        self._parser = RequestParser(shared.limits, shared.service.streams)
        self._input = data
        self._scope = trio.CancelScope()
        self._end: End | None = None
        self._handling = False
        self._safe = False
        self._live = False
        self._half_closed = False
        self._broken = False
        self._body: SocketBody | None = None
        self._share = BodyShare(shared.bodies)
        self._body_started = 0.0

    async def run(self) -> None:
        """Serve, then let go of the socket. Raises nothing but Trio's own cancellation."""
        descriptor = self._socket.fileno()
        try:
            self._peer = str(self._socket.getpeername()[0])
            self._shared.watch.add(descriptor, self._peer_left)
            with self._scope:
                await self._serve()
            late = _LATE.get(self._end) if self._end is not None else None
            if late is not None:
                await self._refuse(late)
        except OSError:
            pass  # the client reset the connection; nobody is left to tell
        except Exception:
            _log.exception("connection failed", client=self._peer)
        finally:
            self._share.release()
            self._shared.watch.remove(descriptor)
            if self._returning and self._shared.give_back(descriptor, self._tag):
                self._socket.detach()
            else:
                self._socket.close()

    # -- what others tell it; all in the Trio thread

    @property
    def deadline(self) -> float:
        """Trio time after which :meth:`expire` is to be called."""
        return self._io.deadline

    def expire(self) -> None:
        """The deadline has passed."""
        self._cancel(self._io.deadline_means)

    def drain(self) -> None:
        """End now if no request has begun; otherwise after the answer in progress."""
        if self._io.deadline_means is End.IDLE and self._io.deadline < inf:
            self._cancel(End.DRAINED)

    def _peer_left(self, broken: bool) -> None:
        self._half_closed = True
        self._broken = self._broken or broken
        if self._handling or self._live:
            self._abandon()

    def _abandon(self) -> None:
        """The client left while a handler works for it. See :data:`HALF_CLOSE_GRACE_S`.

        An unsafe request whose sender may still read goes on: its wait is a disk sync. A
        handler that streams a body meets the end of it when it asks for more.
        """
        if self._handling and self._body is not None and not self._body.whole:
            return
        if self._broken or self._live:
            self._cancel(End.CLIENT_LEFT)
        elif self._safe:
            self._end = End.CLIENT_LEFT
            self._scope.deadline = trio.current_time() + HALF_CLOSE_GRACE_S

    def _cancel(self, end: End) -> None:
        if not self._scope.cancel_called:
            self._end = end
            self._scope.cancel()

    # -- serving

    async def _serve(self) -> None:
        parser = self._parser
        if self._output:
            await self._io.send(self._output)
            self._output = b""
        if self._closing:
            await self._io.linger()
            return
        if self._input:  # here, where a defect costs this connection alone
            parser.feed(self._input)
            self._input = b""
        self._await_request()
        while True:
            event: Message | Refusal | Response | None = parser.next_event()
            if event is None and parser.in_body:
                event = await self._look_at_head()
            if event is None:
                if not parser.in_message:
                    if self._shared.draining:  # since its last answer began to go out
                        await self._part()
                        return
                    if await self._goes_back():
                        self._returning = True
                        return
                data = await self._io.receive()
                if not data:
                    return  # the client left, between requests or in the middle of one
                was_in_message, was_in_body = parser.in_message, parser.in_body
                parser.feed(data)
                self._set_read_deadline(was_in_message, was_in_body)
                continue
            self._io.deadline = inf
            if self._scope.cancel_called:
                return  # its time was up before it was complete
            if isinstance(event, Refusal):
                await self._refuse(event)
                return
            if isinstance(event, Response):
                self._shared.counters.refusals[event.status] += 1
                method = parser.pending_head().method
                await self._io.send_response(method, event, close=True, http_10=False)
                await self._io.linger()
                return
            if not self._share.grow(len(event.request.body)):  # it came whole
                await self._refuse(no_room_for_body())
                return
            if not await self._answer(event):
                await self._part()
                return
            self._body = None
            self._share.release()
            self._await_request()

    async def _goes_back(self) -> bool:
        """Whether the reactor gets the connection, which is idle, rather than its next request."""
        if self._end is not None:
            return False
        if self._tag < _RETURNS_MAX:
            self._tag += 1
            return True
        with trio.move_on_after(min(_REST_S, self._limits.idle_timeout_s)) as rest:
            await trio.lowlevel.wait_readable(self._socket)
        self._tag = 0 if rest.cancelled_caught else self._tag
        return rest.cancelled_caught

    def _await_request(self) -> None:
        if self._parser.in_message:
            self._set_read_deadline(False, False)
        else:
            self._io.deadline_means = End.IDLE
            self._io.deadline = trio.current_time() + self._limits.idle_timeout_s

    def _set_read_deadline(self, was_in_message: bool, was_in_body: bool) -> None:
        """Deadlines count from the begin of a head or a body; only body bytes buy more time."""
        parser, limits = self._parser, self._limits
        if not parser.in_message:
            return
        now = trio.current_time()
        if parser.in_body:
            if not was_in_body:
                self._body_started = now
            self._io.deadline_means = End.BODY_LATE
            earned = parser.body_bytes / limits.body_bytes_per_s_min
            self._io.deadline = self._body_started + limits.body_timeout_s + earned
        elif not was_in_message:
            self._io.deadline_means = End.HEAD_LATE
            self._io.deadline = now + limits.head_timeout_s

    async def _look_at_head(self) -> Message | Response | Refusal | None:
        """A head whose body is still to come: an early answer, a request whose body is
        streamed, or None, and there is room for the body, which is asked for.
        """
        parser = self._parser
        if not parser.head_admitted:
            parser.head_admitted = True
            head, service = parser.pending_head(), self._shared.service
            refused = service.check_head(head)
            if refused is not None:
                return refused
            if service.streams(head):
                self._body = SocketBody(self._limits, parser, self._io.receive, self._io.send)
                return parser.stream_body(self._body)
        if not self._share.grow(max(parser.body_length, parser.body_bytes)):
            return no_room_for_body()
        if parser.expects_continue:
            parser.expects_continue = False
            await self._io.send(writer.CONTINUE)
        return None

    async def _answer(self, message: Message) -> bool:
        """Handle one request and send its answer. False: the connection ends with it."""
        request = message.request
        started = time.perf_counter() if self._shared.access_log else 0.0
        await self._io.take_turn()
        self._safe = request.method in SAFE_METHODS
        self._handling = True
        if self._half_closed:
            self._abandon()
        body, counters = self._body, self._shared.counters
        counters.requests += 1
        counters.body_bytes += len(request.body)
        response = await handle_safely(self._shared.service, request)
        self._handling = False
        if self._end is not None:  # the grace of a client that half closed was running
            self._end = None
            self._scope.deadline = inf
        if body is not None:
            counters.body_bytes += body.bytes
            if body.left:
                if isinstance(response, LiveResponse):
                    response.close()
                return False
        close = not message.keep_alive or self._shared.draining
        close = close or (body is not None and not body.whole)
        if isinstance(response, LiveResponse):
            try:
                sent, ended = await self._send_live(request, response, close, message.http_10)
            finally:
                response.close()
            close = close or not ended or self._shared.draining
        else:
            sent = await self._io.send_response(
                request.method, response, close=close, http_10=message.http_10
            )
        if self._shared.access_log:
            self._shared.log_request(request, response.status, sent, started, self._peer)
        return not close

    async def _send_live(
        self, request: Request, response: LiveResponse, close: bool, http_10: bool
    ) -> tuple[int, bool]:
        """Send what the service produces until it ends.

        The number of its bytes, and whether the client knows that they are all.
        """
        await self._io.send(writer.live_head(response, close=close, http_10=http_10))
        length = live_length(response)
        if not has_body(request.method, response.status):
            return 0, length is not None or not http_10
        chunked = length is None and not http_10
        wire = ChunkedWire(self.descriptor, self.send_live)

        async def send(data: bytes) -> None:
            if length is not None and wire.sent + len(data) > length:
                raise BadLength(f"more than the announced {length} bytes")
            await wire.send_plain(data)

        self._live = not response.ends
        if self._half_closed and self._live:
            self._abandon()
        # What is not chunked, one alone may write.
        try:
            await response.run(wire if chunked else send)
        except CutOff:
            return wire.sent, False
        self._live = False
        if chunked:
            await self._io.send(writer.LAST_CHUNK)
        elif length is not None and wire.sent < length:
            _log.error("answer cut short", path=request.path, sent=wire.sent, length=length)
        return wire.sent, chunked or wire.sent == length

    async def send_live(self, data: Chunk) -> None:
        """Send for a live response, as long as its client is there."""
        try:
            await self._io.send(data)
        except OSError:
            self._cancel(End.CLIENT_LEFT)
            await trio.lowlevel.checkpoint()

    @property
    def descriptor(self) -> int:
        return self._socket.fileno()

    async def _refuse(self, refusal: Refusal) -> None:
        self._io.deadline = inf
        self._shared.counters.refusals[refusal.status] += 1
        if self._shared.access_log:
            self._shared.log_refusal(refusal, self._peer)
        with trio.move_on_after(self._limits.linger_s):
            await self._io.send_response("GET", refusal.response(), close=True, http_10=False)
        await self._io.linger()

    def _has_unread(self) -> bool:
        if self._body is not None and not self._body.whole and not self._body.left:
            return True
        return self._io.has_unread()

    async def _part(self) -> None:
        """Nothing more is answered; what was is not reset away."""
        if self._has_unread():
            await self._io.linger()
