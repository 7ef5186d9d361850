"""Long-polls that wait for one stream, in groups that will get the same answer."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from tailrace_server.context import Wait
from tailrace_server.engine_bridge import Listener
from tailrace_server.keys import Grant
from tailrace_server.service import Known

Key = tuple[object, int | None, bool, str, Grant]
"""What the waits of one group have in common."""


class Group:
    """Waits that will get one answer. ``wait`` and ``known`` are those of any one of them."""

    __slots__ = ("close", "cursor", "far", "handles", "key", "known", "overdue", "room", "wait")

    def __init__(self, room: Room, key: Key, wait: Wait, known: Known, close: bool) -> None:
        self.room = room
        self.key = key
        self.wait = wait
        self.known = known
        self.close = close
        self.cursor = wait.cursor
        """The greatest of their cursors."""
        self.far = False
        """A worker thread is reading what there is for them."""
        self.handles: dict[int, None] = {}
        self.overdue: list[int] = []
        """Those whose time was over meanwhile; some may have left since."""


class Room(Listener):
    """All who wait for one stream."""

    __slots__ = ("_on_news", "groups", "touch_at", "touch_s", "wait")

    def __init__(self, wait: Wait, on_news: Callable[[Room], None]) -> None:
        self.wait = wait
        self.groups: dict[Key, Group] = {}
        self.touch_s = wait.hub.touch_step_s(wait.head)
        self.touch_at = inf
        self._on_news = on_news

    def wake(self) -> None:
        self._on_news(self)

    def look_again(self) -> None:
        self._on_news(self)


class Waiter:
    """One of a group."""

    __slots__ = ("began", "deadline", "group", "known")

    def __init__(self, group: Group, known: Known, deadline: float, began: float) -> None:
        self.group = group
        self.known = known
        self.deadline = deadline
        self.began = began
