"""No answer ever reaches another client: issue 4, through the real server.

Many connections at once, each with a session of its own whose name is in every event, so
that every byte a client receives is known beforehand or holds its name. Clients pipeline,
dribble, read slowly, and leave in every state; descriptors are reused all the time.
TAILRACE_ISOLATION_S makes it last longer.
"""

from __future__ import annotations

import json
import os
import random
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from tests.e2e.server_process import FRONTS, ServerProcess, serving
from tests.e2e.wire import Client, events_path, read_all
from tests.effort import lengthened
from tests.server.front_support import Answer, RawClient, Truncated

SECONDS: Final = lengthened(float(os.environ.get("TAILRACE_ISOLATION_S", "2.5")), threads=2)
CLIENTS: Final = 48
TALKS_MIN: Final = 4
"""So often each client comes at least, however slow the machine."""
STEPS_MAX: Final = 12
LARGE: Final = 30_000
SMALL_BUFFER: Final = 4096
READ_BACK_MAX: Final = 150
"""So many sessions are read back afterwards; reading all of them takes longer than the crowd."""
ENDINGS: Final = (
    *("read all", "read all", "read all", "read all", "half close"),
    *("leave at once", "leave unread", "leave within an answer", "leave within a request", "reset"),
)
LEFT: Final = (Truncated, trio.BrokenResourceError, trio.ClosedResourceError)


@dataclass
class Step:
    """One request and what its answer must be. ``event``: what it appends, if anything."""

    request: bytes
    method: str
    status: int
    event: dict[str, Any] | None = None
    reads_from: int | None = None


@dataclass
class Conversation:
    """One connection: its session, what it sent, and how many appends were acknowledged."""

    session: str
    events: list[dict[str, Any]] = field(default_factory=list)
    acknowledged: int = 0
    answers: int = 0

    def step(self, dice: random.Random) -> Step:
        path = events_path(self.session)
        kind = dice.choice(
            (
                "append",
                "append",
                "append",
                "chunked",
                "large",
                "read",
                "read",
                "head",
                "bad",
                "lost",
            )
        )
        if kind == "lost":
            return Step(request("GET", events_path(f"{self.session}-lost")), "GET", 404)
        if kind == "bad":
            return Step(request("POST", path, b'{"type":'), "POST", 400)
        if kind in ("read", "head") and self.events:
            at = dice.randrange(len(self.events))
            method = "GET" if kind == "read" else "HEAD"
            return Step(request(method, f"{path}?offset={at:08d}"), method, 200, reads_from=at)
        event = {"type": "own", "session": self.session, "n": len(self.events), "padding": ""}
        event["padding"] = self.session * (LARGE // len(self.session) if kind == "large" else 2)
        self.events.append(event)
        body = json.dumps(event).encode()
        return Step(request("POST", path, body, chunked=kind == "chunked"), "POST", 204, event)

    def check(self, step: Step, answer: Answer) -> None:
        """That the answer is the one to this request, by its status, its place and its content."""
        assert answer.status == step.status, (self, step, answer)
        self.answers += 1
        if step.event is not None:
            self.acknowledged += 1
            next_offset = answer.header("stream-next-offset")
            assert next_offset == f"{step.event['n'] + 1:08d}", (self, step, answer)
        elif step.reads_from is not None and step.method == "GET":
            body: Any = answer.json()
            found = [{name: event[name] for name in self.events[0]} for event in body["data"]]
            assert found, (self, step, answer)
            assert found == self.events[step.reads_from :][: len(found)], (self, step, answer)


def request(method: str, target: str, body: bytes | None = None, *, chunked: bool = False) -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    head += "Content-Type: application/json\r\n"
    if chunked:
        half = len(body) // 2
        parts = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:half], body[half:], b""))
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + parts
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def converse(port: int, talk: Conversation, dice: random.Random) -> None:
    """One connection from its beginning to the end that the dice choose."""
    sock = trio.socket.socket()
    if dice.random() < 0.3:  # the server must send its answers in parts
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    await sock.connect(("127.0.0.1", port))
    stream = trio.SocketStream(sock)
    ending = dice.choice(ENDINGS)
    async with RawClient(stream) as client:
        try:
            await talk_until(client, talk, ending, dice)
        except LEFT:
            assert ending == "reset", (ending, talk, client.buffer)
        if ending == "reset":
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def talk_until(
    client: RawClient, talk: Conversation, ending: str, dice: random.Random
) -> None:
    for _ in range(dice.randint(0, 3)):  # exchanges, each with some requests in a row
        steps = [talk.step(dice) for _ in range(dice.choice((1, 1, 2, STEPS_MAX)))]
        await send(client, b"".join(step.request for step in steps), dice)
        for step in steps:
            talk.check(step, await client.answer(step.method))
    if ending == "leave at once":
        return
    steps = [talk.step(dice) for _ in range(dice.choice((1, 2, STEPS_MAX)))]
    data = b"".join(step.request for step in steps)
    if ending == "leave within a request":
        await client.send(data[: dice.randrange(1, len(data))])
        return
    await client.send(data)
    if ending == "half close":
        assert isinstance(client.stream, trio.SocketStream)
        await client.stream.send_eof()
    elif ending == "leave unread":
        return
    elif ending == "leave within an answer":
        await client.more()
        return
    elif ending == "reset":
        steps = steps[: dice.randrange(len(steps))]
    for step in steps:
        talk.check(step, await client.answer(step.method))
    if ending == "read all":
        assert not client.buffer, (talk, client.buffer)
    elif ending == "half close":
        assert await client.ended(), (talk, client.buffer)


async def send(client: RawClient, data: bytes, dice: random.Random) -> None:
    """All of it, sometimes in pieces with a pause between."""
    if dice.random() < 0.7:
        await client.send(data)
        return
    while data:
        size = dice.choice((1, 7, 100, 5000))
        await client.send(data[:size])
        data = data[size:]
        if dice.random() < 0.1:
            await trio.sleep(dice.random() * 0.01)


async def crowd(port: int, dice: random.Random) -> list[Conversation]:
    talks: list[Conversation] = []

    async def keep_coming(client: int, own: random.Random) -> None:
        for number in range(1_000_000):
            talk = Conversation(f"own-{client}-{number}")
            talks.append(talk)
            await converse(port, talk, own)
            if number >= TALKS_MIN and trio.current_time() > end:
                return

    end = trio.current_time() + SECONDS
    async with trio.open_nursery() as nursery:
        for client in range(CLIENTS):
            nursery.start_soon(keep_coming, client, random.Random(dice.random()))
    return talks


def check_stored(server: ServerProcess, talks: list[Conversation]) -> None:
    """Each session holds its own events only, the first ones sent, all that were acknowledged."""
    with Client(server) as client:
        for talk in talks:
            if client.get(events_path(talk.session)).status == 404:
                assert talk.acknowledged == 0
                continue
            stored = read_all(client, talk.session)
            names = ("type", "session", "n", "padding")
            found = [{name: event[name] for name in names} for event in stored]
            assert found == talk.events[: len(found)]
            assert len(found) >= talk.acknowledged


@pytest.mark.parametrize("front", FRONTS)
def test_every_answer_belongs_to_its_client(front: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    with serving(tmp_path / "data", front=front) as server:
        talks = trio.run(crowd, server.port, random.Random(seed))
        check_stored(server, talks[-READ_BACK_MAX:])
        assert server.terminate() == 0
    answers = sum(talk.answers for talk in talks)
    print(f"{len(talks)} connections, {answers} answers")
    assert len(talks) > CLIENTS
    assert answers > CLIENTS
