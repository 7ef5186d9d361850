"""The service as a Quart-Trio application, for Hypercorn or another ASGI server on Trio.

It is a Quart application for its life cycle and for mounting, but a request never meets
Quart's routing: that would decode ``%2F``, answer 404, 405 and OPTIONS by itself in HTML,
and put a content type on a 204. Each connection class below speaks ASGI and hands the raw
path to the service.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final, cast

import structlog
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
from quart_trio import QuartTrio

import tailrace
from tailrace_server.asgi_body import AsgiBody
from tailrace_server.asgi_message import END, WebSocketRefusal, response_start
from tailrace_server.asgi_request import read_body, read_head
from tailrace_server.body import BodyBudget, BodyShare
from tailrace_server.config import ServiceConfig
from tailrace_server.front import (
    CONTENT_LENGTH,
    HALF_CLOSE_GRACE_S,
    SAFE_METHODS,
    BadLength,
    FrontLimits,
    Handler,
    Refusal,
    body_too_large,
    handle_safely,
    has_body,
    live_length,
    whole_length,
)
from tailrace_server.front_counters import FrontCounters
from tailrace_server.keys import KeyRing
from tailrace_server.live import CutOff, LiveResponse
from tailrace_server.protocol.message import Request, Response
from tailrace_server.service import Service
from tailrace_server.threads import in_thread, in_thread_or_here

_JOIN_BYTES_MAX: Final = 64 * 1024
_BLOCK_BYTES: Final = 64 * 1024
NEEDS_TRIO: Final = "tailrace needs an ASGI server that runs on Trio: hypercorn --worker-class trio"
CUTS_OFF: Final = "tailrace.cuts_off"
"""In a scope's ``extensions``: the server cuts off an answer that is left without an end."""
_DRAIN_S: Final = 4.0
"""Quart cancels what is left 5 s after the shutdown message."""

_log = structlog.get_logger("tailrace.front")
_access = structlog.get_logger("tailrace.access")


class TailraceApp(QuartTrio):
    """The application. ``service`` is None until the store of a mounted one is open."""

    def __init__(self, service: Handler | None, limits: FrontLimits, access_log: bool) -> None:
        super().__init__(__name__, static_folder=None)
        self.service = service
        self.limits = limits
        self.bodies = BodyBudget(limits.bodies_bytes_max)
        self.counters = FrontCounters()
        self.access_log = access_log
        self.asgi_http_class = cast(Any, HttpConnection)
        self.asgi_websocket_class = cast(Any, WebSocketRefusal)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" and not trio.lowlevel.in_trio_run():
            await receive()
            await send({"type": "lifespan.startup.failed", "message": NEEDS_TRIO})
            return
        await super().__call__(scope, receive, send)


def create_app(
    service: Handler, *, limits: FrontLimits | None = None, access_log: bool = False
) -> TailraceApp:
    """An application over a service that the caller runs, drains and closes."""
    return TailraceApp(service, limits or FrontLimits(), access_log)


def mount_app(
    data_dir: str | Path,
    *,
    api_keys: Sequence[str] = (),
    config: ServiceConfig | None = None,
    limits: FrontLimits | None = None,
    access_log: bool = False,
) -> TailraceApp:
    """An application that opens ``data_dir`` when its ASGI server starts and closes it at the end.

    For ``hypercorn --worker-class trio``, alone or mounted at a prefix: the server must run on
    Trio, and send lifespan messages. One process only: the data directory is locked. Without
    ``api_keys`` every request is served, so something in front must decide who may come in.
    """
    app = TailraceApp(None, limits or FrontLimits(), access_log)
    store: tailrace.Store | None = None
    service: Service | None = None
    running = trio.CancelScope()

    async def start() -> None:
        nonlocal store, service
        store = await in_thread(partial(tailrace.open, data_dir))
        service = Service(store, config or ServiceConfig(), KeyRing(api_keys))
        service.context.metrics.add_front(lambda: app.counters, lambda: app.bodies.held)

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            with running:
                await service.run(task_status=task_status)

        await app.nursery.start(run)
        app.service = service

    async def stop() -> None:
        if service is not None:
            with trio.move_on_after(_DRAIN_S, shield=True):
                await service.drain()
        running.cancel()
        if store is not None:
            await in_thread_or_here(store.close)

    app.before_serving(start)
    app.after_serving(stop)
    return app


class Unfinished(Exception):
    """An answer has begun and cannot be finished: the server is to cut it off."""


class HttpConnection:
    """One HTTP request on ASGI."""

    def __init__(self, app: TailraceApp, scope: dict[str, Any]) -> None:
        self._app = app
        self._scope = scope
        self._client_left = False
        self._live = False
        self._waiting = False
        self._sending = False
        self._cut_short = False
        self._unfinished = False
        self._cuts_off = CUTS_OFF in (scope.get("extensions") or {})
        self._http_1 = scope["http_version"] in ("1.0", "1.1")
        self._share = BodyShare(app.bodies)
        self._body: AsgiBody | None = None
        self._request_ended = trio.Event()
        self._handling = trio.CancelScope()

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        try:
            await self._serve(receive, send)
        finally:
            self._share.release()

    async def _serve(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        started = time.perf_counter()
        method = str(self._scope["method"])
        request = await self._request(receive)
        if request is None:
            return  # the client left in the middle of it
        if isinstance(request, Response):
            status = request.status
            self._app.counters.refusals[status] += 1
            sent = 0
            with self._handling:
                sent = await self._send(method, request, send)
                await self._end_early(receive, send)
        else:
            status, sent = await self._answer(request, receive, send)
        if self._app.access_log:
            client = self._scope.get("client")
            _access.info(
                "request",
                method=method,
                path=(self._scope.get("raw_path") or b"").decode("latin-1"),
                status=status,
                bytes=sent,
                ms=round((time.perf_counter() - started) * 1000, 2),
                client=client[0] if client else None,
            )
        if self._unfinished and not self._cuts_off:
            raise Unfinished(f"the answer was cut off after {sent} bytes")

    async def _request(self, receive: ASGIReceiveCallable) -> Request | Response | None:
        """The request to handle, the answer to one that is not, or None: its client left."""
        limits = self._app.limits
        if self._app.service is None:
            return Refusal(503, "the store is not open yet", retry_after_s=1).response()
        head = read_head(self._scope, limits)
        if isinstance(head, Refusal):
            return head.response()
        early = self._early_answer(head)
        if early is not None:
            return early
        if self._service().streams(head):
            self._body = AsgiBody(limits, receive)
            return dataclasses.replace(head, stream=self._body)
        body = await read_body(head, limits, self._share, receive)
        if isinstance(body, Refusal):
            return body.response()
        return None if body is None else dataclasses.replace(head, body=body)

    def _early_answer(self, head: Request) -> Response | None:
        """An answer that needs no body, so that a body is not waited for in vain."""
        length = head.header(CONTENT_LENGTH)
        limits = self._app.limits
        if length is not None and length.isdecimal() and int(length) > limits.body_bytes_max:
            if not self._service().streams(head):
                return body_too_large(limits).response()
        elif length in (None, "0") and head.header("transfer-encoding") is None:
            return None
        return self._service().check_head(head)

    async def _answer(
        self, request: Request, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> tuple[int, int]:
        """Handle and answer; (status, body bytes sent). Ends early if the client leaves."""
        counters = self._app.counters
        status = 499  # what the log shows for a client that did not wait
        sent = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._notice_leaving, request, receive)
            with self._handling:
                self._waiting = True
                counters.requests += 1
                counters.body_bytes += len(request.body)
                response = await handle_safely(self._service(), request)
                self._waiting = False
                self._sending = True
                self._handling.deadline = inf
                if self._body is not None:
                    counters.body_bytes += self._body.bytes
                try:
                    if self._body is None or not self._body.left:
                        status = response.status
                        sent = await self._send_answer(request, response, send)
                finally:
                    if isinstance(response, LiveResponse):
                        response.close()
            nursery.cancel_scope.cancel()
        return status, sent

    async def _send_answer(
        self, request: Request, response: Response | LiveResponse, send: ASGISendCallable
    ) -> int:
        unread = self._body is not None and not self._body.whole
        if self._body is not None:
            self._body.released.set()
        if isinstance(response, LiveResponse):
            sent = await self._send_live(request, response, send)
        else:
            sent = await self._send(request.method, response, send)
        if unread:
            await self._linger()
        self._sending = False  # a server may say that the client left while it ends the answer
        # An answer of HTTP/2 that ends short of its length is malformed (RFC 9113 section 8.1.1),
        # which is known at once; an answer without an end some servers leave open for a while.
        told = isinstance(response, LiveResponse) and live_length(response) is not None
        ends_malformed = told and not self._http_1 and not self._cuts_off
        self._unfinished = self._cut_short and not ends_malformed
        if not self._unfinished:
            await self._patiently(send, END)
        return sent

    async def _notice_leaving(self, request: Request, receive: ASGIReceiveCallable) -> None:
        if self._body is not None:
            await self._body.released.wait()
        await self._discard(receive)
        self._client_left = True
        # One that ends an HTTP/2 stream does not go on reading it, as a half closed one may.
        if self._live or (self._sending and not self._http_1):
            self._handling.cancel()
        elif self._waiting and request.method in SAFE_METHODS:
            self._handling.deadline = trio.current_time() + HALF_CLOSE_GRACE_S

    async def _send_live(
        self, request: Request, response: LiveResponse, send: ASGISendCallable
    ) -> int:
        length = live_length(response)
        await send(response_start(response.status, response.headers, length))
        sent = 0

        async def send_data(data: bytes) -> None:
            nonlocal sent
            if data:
                if length is not None and sent + len(data) > length:
                    raise BadLength(f"more than the announced {length} bytes")
                await self._send_data(data, send)
                sent += len(data)

        if has_body(request.method, response.status):
            self._live = not response.ends
            if self._client_left and self._live:
                self._handling.cancel()
            try:
                await response.run(send_data)
                self._cut_short = length is not None and sent < length
                if self._cut_short:
                    _log.error("answer cut short", path=request.path, sent=sent, length=length)
            except CutOff:
                self._cut_short = True
            except Exception:
                self._cut_short = True
                _log.exception("answer cut short", path=request.path)
            self._live = False
        return sent

    async def _send(self, method: str, response: Response, send: ASGISendCallable) -> int:
        """Send everything but the end of the response."""
        length = whole_length(response, method)
        await send(response_start(response.status, response.headers, length))
        if not length or not has_body(method, response.status):
            return 0
        pieces: Iterable[bytes | bytearray | memoryview] = response.body
        if length <= _JOIN_BYTES_MAX:
            pieces = (b"".join(response.body),)
        for piece in pieces:
            await self._send_data(piece, send)
        return length

    async def _send_data(
        self, data: bytes | bytearray | memoryview, send: ASGISendCallable
    ) -> None:
        """Send in blocks, so that who takes little at a time still takes something."""
        view = memoryview(data).cast("B")
        for begin in range(0, len(view), _BLOCK_BYTES):
            block = bytes(view[begin : begin + _BLOCK_BYTES])
            await self._patiently(
                send, {"type": "http.response.body", "body": block, "more_body": True}
            )

    async def _patiently(self, send: ASGISendCallable, message: Any) -> None:
        """Send, or end the handling: HTTP/2 is held up by its window while the socket is free."""
        with trio.move_on_after(self._app.limits.send_timeout_s) as patience:
            await send(message)
        if patience.cancelled_caught:
            self._handling.cancel()
            await trio.lowlevel.checkpoint()

    async def _end_early(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """End an answer that did not wait for the whole request."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._discard, receive)
            await self._linger()
            await self._patiently(send, END)
            nursery.cancel_scope.cancel()

    async def _linger(self) -> None:
        """Let the client read the answer: closing with unread input would reset it away."""
        with trio.move_on_after(self._app.limits.linger_s):
            await self._request_ended.wait()

    async def _discard(self, receive: ASGIReceiveCallable) -> None:
        """Take what still comes, until the client is gone.

        Goes on while the end of the answer is sent: Hypercorn puts a last message for us
        behind those it has, and waits for room.
        """
        while True:
            message = cast(dict[str, Any], await receive())
            if message["type"] == "http.disconnect":
                break
            if not message.get("more_body", False):
                self._request_ended.set()
        self._request_ended.set()

    def _service(self) -> Handler:
        service = self._app.service
        assert service is not None  # _request() refused the request otherwise
        return service
