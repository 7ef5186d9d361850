"""HTTP/2 frames in any order on the Hypercorn front: whoever sends them ends only their own."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
import trio
from hpack import Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tailrace_server import hypercorn_front
from tailrace_server.front import FrontLimits
from tailrace_server.hypercorn_front import HypercornFront
from tests.server.front_support import GET, eventually, running

LIMITS = FrontLimits(linger_s=0.05, send_timeout_s=0.3, idle_timeout_s=0.3)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()
METHODS = (b"GET", b"HEAD", b"POST", b"BREW", b"CONNECT", b"PUT")
PATHS = (
    *(b"/next", b"/caf\xe9", b"/large?n=30000", b"/none", b"/live", b"/break", b"/wait"),
    *(b"/streamed/early", b"/streamed/all"),
)
CONNECTIONS = 10
ROUNDS = 6


@dataclass
class Attacker:
    """Makes frames that are well formed each, and seldom make sense together."""

    dice: random.Random
    encoder: Encoder = field(default_factory=Encoder)
    streams: list[int] = field(default_factory=list)

    def some(self) -> bytes:
        """What comes in one piece."""
        return b"".join(self._frame().serialize() for _ in range(self.dice.randint(1, 6)))

    def _frame(self) -> Frame:
        dice = self.dice
        stream = dice.choice(self.streams or [1])
        kind = dice.choice("HHHHDDRRWWPPSIG")
        if kind == "H":
            return self.head(dice.choice(METHODS), dice.choice(PATHS), dice.random() < 0.6)
        if kind == "D":
            data = DataFrame(stream, b"hello" * dice.randint(0, 3))
            if dice.random() < 0.5:
                data.flags.add("END_STREAM")
            return data
        if kind == "R":
            return RstStreamFrame(stream, error_code=dice.choice((0, 2, 8)))
        if kind == "W":
            return WindowUpdateFrame(
                dice.choice((0, stream)), window_increment=dice.choice((1, 1000))
            )
        if kind == "P":
            return PriorityFrame(
                stream,
                depends_on=dice.choice((0, 99, stream + 2)),
                exclusive=dice.random() < 0.3,
                stream_weight=dice.choice((0, 255)),
            )
        if kind == "S":
            return SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 10})
        if kind == "G" and dice.random() < 0.2:
            return GoAwayFrame(0)
        return PingFrame(0, b"12345678")

    def head(self, method: bytes, path: bytes, end: bool = True) -> HeadersFrame:
        """The next request's."""
        number = 2 * len(self.streams) + 1
        self.streams.append(number)
        fields = [
            (b":method", method),
            (b":scheme", b"http"),
            (b":authority", b"a"),
            (b":path", path),
        ]
        head = HeadersFrame(number, self.encoder.encode(fields))
        head.flags.add("END_HEADERS")
        if end:
            head.flags.add("END_STREAM")
        return head


class Failures:
    """What the front would log of connections that failed in a way nobody thought of."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def exception(self, *what: object, **_: object) -> None:
        self.seen.append(what)

    def error(self, *_: object, **__: object) -> None:
        """Of handlers that fail: they are meant to."""

    warning = info = debug = critical = error


@pytest.mark.parametrize("drain", [False, True])
async def test_frames_in_any_order_end_nothing_but_their_connection(
    drain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During a drain, too, where an answer in progress keeps each connection."""
    failures = Failures()
    monkeypatch.setattr(hypercorn_front, "_log", failures)
    dice = random.Random(9)
    for _ in range(ROUNDS):
        async with running("hypercorn", LIMITS) as server:
            clients = [await Client.connected(server.port, dice) for _ in range(CONNECTIONS)]
            await eventually(lambda: server.service.waiting == CONNECTIONS)
            if drain:
                assert isinstance(server.front, HypercornFront)
                await server.front._context.terminated.set()
            for client in clients:
                await client.attack()
            if not drain:
                assert (await server.ask(GET % b"next")).status == 200
            for client in clients:
                await trio.aclose_forcefully(client.stream)
            server.service.release.set()  # what is not safe to leave undone goes on
            await eventually(lambda: server.front.connections == 0)
    assert not failures.seen


@dataclass
class Client:
    stream: trio.SocketStream
    attacker: Attacker

    @classmethod
    async def connected(cls, port: int, dice: random.Random) -> Client:
        """One that has asked for an answer which takes its time."""
        client = cls(await trio.open_tcp_stream("127.0.0.1", port), Attacker(dice))
        await client.stream.send_all(PREFACE + client.attacker.head(b"GET", b"/wait").serialize())
        return client

    async def attack(self) -> None:
        try:
            for _ in range(self.attacker.dice.randint(1, 6)):
                await self.stream.send_all(self.attacker.some())
                with trio.move_on_after(0.003):
                    while await self.stream.receive_some():
                        pass
        except trio.BrokenResourceError:
            pass  # the server ended it
