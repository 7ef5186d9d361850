"""Accepts the connections of the fast front, bounds their number, and sees to their deadlines."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
import trio

from tailrace_server.body import BodyBudget
from tailrace_server.fast import writer
from tailrace_server.fast.connection import Connection
from tailrace_server.front import FrontLimits, Handler, Refusal, at_capacity
from tailrace_server.front_counters import FrontCounters
from tailrace_server.peer_watch import PeerWatch
from tailrace_server.protocol.message import Request

_ACCEPTS_BETWEEN_YIELDS: Final = 64
_REFUSALS_MAX: Final = 256
"""Clients told 503 at the same time; beyond that a connection is closed without a word."""
_REFUSAL_LINGER_S: Final = 1.0
_SWEEPS_PER_TIMEOUT: Final = 8
_SWEEP_S_MAX: Final = 0.5
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NO_DESCRIPTORS_PAUSE_S: Final = 0.1

_log = structlog.get_logger("tailrace.front")
_access = structlog.get_logger("tailrace.access")


@dataclass(slots=True)
class Shared:
    """What the connections of one front have in common."""

    service: Handler
    limits: FrontLimits
    access_log: bool
    bodies: BodyBudget
    counters: FrontCounters
    watch: PeerWatch = field(default_factory=PeerWatch)
    draining: bool = False

    def log_request(
        self, request: Request, status: int, sent: int, started: float, peer: str
    ) -> None:
        """One line; without the query and the headers, where keys travel."""
        _access.info(
            "request",
            method=request.method,
            path=request.path,
            status=status,
            bytes=sent,
            ms=round((time.perf_counter() - started) * 1000, 2),
            client=peer,
        )

    def log_refusal(self, refusal: Refusal, peer: str) -> None:
        """One line for what never became a request."""
        _access.info("refused", status=refusal.status, reason=refusal.message, client=peer)


class FastFront:
    """Serves listening sockets until told to drain. One use."""

    def __init__(
        self, service: Handler, limits: FrontLimits | None = None, *, access_log: bool = False
    ) -> None:
        limits = limits or FrontLimits()
        self.bodies = BodyBudget(limits.bodies_bytes_max)
        self.counters = FrontCounters()
        self._shared = Shared(service, limits, access_log, self.bodies, self.counters)
        self._connections: set[Connection] = set()
        self._refusals = 0
        self._accepting = trio.CancelScope()

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
        for listener in listeners:
            listener.setblocking(False)
        async with trio.open_nursery() as housekeeping:
            housekeeping.start_soon(self._shared.watch.run)
            housekeeping.start_soon(self._sweep)
            async with trio.open_nursery() as nursery:
                try:
                    with self._accepting:
                        async with trio.open_nursery() as acceptors:
                            for listener in listeners:
                                acceptors.start_soon(self._accept, listener, nursery)
                            task_status.started()
                finally:
                    for listener in listeners:
                        listener.close()
            housekeeping.cancel_scope.cancel()

    def drain(self) -> None:
        """Stop accepting; end idle connections now and the others after their answer."""
        self._shared.draining = True
        self._accepting.cancel()
        for connection in tuple(self._connections):
            connection.drain()

    async def _accept(self, listener: socket.socket, nursery: trio.Nursery) -> None:
        accepted = 0
        while True:
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                await trio.lowlevel.wait_readable(listener)
                continue
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    _log.error("cannot accept", reason=error.strerror)
                    await trio.sleep(_NO_DESCRIPTORS_PAUSE_S)
                else:
                    await trio.lowlevel.checkpoint()  # the client was faster in giving up
                continue
            sock.setblocking(False)
            if len(self._connections) >= self._shared.limits.connections_max:
                self.counters.refused += 1
                self._refuse(sock, nursery)
            else:
                self.counters.accepted += 1
                with contextlib.suppress(OSError):  # reset already: its own task will see
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = Connection(sock, str(address[0]), self._shared)
                self._connections.add(connection)
                nursery.start_soon(self._run, connection)
            accepted += 1
            if accepted % _ACCEPTS_BETWEEN_YIELDS == 0:
                await trio.lowlevel.checkpoint()

    async def _run(self, connection: Connection) -> None:
        self.counters.connections += 1
        try:
            await connection.run()
        finally:
            self.counters.connections -= 1
            self._connections.discard(connection)

    def _refuse(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        if self._refusals >= _REFUSALS_MAX:
            sock.close()
            return
        self._refusals += 1
        nursery.start_soon(self._send_refusal, sock)

    async def _send_refusal(self, sock: socket.socket) -> None:
        """503, then a moment in which the client can read it before its request is reset."""
        head, body, _ = writer.whole(at_capacity().response(), "GET", close=True, http_10=False)
        try:
            sock.send(b"".join((head, *body)))
            sock.shutdown(socket.SHUT_WR)
            with trio.move_on_after(_REFUSAL_LINGER_S):
                while True:
                    await trio.lowlevel.wait_readable(sock)
                    if not sock.recv(65536):
                        break
        except OSError:
            pass  # it left
        finally:
            self._refusals -= 1
            sock.close()

    async def _sweep(self) -> None:
        """Expire connections whose deadline has passed."""
        limits = self._shared.limits
        shortest_s = min(
            limits.head_timeout_s,
            limits.body_timeout_s,
            limits.idle_timeout_s,
            limits.send_timeout_s,
        )
        interval_s = min(_SWEEP_S_MAX, shortest_s / _SWEEPS_PER_TIMEOUT)
        while True:
            await trio.sleep(interval_s)
            now = trio.current_time()
            for connection in self._connections:
                if connection.deadline <= now:
                    connection.expire()
