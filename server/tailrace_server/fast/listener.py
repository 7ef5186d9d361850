"""The fast front: the reactor's loop, the connections handed over, and their deadlines."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Final

import trio

from tailrace_server.body import BodyBudget
from tailrace_server.fast import writer
from tailrace_server.fast.answers import Answers
from tailrace_server.fast.connection import Connection
from tailrace_server.fast.parked import Parked
from tailrace_server.fast.reactor import Reactor
from tailrace_server.fast.shared import Shared
from tailrace_server.fast.tick import Tick
from tailrace_server.fast.turn import Taken
from tailrace_server.front import FrontLimits, InSteps, at_capacity
from tailrace_server.front_counters import FrontCounters

_REFUSALS_MAX: Final = 256
"""Clients told 503 at the same time; beyond that a connection is closed without a word."""
_REFUSAL_LINGER_S: Final = 1.0
_SWEEPS_PER_TIMEOUT: Final = 8
_SWEEP_S_MAX: Final = 0.25
_PATIENCE_SWEEPS: Final = 1
"""After so many sweeps an incomplete request gets a task of its own, which has deadlines for it
and looks at its head before its body is there."""


class FastFront:
    """Serves listening sockets until told to drain. One use."""

    def __init__(
        self, service: InSteps, limits: FrontLimits | None = None, *, access_log: bool = False
    ) -> None:
        limits = limits or FrontLimits()
        self._service = service
        self._reactor = Reactor(limits)
        self.bodies = BodyBudget(limits.bodies_bytes_max, self._reactor.bodies_held)
        self._counters = FrontCounters()
        self._shared = Shared(
            service, limits, access_log, self.bodies, self._counters, self._reactor.adopt
        )
        self._tasks: set[Connection] = set()
        self._nursery: trio.Nursery | None = None
        self._refusals = 0
        self._reading = trio.CancelScope()
        self.handed_over = 0
        """How often a connection got a task of its own."""
        self._tick: Tick | None = None
        self._parked: Parked | None = None

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._reactor.counters()["open"] + len(self._tasks)

    @property
    def counters(self) -> FrontCounters:
        found = self._reactor.counters()
        self._counters.connections = found["open"] + len(self._tasks)
        self._counters.accepted = found["accepted"]
        return self._counters

    def figures(self) -> dict[str, int]:
        """What else the front has done so far."""
        return {
            **self._reactor.counters(),
            "handed_over": self.handed_over,
            "tasks": len(self._tasks),
            **({} if self._tick is None else self._tick.figures()),
            **({} if self._parked is None else self._parked.figures()),
        }

    async def serve(
        self,
        listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept from ``listeners`` (listening already) and serve until drained or cancelled.

        Closes the listeners. Returns when the last connection has ended.
        """
        answers = Answers(self._reactor, self._service, self._shared)
        answers.on_sent = self._end_if_drained
        parked = self._parked = Parked(
            self._reactor,
            self._service,
            self._shared,
            on_sent=self._end_if_drained,
        )
        tick = self._tick = Tick(
            self._reactor,
            self._service,
            self._shared,
            answers,
            parked,
            hand_over=self._hand_over,
            refuse=self._refuse,
        )
        try:
            for listener in listeners:
                listener.setblocking(False)
                self._reactor.listen(listener.fileno())
            async with trio.open_nursery() as housekeeping:
                housekeeping.start_soon(self._shared.watch.run)
                housekeeping.start_soon(self._sweep)
                await housekeeping.start(parked.run)
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    task_status.started()
                    with self._reading:
                        await self._read(tick)
                housekeeping.cancel_scope.cancel()
        finally:
            self._reactor.close()
            for listener in listeners:
                listener.close()

    def drain(self) -> None:
        """Stop accepting; end idle connections now and the others after their answer."""
        self._shared.draining = True
        self._reactor.drain()
        for connection in tuple(self._tasks):
            connection.drain()
        self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self._shared.draining and not self._reactor.counters()["open"]:
            self._reading.cancel()

    async def _read(self, tick: Tick) -> None:
        descriptor = self._reactor.descriptor
        connections_max = self._shared.limits.connections_max
        more = False
        while True:
            if more:
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.wait_readable(descriptor)
            self._reactor.limit_bodies(self.bodies.room_elsewhere)
            more = tick.run(connections_max - len(self._tasks))
            if self._shared.draining:
                self._end_if_drained()

    def _hand_over(self, taken: Taken, data: bytes) -> None:
        """Give a connection a task of its own; ``data`` comes before what was taken."""
        assert self._nursery is not None
        sock = socket.socket(fileno=taken.descriptor)
        connection = Connection(
            sock,
            self._shared,
            data + taken.input,
            output=taken.output,
            closing=taken.closing,
            tag=taken.tag,
        )
        self.handed_over += 1
        self._tasks.add(connection)
        self._nursery.start_soon(self._run, connection)

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._tasks.discard(connection)

    def _refuse(self, descriptor: int) -> None:
        assert self._nursery is not None
        self._counters.refused += 1
        sock = socket.socket(fileno=descriptor)
        if self._refusals >= _REFUSALS_MAX:
            sock.close()
            return
        self._refusals += 1
        self._nursery.start_soon(self._send_refusal, sock)

    async def _send_refusal(self, sock: socket.socket) -> None:
        """503, then a moment in which the client can read it before its request is reset."""
        data = writer.joined(at_capacity().response(), "GET", close=True)
        try:
            sock.send(data)
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
            self._reactor.sweep(
                _PATIENCE_SWEEPS * interval_s, limits.idle_timeout_s, limits.send_timeout_s
            )
            self._end_if_drained()
            now = trio.current_time()
            for connection in self._tasks:
                if connection.deadline <= now:
                    connection.expire()
