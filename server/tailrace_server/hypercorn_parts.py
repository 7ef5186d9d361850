"""What Hypercorn makes the protocol of a connection from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from hypercorn.config import Config
from hypercorn.events import Event
from hypercorn.protocol import ProtocolWrapper
from hypercorn.typing import AppWrapper, ConnectionState, TaskGroup, WorkerContext


class Parts(NamedTuple):
    """The arguments of ``H11Protocol`` and ``H2Protocol``, in their order."""

    app: AppWrapper
    config: Config
    context: WorkerContext
    task_group: TaskGroup
    state: ConnectionState
    ssl: bool
    client: tuple[str, int] | None
    server: tuple[str, int] | None
    send: Callable[[Event], Awaitable[None]]


def parts_of(wrapper: ProtocolWrapper, app: AppWrapper) -> Parts:
    """Those that ``wrapper`` has, but with this application."""
    return Parts(app, *(getattr(wrapper, name) for name in Parts._fields[1:]))
