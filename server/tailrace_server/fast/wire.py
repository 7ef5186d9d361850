"""The wire of a live response: chunked, and written to alone or for many at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tailrace_server.audience import Wire
from tailrace_server.fast import writer
from tailrace_server.protocol.message import Chunk


class ChunkedWire(Wire):
    """``send`` writes to the connection of ``descriptor``. ``sent`` counts its bytes."""

    __slots__ = ("_descriptor", "_send", "sent")

    def __init__(self, descriptor: int, send: Callable[[Chunk], Awaitable[None]]) -> None:
        self._descriptor = descriptor
        self._send = send
        self.sent = 0

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def frame(self, data: bytes) -> bytes:
        return writer.chunk(data)

    async def __call__(self, data: bytes) -> None:
        if data:  # an empty chunk would end the response
            await self.send_plain(writer.chunk(data))

    async def send_plain(self, data: bytes) -> None:
        """Send ``data`` as it is."""
        await self._send(data)
        self.sent += len(data)

    async def finish(self, rest: memoryview, sent: int) -> None:
        if rest:
            await self._send(rest)
        self.sent += sent + len(rest)
