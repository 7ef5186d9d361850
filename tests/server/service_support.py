"""A real store behind a real service, called as a front calls it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

import tailrace
from tailrace_server.keys import Key, KeyRing
from tailrace_server.live import LiveResponse
from tailrace_server.protocol.message import Request, Response
from tailrace_server.service import Service, ServiceConfig

PATIENCE_S = 10.0
"""Far longer than anything here takes; reaching it is a failure."""
QUICK = ServiceConfig(long_poll_timeout_s=0.3, sse_heartbeat_s=0.1, sse_lifetime_s=5.0)


def request(
    method: str,
    target: str,
    body: bytes | str | object = b"",
    headers: dict[str, str] | Sequence[tuple[str, str]] = (),
) -> Request:
    """A request value; a body that is no bytes is sent as JSON."""
    path, _, query = target.partition("?")
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    if raw and not any(name.lower() == "content-type" for name, _ in pairs):
        pairs.append(("content-type", "application/json"))
    lowered = tuple((name.lower(), value) for name, value in pairs)
    return Request(method, path, query, lowered, raw)


class StoreTime:
    """A store's clock, ``now_ms`` of it, which stands still until the test moves it."""

    def __init__(self) -> None:
        self.now_ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now_ms

    async def outlives(self, store: tailrace.Store, key: tuple[str, str]) -> None:
        """Let one and a half TTLs of a stream pass, which somebody keeps alive all the time.

        However late that is for this machine: time goes on when the TTL has been renewed.
        """
        ttl_ms = store.head(key).ttl_ms
        assert ttl_ms is not None
        for _ in range(3):
            self.now_ms += ttl_ms // 2
            with trio.fail_after(PATIENCE_S):
                while store.head(key).expires_effective_ms != self.now_ms + ttl_ms:  # noqa: ASYNC110
                    await trio.sleep(0.01)


@dataclass
class Got:
    """A response, read."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[str, str]:
        found = self.json["error"]
        assert set(self.json) == {"error"} and set(found) == {"type", "message"}
        return found["type"], found["message"]


def got(response: Response) -> Got:
    names = [name.lower() for name, _ in response.headers]
    assert len(names) == len(set(names)), f"a header twice: {names}"
    found = {name.lower(): value for name, value in response.headers}
    assert found["x-content-type-options"] == "nosniff"
    assert found["access-control-allow-origin"] == "*"
    body = b"".join(response.body)
    if response.status in (204, 304):
        assert not body
    if body:
        assert "content-type" in found
    return Got(response.status, found, body)


@dataclass
class Event:
    name: str
    data: str
    id: str | None

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Tail:
    """A client that reads an event stream."""

    headers: dict[str, str]
    raw: bytearray = field(default_factory=bytearray)
    ended: bool = False
    _news: trio.Event = field(default_factory=trio.Event)
    _taken: int = 0

    def told(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def frames(self) -> list[str]:
        return self.raw.decode().split("\n\n")[:-1]

    def events(self) -> list[Event]:
        found = []
        for frame in self.frames():
            fields: dict[str, list[str]] = {}
            for line in frame.split("\n"):
                name, _, value = line.partition(":")
                fields.setdefault(name, []).append(value.removeprefix(" "))
            if "data" in fields:
                event_id = fields["id"][0] if "id" in fields else None
                found.append(
                    Event(fields.get("event", [""])[0], "\n".join(fields["data"]), event_id)
                )
        return found

    async def until(self, holds: Callable[[Tail], bool], timeout_s: float = 10) -> None:
        with trio.fail_after(timeout_s):
            while not holds(self):
                await self._news.wait()

    async def next(self, timeout_s: float = 10) -> Event:
        """The next event, in order."""
        await self.until(lambda tail: len(tail.events()) > tail._taken, timeout_s)
        self._taken += 1
        return self.events()[self._taken - 1]

    async def end(self, timeout_s: float = 10) -> None:
        await self.until(lambda tail: tail.ended, timeout_s)


class Client:
    """Calls ``Service.handle`` with request values."""

    def __init__(self, service: Service, store: tailrace.Store, nursery: trio.Nursery) -> None:
        self.service = service
        self.store = store
        self._nursery = nursery

    async def __call__(
        self,
        method: str,
        target: str,
        body: bytes | str | object = b"",
        headers: dict[str, str] | Sequence[tuple[str, str]] = (),
    ) -> Got:
        return await self.send(request(method, target, body, headers))

    async def send(self, request: Request) -> Got:
        """Any request's whole answer, of a body made while it is sent too, if that ends."""
        response = await self.service.handle(request)
        if isinstance(response, Response):
            return got(response)
        assert response.ends
        pieces: list[bytes] = []

        async def take(piece: bytes) -> None:
            await trio.lowlevel.checkpoint()
            pieces.append(piece)

        try:
            if request.method != "HEAD":
                await response.run(take)
                assert response.length in (None, sum(map(len, pieces)))
        finally:
            response.close()
        return got(Response(response.status, response.headers, tuple(pieces)))

    async def tail(self, target: str, headers: dict[str, str] | None = None) -> Tail:
        """Open an event stream and read it in the background."""
        tail, _ = await self.tail_and_scope(target, headers)
        return tail

    async def tail_and_scope(
        self, target: str, headers: dict[str, str] | None = None
    ) -> tuple[Tail, trio.CancelScope]:
        response = await self.service.handle(request("GET", target, b"", headers or {}))
        assert isinstance(response, LiveResponse), got(response)
        assert response.status == 200
        live = response
        tail = Tail({name.lower(): value for name, value in live.headers})
        scope = trio.CancelScope()

        async def send(chunk: bytes) -> None:
            await trio.lowlevel.checkpoint()
            tail.raw += chunk
            tail.told()

        async def run() -> None:
            with scope:
                await live.run(send)
            tail.ended = True
            tail.told()

        self._nursery.start_soon(run)
        return tail, scope


@asynccontextmanager
async def serving(
    directory: Path,
    *,
    config: ServiceConfig = QUICK,
    keys: Sequence[Key | str] = (),
    options: tailrace.Options = tailrace.Options(segment_bytes=4 * 1024 * 1024),
    now_ms: Callable[[], int] | None = None,
) -> AsyncIterator[Client]:
    """A service on a store in ``directory``, stopped and closed at the end."""
    with tailrace.open(directory, options=options, now_ms=now_ms) as store:
        service = Service(store, config, KeyRing(keys))
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: service.run(task_status=task_status))
            try:
                yield Client(service, store, nursery)
            finally:
                nursery.cancel_scope.cancel()
