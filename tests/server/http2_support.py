"""A client of HTTP/2 that sees every frame, and answers that a service does not finish."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes

from tailrace_server.live import LiveResponse, Send
from tailrace_server.protocol.message import Request, Response
from tests.server.front_support import PATIENCE_S, ServiceDouble

Fields = Sequence[tuple[str | bytes, str | bytes]]


@dataclass
class Frames:
    """One stream, as its client sees it."""

    status: int = 0
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


@dataclass
class FrameClient:
    """Sends requests without looking at them, and takes as much of an answer as ``window`` lets."""

    stream: trio.abc.Stream
    connection: H2Connection
    streams: dict[int, Frames] = field(default_factory=dict)
    ended: bool = False

    async def ask(
        self, path: bytes, method: str = "GET", *, end: bool = True, flush: bool = True
    ) -> Frames:
        number = self.connection.get_next_available_stream_id()
        self.streams[number] = Frames()
        fields: Fields = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "127.0.0.1"),
            (":path", path),
        ]
        self.connection.send_headers(number, fields, end_stream=end)
        if flush:
            await self.flush()
        return self.streams[number]

    async def flush(self) -> None:
        await self.stream.send_all(self.connection.data_to_send())

    async def over(self, frames: Frames) -> Frames:
        await self.until(lambda: frames.over)
        return frames

    async def until(self, condition: object) -> None:
        with trio.fail_after(PATIENCE_S):
            while not condition():  # type: ignore[operator]
                data = await self.stream.receive_some()
                assert data, "the connection ended"
                for event in self.connection.receive_data(bytes(data)):
                    self._take(event)
                await self.flush()

    async def ends(self) -> None:
        """Until the server ends the connection."""
        with trio.fail_after(PATIENCE_S):
            while data := await self.stream.receive_some():
                for event in self.connection.receive_data(bytes(data)):
                    self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.ended = True
            return
        frames = self.streams.get(getattr(event, "stream_id", None) or 0)
        if frames is None:
            return
        if isinstance(event, ResponseReceived):
            frames.status = int(dict(event.headers)[b":status"])
        elif isinstance(event, DataReceived):
            frames.body += event.data
            if self.connection.local_settings.initial_window_size:
                self.connection.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )
        elif isinstance(event, StreamEnded):
            frames.ended = True
        elif isinstance(event, StreamReset):
            frames.reset = int(event.error_code)


@asynccontextmanager
async def frames_of(port: int, *, window: int | None = None) -> AsyncIterator[FrameClient]:
    connection = H2Connection(
        H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    )
    connection.initiate_connection()
    if window is not None:
        connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    try:
        client = FrameClient(stream, connection)
        await client.flush()
        yield client
    finally:
        await trio.aclose_forcefully(stream)


def answer_with(
    service: ServiceDouble, pieces: int, error: Exception | None, length: int | None
) -> None:
    """Let the service answer ``/cut`` with a body that it does not finish."""

    async def run(send: Send) -> None:
        for _ in range(pieces):
            await send(b"k" * 1000)
        if error is not None:
            raise error

    async def handle(request: Request) -> Response | LiveResponse:
        if request.path == "/cut":
            return LiveResponse(200, (), run, length, ends=True)
        return Response(200, (), (b"whole",))

    service.handle = handle  # type: ignore[method-assign]
