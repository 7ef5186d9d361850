"""A streamed body of the fast front: asked for, it reads its connection's socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tailrace_server.body import FrontBody
from tailrace_server.fast import writer
from tailrace_server.fast.parser import RequestParser
from tailrace_server.front import FrontLimits, Refusal


class SocketBody(FrontBody):
    """The rest of the request that ``parser`` is in the middle of."""

    def __init__(
        self,
        limits: FrontLimits,
        parser: RequestParser,
        receive: Callable[[], Awaitable[bytes]],
        send: Callable[[bytes], Awaitable[None]],
    ) -> None:
        super().__init__(limits)
        self._parser = parser
        self._receive = receive
        self._send = send

    async def _read(self) -> Refusal | None:
        parser = self._parser
        try:
            if parser.expects_continue:
                parser.expects_continue = False
                await self._send(writer.CONTINUE)
            data = await self._receive()
        except OSError:
            return self._client_left()
        if not data:
            return self._client_left()
        parser.feed(data)
        return None if self.whole else parser.refusal
