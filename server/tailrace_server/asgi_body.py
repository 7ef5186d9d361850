"""A streamed body on ASGI: asked for, it receives the next message."""

from __future__ import annotations

from typing import Any, cast

import trio
from hypercorn.typing import ASGIReceiveCallable

from tailrace_server.body import FrontBody
from tailrace_server.front import FrontLimits, Refusal


class AsgiBody(FrontBody):
    """``released`` is set when it will not call ``receive`` any more, and others may."""

    def __init__(self, limits: FrontLimits, receive: ASGIReceiveCallable) -> None:
        super().__init__(limits)
        self._receive = receive
        self.released = trio.Event()

    async def _read(self) -> Refusal | None:
        message = cast(dict[str, Any], await self._receive())
        if message["type"] == "http.disconnect":
            self.released.set()
            return self._client_left()
        self.add(message.get("body", b""))
        if not message.get("more_body", False):
            self.whole = True
            self.released.set()
        return None
