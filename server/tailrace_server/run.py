"""Runs a server: sockets, store, service, front; and stops it without losing anything.

The order matters. Sockets are bound first (a taken port should not cost a recovery), the
store is opened next, listening starts when all is ready. A stop goes the other way: no new
connections, live readers end, answers in progress are sent, the store is closed last.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import os
import resource
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
import trio

import tailrace
from tailrace_server.body import BodyBudget
from tailrace_server.fast.listener import FastFront
from tailrace_server.front_counters import FrontCounters
from tailrace_server.keys import KeyRing
from tailrace_server.service import Service
from tailrace_server.settings import Address, Settings, SettingsError

_BACKLOG: Final = 2048
_USER_TIMEOUT_MS: Final = 60_000
"""A client that vanished without a word is given up this long after our unanswered bytes."""
_OTHER_DESCRIPTORS: Final = 1024
"""For the store's files and the rest of the process."""
_KEEPALIVE_IDLE_S: Final = 60
_M_MMAP_THRESHOLD: Final = -3  # malloc.h
_MMAP_THRESHOLD_BYTES: Final = 1 << 20
"""Blocks from here on are given back to the system when they are freed. Without a fixed bound
glibc raises it to the largest block it has seen freed, and a server keeps for good what it once
needed for a few large bodies."""
_SWITCH_INTERVAL_S: Final = 0.0005
"""The committing thread shares the interpreter with the Trio thread. With Python's 5 ms a
finished sync waits that long for a busy front to let it go on."""

_GC_NEW_OBJECTS: Final = 50_000
"""The objects of some hundred requests live until their sync: with Python's 700 the cycle
collector looks at them all the time, to find them alive. What was there at the start, and
will stay, is not looked at again."""

_log = structlog.get_logger("tailrace.server")


class StartError(Exception):
    """The server cannot start; the message is for the person who started it."""


class Front(Protocol):
    """What both fronts are."""

    @property
    def connections(self) -> int: ...

    @property
    def counters(self) -> FrontCounters:
        """As of now."""
        ...

    @property
    def bodies(self) -> BodyBudget: ...

    async def serve(
        self, listeners: Sequence[socket.socket], *, task_status: trio.TaskStatus[None]
    ) -> None: ...

    def drain(self) -> None: ...


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until a signal ends it, and return when everything is durable and closed.

    ``announce`` is given lines for the person at the terminal. Raises :class:`StartError`.
    """
    try:
        settings.check()
        keys = KeyRing(settings.keys())
        addresses = settings.addresses()
        settings.refuse_exposure(addresses, settings.keys())
    except SettingsError as error:
        raise StartError(str(error)) from None
    make_front = _front_maker(settings)
    _raise_descriptor_limit(settings.limits.connections_max)
    listeners = _bind(addresses)
    try:
        store = open_store(settings)
        try:
            sys.setswitchinterval(_SWITCH_INTERVAL_S)
            gc.freeze()
            gc.set_threshold(_GC_NEW_OBJECTS, *gc.get_threshold()[1:])
            _give_back_large_blocks()
            _listen(listeners)
            trio.run(_serve, settings, store, keys, listeners, make_front, announce)
        finally:
            store.close()
    finally:
        for listener in listeners:
            listener.close()
    _log.info("stopped")


def open_store(settings: Settings) -> tailrace.Store:
    """Open the store of the data directory, making that if it is missing.

    Raises :class:`StartError` for every way in which that can fail.
    """
    try:
        options = tailrace.Options(reserve_bytes_max=settings.log_reserve_bytes)
        return tailrace.open(settings.data_dir, options=options)
    except (tailrace.TailraceError, OSError) as error:
        raise StartError(explain(settings.data_dir, error)) from None


def explain(data_dir: Path, error: Exception, *, checked: bool = False) -> str:
    """Why a data directory cannot be used, and what to do about it.

    ``checked``: this is what a check of it came to.
    """
    if isinstance(error, tailrace.NoStore):
        return f"{data_dir}: {error}"
    if isinstance(error, tailrace.UnsupportedFormat):
        return f"{data_dir} cannot be read by this version: {error}"
    if isinstance(error, tailrace.Corrupted):
        advice = f"\nKeep what can be kept:  tailrace repair --data-dir {data_dir}"
        if not checked:
            advice = f"\nSee all of the damage:  tailrace check --data-dir {data_dir}{advice}"
        if not error.mendable:
            advice = "\nNothing here can make that good: restore the directory from a backup"
        return f"{data_dir} is damaged: {error}{advice}"
    if isinstance(error, OSError):
        return f"cannot use {data_dir}: {error.strerror or error}"
    return str(error)


def _front_maker(settings: Settings) -> Callable[[Service], Front]:
    if settings.front == "fast":
        return lambda service: FastFront(service, settings.limits, access_log=settings.access_log)
    # Not imported above: Quart and Hypercorn take half a second that the fast front saves.
    module: Any = importlib.import_module("tailrace_server.hypercorn_front")
    tls: ssl.SSLContext | None = None
    if settings.certfile is not None and settings.keyfile is not None:
        try:
            tls = module.tls_context(str(settings.certfile), str(settings.keyfile))
        except (OSError, ssl.SSLError) as error:
            raise StartError(
                f"cannot use --certfile {settings.certfile} with --keyfile "
                f"{settings.keyfile}: {error.strerror or error}"
            ) from None

    def make(service: Service) -> Front:
        front: Front = module.HypercornFront(
            service, settings.limits, access_log=settings.access_log, tls=tls
        )
        return front

    return make


def _give_back_large_blocks() -> None:
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # not every C library has it
        library.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)


def _raise_descriptor_limit(connections: int) -> None:
    """Let the process open as many files as it has connections, as far as it is allowed to."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _log.warning(
            "few file descriptors",
            allowed=allowed,
            wanted=wanted,
            advice="raise the limit (ulimit -n), or lower --max-connections",
        )


def _bind(addresses: Sequence[Address]) -> list[socket.socket]:
    """A bound socket for each address. With port 0 the first one's choice is everyone's."""
    bound: list[socket.socket] = []
    port = addresses[0][2]
    try:
        for family, host, _ in addresses:
            sock = socket.socket(family, socket.SOCK_STREAM)
            bound.append(sock)
            # Accepted sockets inherit all of these on Linux.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((host, port))
            except OSError as error:
                raise _bind_error(host, port, error) from None
            port = sock.getsockname()[1]
    except BaseException:
        for sock in bound:
            sock.close()
        raise
    return bound


def _listen(listeners: Sequence[socket.socket]) -> None:
    for listener in listeners:
        try:
            listener.listen(_BACKLOG)
        except OSError as error:
            host, port = listener.getsockname()[:2]
            raise _bind_error(host, port, error) from None


def _bind_error(host: str, port: int, error: OSError) -> StartError:
    if error.errno == errno.EADDRINUSE:
        return StartError(
            f"port {port} on {host} is taken; stop what uses it, or choose another with --port"
        )
    if error.errno == errno.EACCES:
        return StartError(f"not allowed to use port {port}; choose one above 1023 with --port")
    return StartError(f"cannot listen on {host} port {port}: {error.strerror}")


async def _serve(
    settings: Settings,
    store: tailrace.Store,
    keys: KeyRing,
    listeners: Sequence[socket.socket],
    make_front: Callable[[Service], Front],
    announce: Callable[[str], None],
) -> None:
    service = Service(store, settings.service, keys)
    front = make_front(service)
    service.context.metrics.add_front(lambda: front.counters, lambda: front.bodies.held)
    urls = [_url(listener, secure=settings.certfile is not None) for listener in listeners]
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            front_ended = trio.Event()

            async def run_front(*, task_status: trio.TaskStatus[None]) -> None:
                await front.serve(listeners, task_status=task_status)
                front_ended.set()

            await nursery.start(run_front)
            announce(f"tailrace: listening on {', '.join(urls)}  data in {settings.data_dir}")
            if keys.is_open:
                announce("tailrace: no API key: only this machine can connect, and needs none")
            _log.info("started", urls=urls, data_dir=str(settings.data_dir), pid=os.getpid())
            await _until_told_to_stop(signals, settings, keys)
            nursery.start_soon(_exit_at_once_on, signals)
            front.drain()
            with trio.move_on_after(settings.grace_s) as patience:
                await service.drain()
                await front_ended.wait()
            if patience.cancelled_caught:
                _log.warning("cut off", connections=front.connections, after_s=settings.grace_s)
            nursery.cancel_scope.cancel()


async def _until_told_to_stop(
    signals: AsyncIterator[int], settings: Settings, keys: KeyRing
) -> None:
    async for number in signals:
        if number != signal.SIGHUP:
            _log.info("stopping", signal=signal.Signals(number).name)
            return
        try:
            fresh = settings.keys()
        except SettingsError as error:
            _log.error("keys not reloaded", reason=str(error))
            continue
        if fresh:  # never from locked to open
            keys.replace(fresh)
        _log.info("keys reloaded", keys=len(fresh))


async def _exit_at_once_on(signals: AsyncIterator[int]) -> None:
    """A second signal: somebody does not want to wait. What was acknowledged is on disk."""
    async for number in signals:
        if number != signal.SIGHUP:
            os._exit(128 + number)


def _url(listener: socket.socket, *, secure: bool) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if listener.family == socket.AF_INET6 else host
    return f"{'https' if secure else 'http'}://{shown}:{port}"
