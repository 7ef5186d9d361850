"""Hypercorn's HTTP/1.1, where it must differ.

* Parse errors are answered in JSON, and cleartext HTTP/2 is not changed to.
* ``100 Continue`` is said when the application asks for the body, not before: an answer
  that comes without the body spares the client from sending it.
* A head that comes too slowly is a 408, as a body is.
* Methods are told apart by case (RFC 9110 section 9.1).
* The application is told that its client left, but not before the request that came first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import h11
import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.typing import AppWrapper

from tailrace_server.asgi import CUTS_OFF
from tailrace_server.front import CONTENT_LENGTH, FrontLimits, Refusal, head_late
from tailrace_server.front_counters import FrontCounters
from tailrace_server.hypercorn_parts import parts_of


class Http1(H11Protocol):
    """The protocol of one connection, in place of the one that ``wrapper`` has."""

    def __init__(
        self, wrapper: ProtocolWrapper, limits: FrontLimits, counters: FrontCounters
    ) -> None:
        app = _asking(wrapper.app, self._method_as_sent, self._continue)
        super().__init__(*parts_of(wrapper, app))
        self._limits = limits
        self._counters = counters
        self._left = False
        self._method = ""
        self._late_head: trio.CancelScope | None = None
        self._h11 = _Connection(limits.head_bytes_max, self._request_ended)
        self.connection = self._h11

    async def handle(self, event: Event) -> None:
        try:
            await super().handle(event)
        finally:
            if isinstance(event, RawData) and self._in_head():
                await self._await_head()
            elif self._late_head is not None:
                self._late_head.cancel()
                self._late_head = None

    def _in_head(self) -> bool:
        connection = self._h11
        idle = connection.our_state is connection.their_state is h11.IDLE
        return idle and bool(connection.trailing_data[0])

    async def _await_head(self) -> None:
        if self._late_head is None:
            self._late_head = trio.CancelScope()
            self.task_group.spawn(self._end_late_head, self._late_head)
            await self.send(Updated(idle=False))  # a head that has begun has its own time

    async def _end_late_head(self, late: trio.CancelScope) -> None:
        with late:
            await trio.sleep(self._limits.head_timeout_s)
            if self._late_head is late:
                self._late_head = None  # closing would cancel it
                await self._send_refusal(head_late())
                await self.send(Closed())

    async def _create_stream(self, request: h11.Request) -> None:
        self._method = request.method.decode("ascii")
        await super()._create_stream(request)

    def _method_as_sent(self) -> str:
        return self._method

    def peer_left(self) -> None:
        """The client will send nothing more; what it means, the application decides."""
        self._left = True
        # What was sent before is still to be read, or to find room in the application's queue.
        if self._h11.their_state is not h11.SEND_BODY:
            self._tell_left()

    def _request_ended(self) -> None:
        if self._left:
            self._tell_left()

    def _tell_left(self) -> None:
        if isinstance(self.stream, HTTPStream):
            self.task_group.spawn(self._disconnect, self.stream)

    async def _disconnect(self, stream: HTTPStream) -> None:
        with trio.move_on_after(self._limits.linger_s):  # the application may be over
            await stream.app_put({"type": "http.disconnect"})

    async def _continue(self) -> None:
        if self._h11.client_is_waiting_for_100_continue:
            await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))

    async def _send_error_response(self, status_code: int) -> None:
        refusal = Refusal(status_code, "malformed HTTP, or more of it than is taken")
        if status_code == 501:
            refusal = Refusal(501, "the only transfer coding known here is chunked")
        elif status_code == 431:
            limit = self._limits.head_bytes_max
            refusal = Refusal(431, f"the request head is larger than {limit} bytes")
        await self._send_refusal(refusal)

    async def _send_refusal(self, refusal: Refusal) -> None:
        self._counters.refusals[refusal.status] += 1
        response = refusal.response()
        body = b"".join(response.body)
        headers = [(name.encode(), value.encode()) for name, value in response.headers]
        headers += [(CONTENT_LENGTH.encode(), b"%d" % len(body)), (b"connection", b"close")]
        headers += self.config.response_headers("h11")
        events = (
            h11.Response(status_code=refusal.status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        # In one piece: whoever closes the connection meanwhile does not come between.
        await self.send(RawData(b"".join(self._h11.send(event) or b"" for event in events)))

    async def _check_protocol(self, event: h11.Request) -> None:
        # An offered upgrade to h2c may be ignored (RFC 9110 section 7.8), and proxies that
        # pass it on by mistake are a way around them. Prior knowledge (PRI) is no upgrade.
        if event.method == b"PRI":
            await super()._check_protocol(event)


class _Connection(h11.Connection):
    """Says when a request has ended; keeps from Hypercorn who waits for ``100 Continue``."""

    def __init__(self, head_bytes_max: int, request_ended: Callable[[], None]) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=head_bytes_max)
        self._request_ended = request_ended

    @property
    def they_are_waiting_for_100_continue(self) -> bool:
        return False

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            event = super().next_event()
        except h11.RemoteProtocolError:
            if self.our_state is h11.SEND_BODY:
                return h11.NEED_DATA  # the answer in progress ends, and then the connection
            raise
        if isinstance(event, h11.EndOfMessage):
            self._request_ended()
        return event


def _asking(app: AppWrapper, method: Callable[[], str], asked: Callable[[], Any]) -> AppWrapper:
    """``app``, told the method as it was sent, calling ``asked`` each time before it receives."""

    async def asking(scope: Any, receive: Any, send: Any, sync_spawn: Any, call_soon: Any) -> None:
        async def ask() -> Any:
            await asked()
            return await receive()

        if scope["type"] == "http":
            scope["method"] = method()
            scope["extensions"][CUTS_OFF] = {}
        await app(scope, ask, send, sync_spawn, call_soon)

    return asking
