"""Hypercorn on Trio as a front: TLS, HTTP/2 and HTTP/1.1.

Hypercorn's own loop is not used, only its connections and protocols, because three things
must differ for a server whose answers may last a minute and more:

* A client that leaves is noticed even while Hypercorn does not read (a pipelined request
  stops its reading until the answer ends, which for a live reader is never).
* A client that takes nothing of its answer is cut off; Hypercorn would wait for ever, and
  shields that wait from cancellation.
* What Hypercorn's parser refuses is answered in JSON like every other error, and an error
  in one connection does not end the server.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.logging import Logger
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H2ProtocolAssumedError
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from trio.abc import HalfCloseableStream

from tailrace_server.asgi import create_app
from tailrace_server.fast import writer
from tailrace_server.front import FrontLimits, Handler, at_capacity
from tailrace_server.hypercorn_h2 import Http2
from tailrace_server.hypercorn_h11 import Http1
from tailrace_server.peer_watch import PeerWatch

_HANDSHAKE_S: Final = 15.0
_HEADER_LIST_SLACK: Final = 1024
_QUEUED_PIECES_MAX: Final = 2
"""Pieces of a body, each of one read of 64 KiB, that wait for a handler that takes its time."""

_log = structlog.get_logger("tailrace.hypercorn")


class HypercornFront:
    """Serves listening sockets until told to drain. One use."""

    def __init__(
        self,
        service: Handler,
        limits: FrontLimits | None = None,
        *,
        access_log: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.limits = limits or FrontLimits()
        self.watch = PeerWatch()
        self.config = _config(self.limits)
        self._tls = tls
        app = create_app(service, limits=self.limits, access_log=access_log)
        self.bodies = app.bodies
        self.counters = app.counters
        self._app = ASGIWrapper(app)
        self._context = WorkerContext(None)
        self._connections: set[_Connection] = set()
        self._draining = trio.Event()
        self._one_ended = trio.Event()

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    async def serve(
        self,
        listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept from ``listeners`` (listening already) and serve until drained or cancelled.

        Closes the listeners. Returns when the last connection has ended.
        """
        async with trio.open_nursery() as housekeeping:
            housekeeping.start_soon(self.watch.run)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cut_off_when_cancelled)
                async with trio.open_nursery() as acceptors:
                    for listener in listeners:
                        plain = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
                        await acceptors.start(self._accept, plain, nursery)
                    task_status.started()
                    await self._draining.wait()
                    acceptors.cancel_scope.cancel()
                await self._context.terminated.set()  # ends idle connections
                while self._connections:
                    await self._one_ended.wait()
                nursery.cancel_scope.cancel()
            housekeeping.cancel_scope.cancel()

    def drain(self) -> None:
        """Stop accepting; end idle connections now and the others after their answer."""
        self._draining.set()

    async def _accept(
        self,
        listener: trio.SocketListener,
        nursery: trio.Nursery,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        await trio.serve_listeners(
            self._serve_stream,
            [listener],
            handler_nursery=nursery,
            task_status=task_status,  # type: ignore[arg-type]
        )

    async def _serve_stream(self, plain: trio.SocketStream) -> None:
        if len(self._connections) >= self.limits.connections_max:
            self.counters.refused += 1
            await self._refuse(plain)
            return
        self.counters.accepted += 1
        try:
            watched = _WatchedStream(plain, self.watch)
        except OSError as error:
            _log.error("cannot serve", reason=error.strerror)
            await trio.aclose_forcefully(plain)
            return
        stream: _WatchedStream | trio.SSLStream[_WatchedStream] = watched
        if self._tls is not None:
            stream = trio.SSLStream(watched, self._tls, server_side=True, https_compatible=True)
        connection = _Connection(self, self._app, self._context, watched, stream)
        self._connections.add(connection)
        self.counters.connections += 1
        try:
            await connection.run()
        finally:
            self.counters.connections -= 1
            self._connections.discard(connection)
            self._one_ended.set()
            self._one_ended = trio.Event()

    async def _refuse(self, plain: trio.SocketStream) -> None:
        """503 in clear; in TLS there is no way to say it before a handshake."""
        if self._tls is None:
            head, body, _ = writer.whole(at_capacity().response(), "GET", close=True, http_10=False)
            with trio.move_on_after(self.limits.linger_s):
                try:
                    await plain.send_all(b"".join((head, *body)))
                    await plain.send_eof()
                    while await plain.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass  # it left
        await trio.aclose_forcefully(plain)

    async def _cut_off_when_cancelled(self) -> None:
        """Hypercorn shields its sends; at the end of the grace period they must end too."""
        try:
            await trio.sleep_forever()
        finally:
            for connection in self._connections:
                connection.cut_off()


class _WatchedStream(HalfCloseableStream):
    """A socket stream that leaves the watch before its descriptor can be anyone else's."""

    def __init__(self, plain: trio.SocketStream, watch: PeerWatch) -> None:
        self._plain = plain
        self._watch = watch
        self._descriptor: int | None = plain.socket.fileno()
        self.socket = plain.socket
        self.on_left: Callable[[], None] | None = None
        self.on_closed: Callable[[], None] | None = None
        watch.add(self._descriptor, self._left)

    def _left(self, broken: bool) -> None:
        if self.on_left is not None:
            self.on_left()

    def close(self) -> None:
        """Close at once; whoever waits for the socket is told."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._watch.remove(descriptor)
            self.socket.close()
            if self.on_closed is not None:
                self.on_closed()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._plain.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._plain.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._plain.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._plain.receive_some(max_bytes)


class _Protocols(ProtocolWrapper):
    """The protocol that a connection speaks, ours in place of Hypercorn's."""

    protocol: Http1 | Http2

    def __init__(self, made: ProtocolWrapper, front: HypercornFront) -> None:
        vars(self).update(vars(made))
        self._limits, self._counters = front.limits, front.counters
        kind = Http2 if isinstance(made.protocol, H2Protocol) else Http1
        self.protocol = kind(self, self._limits, self._counters)

    async def handle(self, event: Event) -> None:
        try:
            await self.protocol.handle(event)
        except H2ProtocolAssumedError as error:  # HTTP/2 in clear, with prior knowledge
            self.protocol = Http2(self, self._limits, self._counters)
            await self.protocol.initiate()
            if error.data:
                await self.protocol.handle(RawData(error.data))


class _Connection(TCPServer):
    """Hypercorn's connection, with what the module's docstring says."""

    def __init__(
        self,
        front: HypercornFront,
        app: ASGIWrapper,
        context: WorkerContext,
        watched: _WatchedStream,
        stream: _WatchedStream | trio.SSLStream[_WatchedStream],
    ) -> None:
        self._front = front
        super().__init__(app, front.config, context, {}, stream)  # type: ignore[arg-type]
        self._watched = watched
        self._reading = trio.CancelScope()
        # The reader may be waiting for an answer to end, not for the socket.
        watched.on_closed = self._reading.cancel

    @property
    def protocol(self) -> ProtocolWrapper:
        return self._protocols

    @protocol.setter
    def protocol(self, made: ProtocolWrapper) -> None:
        """Hypercorn makes one in the midst of :meth:`run`."""
        self._protocols = _Protocols(made, self._front)

    async def run(self) -> None:
        try:
            await super().run()
        except* Exception:
            _log.exception("connection failed")
        finally:
            self._watched.close()

    def cut_off(self) -> None:
        """End the connection at once."""
        self._watched.close()

    async def _read_data(self) -> None:
        self._watched.on_left = self._peer_left
        with self._reading:
            await super()._read_data()
            self._reading.cancel()
        self._watched.on_left = None
        await self.protocol.handle(Closed())  # whoever closed it may not have come to say so
        await self.idle_task.stop()  # or it would keep the connection for its whole timeout

    def _peer_left(self) -> None:
        """HTTP/2 is always being read, and needs no telling."""
        protocol = self.protocol.protocol
        if isinstance(protocol, Http1):
            protocol.peer_left()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Closed):
            async with self.send_lock:  # whoever is sending sends it all
                await self._close()
            await self.protocol.handle(event)
            return
        if not isinstance(event, RawData):
            if not self._reading.cancel_called:
                await super().protocol_send(event)
            return
        async with self.send_lock:
            # Shielded, as a frame cut in half by a cancelled stream would spoil the others.
            with trio.move_on_after(self._front.limits.send_timeout_s, shield=True) as patience:
                try:
                    await self.stream.send_all(event.data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    patience.cancel()
        if patience.cancel_called:
            self.cut_off()
            await self.protocol.handle(Closed())


class _StructLogger(Logger):
    """Hypercorn's log lines as events of ours; its access log is not used."""

    def __init__(self, config: Config) -> None:
        self.access_logger = None
        self.error_logger = None

    async def access(self, request: Any, response: Any, request_time: float) -> None:
        pass

    async def critical(self, message: str, *args: Any, **kwargs: Any) -> None:
        _log.critical(message % args if args else message)

    async def error(self, message: str, *args: Any, **kwargs: Any) -> None:
        _log.error(message % args if args else message)

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        _log.warning(message % args if args else message)

    async def info(self, message: str, *args: Any, **kwargs: Any) -> None:
        _log.info(message % args if args else message)

    async def debug(self, message: str, *args: Any, **kwargs: Any) -> None:
        _log.debug(message % args if args else message)

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        _log.exception(message % args if args else message)


def tls_context(certfile: str, keyfile: str) -> ssl.SSLContext:
    """TLS 1.2 and later with HTTP/2 offered. OSError or ssl.SSLError for unusable files."""
    config = Config()
    config.certfile, config.keyfile = certfile, keyfile
    context = config.create_ssl_context()
    assert context is not None  # both files were given
    return context


def _config(limits: FrontLimits) -> Config:
    config = Config()
    config.logger_class = _StructLogger
    config.include_server_header = False
    config.h11_max_incomplete_size = limits.head_bytes_max
    config.max_app_queue_size = _QUEUED_PIECES_MAX
    config.h2_max_header_list_size = limits.head_bytes_max + _HEADER_LIST_SLACK
    config.keep_alive_timeout = limits.idle_timeout_s
    config.keep_alive_max_requests = 1_000_000_000  # the idle timeout bounds a connection
    config.ssl_handshake_timeout = _HANDSHAKE_S
    return config
