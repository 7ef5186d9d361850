"""Clients for the soak: many at once, of every kind, that come and leave as they like.

What they are told they check at once; what was acknowledged they note for the end. They run on
Trio and use nothing of the server.
"""

from __future__ import annotations

import json
import math
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import trio

STREAMS: Final = 24
APPENDERS_MIN: Final = 64
APPENDERS_MAX: Final = 256
SSE_READERS: Final = 24
LONG_POLLERS: Final = 24
SMALL_READERS: Final = 8
CHURNERS: Final = 4

SMALL_EVENTS: Final = [{"w": -1, "n": number, "t": "small"} for number in range(10)]
_RECEIVE_BYTES: Final = 65536
_TIDE_S: Final = 20.0
_PATIENCE_S: Final = 60.0
_JSON: Final = "Content-Type: application/json\r\n"


class Left(Exception):
    """The connection is gone: either side may end one."""


class Wrong(Exception):
    """An answer that no client may get."""


def stream_path(number: int) -> str:
    return f"/v1/stream/soak/{number:03d}"


SMALL_PATH: Final = "/v1/stream/soak/small"


@dataclass
class Course:
    """One soak: where the server is, who may still come, and what is known of every append.

    ``pace``: the mean seconds that a client waits between two requests.
    """

    host: str
    port: int
    pace_s: float
    began: float = 0.0
    over: trio.Event = field(default_factory=trio.Event)
    told: Counter[str] = field(default_factory=Counter)
    acknowledged: set[tuple[int, int]] = field(default_factory=set)
    sent: dict[int, int] = field(default_factory=dict)
    """How many events each appender has sent, its numbers being 0 and up."""

    def appenders_now(self) -> int:
        """Between the least and the most, as a tide."""
        phase = (trio.current_time() - self.began) / _TIDE_S * 2 * math.pi
        return round(APPENDERS_MIN + (APPENDERS_MAX - APPENDERS_MIN) * (1 - math.cos(phase)) / 2)

    async def pause(self, dice: random.Random) -> None:
        await trio.sleep(dice.expovariate(1 / self.pace_s))


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One client's socket; every failure of it is :class:`Left`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._data = bytearray()

    async def send(self, data: bytes) -> None:
        try:
            with trio.fail_after(_PATIENCE_S):
                await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Left from None

    async def _more(self) -> None:
        try:
            with trio.fail_after(_PATIENCE_S):
                got = await self._stream.receive_some(_RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Left from None
        if not got:
            raise Left
        self._data += got

    async def _until(self, end: bytes) -> bytes:
        while (at := self._data.find(end)) < 0:
            await self._more()
        return self._take(at + len(end))

    def _take(self, length: int) -> bytes:
        taken = bytes(self._data[:length])
        del self._data[:length]
        return taken

    async def head(self) -> Answer:
        lines = (await self._until(b"\r\n\r\n")).decode("ascii").split("\r\n")
        headers = {
            name.lower(): value
            for name, _, value in (line.partition(": ") for line in lines[1:] if line)
        }
        return Answer(int(lines[0].split(" ")[1]), headers, b"")

    async def answer(self, *, bodiless: bool = False) -> Answer:
        found = await self.head()
        length = 0 if bodiless else int(found.headers.get("content-length", "0"))
        while len(self._data) < length:
            await self._more()
        found.body = self._take(length)
        if self._data:
            raise Wrong(f"bytes that nobody asked for: {bytes(self._data[:200])!r}")
        return found

    async def chunk(self) -> bytes:
        """The next chunk of a live answer; none at its end."""
        length = int(await self._until(b"\r\n"), 16)
        while len(self._data) < length + 2:
            await self._more()
        return self._take(length + 2)[:-2]

    async def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        await self.send(request(method, path, body))
        return await self.answer(bodiless=method == "HEAD")

    def reset(self) -> None:
        """Leave without a word: the server gets RST."""
        linger = struct.pack("ii", 1, 0)
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def request(method: str, path: str, body: bytes = b"") -> bytes:
    length = f"{_JSON}Content-Length: {len(body)}\r\n" if method in ("POST", "PUT") else ""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n".encode("ascii") + body


Visit = Callable[[Course, Connection, random.Random, int], Awaitable[None]]
"""What one client does on one connection, until it has enough of it."""


async def come_and_go(course: Course, visit: Visit, number: int, seed: int) -> None:
    """Connect, visit, leave in some way, and come again, until the course is over."""
    dice = random.Random(seed)
    while not course.over.is_set():
        await course.pause(dice)
        if visit is append_some and number >= course.appenders_now():
            continue
        try:
            stream = await trio.open_tcp_stream(course.host, course.port)
        except OSError:
            if not course.over.is_set():
                raise
            return
        async with stream:
            connection = Connection(stream)
            course.told["connections"] += 1
            try:
                await visit(course, connection, dice, number)
            except Left:
                if not course.over.is_set():
                    course.told["ended by the server"] += 1
            if dice.random() < 0.3:
                connection.reset()
                course.told["resets"] += 1


def _expect(course: Course, answer: Answer, *statuses: int) -> bool:
    """False if the server may refuse by now: it has been told to stop."""
    if answer.status in statuses:
        return True
    if course.over.is_set() and answer.status == 503:
        return False
    raise Wrong(f"{answer.status} instead of {statuses}: {answer.headers} {answer.body[:300]!r}")


async def append_some(
    course: Course, connection: Connection, dice: random.Random, number: int
) -> None:
    """A few appends, one or several events each; sometimes it leaves with one under way."""
    path = stream_path(number % STREAMS)
    for _ in range(dice.randint(1, 30)):
        first = course.sent.get(number, 0)
        count = dice.choice((1, 1, 1, 5))
        text = "x" * dice.choice((10, 100, 100, 3000))
        events = [{"w": number, "n": first + i, "t": text} for i in range(count)]
        body = json.dumps(events[0] if count == 1 else events).encode("ascii")
        course.sent[number] = first + count
        data = request("POST", path, body)
        if dice.random() < 0.03:
            await connection.send(data[: dice.randint(1, len(data))])
            course.told["appends given up"] += 1
            return
        await connection.send(data)
        answer = await connection.answer()
        if not _expect(course, answer, 204):
            return
        course.acknowledged.update((number, first + i) for i in range(count))
        course.told["appends"] += 1
        await course.pause(dice)


def _check_order(events: list[dict[str, Any]], seen: dict[int, int]) -> None:
    """Each appender's events come in their order, and once."""
    for event in events:
        if event["n"] <= seen.get(event["w"], -1):
            raise Wrong(f"{event['w']}: {event['n']} after {seen[event['w']]}")
        seen[event["w"]] = event["n"]


async def listen(course: Course, connection: Connection, dice: random.Random, number: int) -> None:
    """An SSE reader from the tail, for some seconds."""
    path = stream_path(dice.randrange(STREAMS))
    await connection.send(request("GET", f"{path}?offset=now&live=sse"))
    if not _expect(course, await connection.head(), 200):
        return
    seen: dict[int, int] = {}
    text = ""
    with trio.move_on_after(dice.uniform(0.2, 10.0)):
        while True:
            chunk = await connection.chunk()
            if not chunk:
                return
            text += chunk.decode("utf-8")
            *messages, text = text.split("\n\n")
            for message in messages:
                kind, *lines = message.split("\n")
                if kind == "event: data":
                    joined = "\n".join(line.removeprefix("data:").lstrip() for line in lines)
                    events = json.loads(joined)
                    _check_order(events, seen)
                    course.told["events by SSE"] += len(events)


async def poll(course: Course, connection: Connection, dice: random.Random, number: int) -> None:
    """Long polls that follow one another; it may leave while it waits."""
    path = stream_path(dice.randrange(STREAMS))
    offset, cursor = "now", ""
    seen: dict[int, int] = {}
    with trio.move_on_after(dice.uniform(0.2, 10.0)):
        while True:
            answer = await connection.ask("GET", f"{path}?offset={offset}&live=long-poll{cursor}")
            if not _expect(course, answer, 200, 204):
                return
            offset = answer.headers["stream-next-offset"]
            cursor = f"&cursor={answer.headers['stream-cursor']}"
            if answer.status == 200:
                events = json.loads(answer.body)
                _check_order(events, seen)
                course.told["events by long-poll"] += len(events)


async def read_small(
    course: Course, connection: Connection, dice: random.Random, number: int
) -> None:
    for _ in range(dice.randint(1, 40)):
        if dice.random() < 0.2:
            if not _expect(course, await connection.ask("HEAD", SMALL_PATH), 200):
                return
            continue
        answer = await connection.ask("GET", f"{SMALL_PATH}?offset=-1")
        if not _expect(course, answer, 200):
            return
        if json.loads(answer.body) != SMALL_EVENTS:
            raise Wrong(f"a small read gave {answer.body!r}")
        course.told["small reads"] += 1
        await course.pause(dice)


async def churn(course: Course, connection: Connection, dice: random.Random, number: int) -> None:
    """A stream that is made, written, read, deleted, and gone."""
    path = f"/v1/stream/soak/churn-{number}"
    body = json.dumps([{"n": n} for n in range(20)]).encode("ascii")
    steps = (
        ("PUT", path, b"", (201, 200)),  # it may have been left in the middle before
        ("POST", path, body, (204,)),
        ("GET", f"{path}?offset=-1", b"", (200,)),
        ("DELETE", path, b"", (204,)),
        ("GET", f"{path}?offset=-1", b"", (404,)),
    )
    for method, target, sent, statuses in steps:
        if not _expect(course, await connection.ask(method, target, sent), *statuses):
            return
    course.told["streams made and deleted"] += 1
    await course.pause(dice)


CROWD: Final[tuple[tuple[Visit, int], ...]] = (
    (append_some, APPENDERS_MAX),
    (listen, SSE_READERS),
    (poll, LONG_POLLERS),
    (read_small, SMALL_READERS),
    (churn, CHURNERS),
)
