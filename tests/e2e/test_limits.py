"""What bad times do to the real server: slow clients, no descriptors left, a stop under load."""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.e2e.server_process import FRONTS, PATIENCE_S, ServerProcess, serving, wait_until
from tests.e2e.wire import Client, events_path, read_all
from tests.server.front_support import RawClient

SLOW: Final = 60
SLOW_OPTIONS: Final = ("--header-timeout", "0.7", "--body-timeout", "0.7")
FREE_DESCRIPTORS: Final = 12
CROWD: Final = 40
WRITERS: Final = 24
PIPELINED: Final = 8

GET: Final = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW_STARTS: Final = {
    "head": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "body": b"POST /v1/sessions/slow/events HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n",
}


def readable(sockets: list[socket.socket]) -> list[socket.socket]:
    return select.select(sockets, [], [], 0)[0]


@contextmanager
def clients(server: ServerProcess, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        address = (server.host, server.port)
        yield [
            stack.enter_context(socket.create_connection(address, PATIENCE_S)) for _ in range(count)
        ]


def processor_seconds(server: ServerProcess) -> float:
    assert server.process is not None
    stat = Path(f"/proc/{server.process.pid}/stat").read_text("ascii").rpartition(") ")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


# ---- slow clients ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("front", "part"),
    [
        *((front, "body") for front in FRONTS),
        # Hypercorn has no deadline for a head, only for a connection without a request.
        *((front, "head") for front in FRONTS if front != "hypercorn"),
    ],
)
def test_slow_requests_are_ended_and_cost_the_others_nothing(
    front: str, part: str, tmp_path: Path
) -> None:
    """Bytes that dribble in buy no time: the deadline is the head's, or the body's (408)."""
    with serving(tmp_path / "data", *SLOW_OPTIONS, front=front) as server:
        with clients(server, SLOW) as slow, Client(server) as other:
            for client in slow:
                client.sendall(SLOW_STARTS[part])
            pending = list(slow)
            appended = 0

            def all_were_ended() -> bool:
                nonlocal appended, pending
                assert other.post(events_path("s"), {"type": "a"}).status == 204
                appended += 1
                ended = readable(pending)
                pending = [client for client in pending if client not in ended]
                for client in pending:
                    client.send(b"x")
                time.sleep(0.02)
                return not pending

            wait_until(all_were_ended, "slow clients to be ended")
            for client in slow:
                assert client.recv(65_536).startswith(b"HTTP/1.1 408 ")
            assert len(read_all(other, "s")) == appended
            assert other.get(events_path("slow")).status == 404


# ---- descriptors -----------------------------------------------------------------------


@pytest.mark.parametrize("front", [kind for kind in FRONTS if kind != "hypercorn"])
def test_a_server_without_descriptors_serves_those_it_has(front: str, tmp_path: Path) -> None:
    """It does not stop, spin or fill its log, and the others are served once there is room."""
    with serving(tmp_path / "data", front=front) as server, Client(server) as first:
        assert first.post(events_path("s"), {"type": "a"}).status == 204
        assert server.process is not None
        pid = server.process.pid
        used = len(os.listdir(f"/proc/{pid}/fd"))
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + FREE_DESCRIPTORS, hard))
        with clients(server, CROWD) as crowd:
            for client in crowd:
                client.sendall(GET)
            wait_until(lambda: len(readable(crowd)) >= FREE_DESCRIPTORS // 2, "some answers")
            before, began = processor_seconds(server), time.monotonic()
            time.sleep(1.0)
            share = (processor_seconds(server) - before) / (time.monotonic() - began)
            assert share < 0.5, "it waits for a descriptor by asking all the time"
            assert len(readable(crowd)) <= FREE_DESCRIPTORS
            for _ in range(5):
                assert first.post(events_path("s"), {"type": "a"}).status == 204

            waiting = list(crowd)

            def all_were_served() -> bool:
                for client in readable(waiting):
                    assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
                    client.close()
                    waiting.remove(client)
                return not waiting

            wait_until(all_were_served, "the others to be served")
        assert len(read_all(first, "s")) == 6
        assert 1 <= server.logs().count("cannot accept") < 200


# ---- stopping under load ---------------------------------------------------------------


def append(number: int) -> bytes:
    body = json.dumps({"type": "own", "n": number}).encode()
    return (
        b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s"
    ) % (b"%s", len(body), body)


class Writer:
    """Appends in pipelined bursts to a session of its own until the server ends it."""

    def __init__(self, number: int) -> None:
        self.path = events_path(f"writer-{number}")
        self.session = f"writer-{number}"
        self.sent = 0
        self.acknowledged = 0

    async def run(self, port: int, working: Callable[[], None]) -> None:
        async with RawClient(await trio.open_tcp_stream("127.0.0.1", port)) as client:
            while True:
                requests = [append(self.sent + n) % self.path.encode() for n in range(PIPELINED)]
                self.sent += PIPELINED
                try:
                    await client.send(b"".join(requests))
                except trio.BrokenResourceError:
                    pass  # it may have answered before it closed
                for _ in range(PIPELINED):
                    if not client.buffer and await self._ended(client):
                        return
                    answer = await client.answer()
                    assert answer.status == 204, answer
                    self.acknowledged += 1
                    assert answer.header("stream-next-offset") == f"{self.acknowledged:08d}"
                    if answer.header("connection") == "close":
                        assert await client.ended(), client.buffer
                        return
                working()

    async def _ended(self, client: RawClient) -> bool:
        """Whether the connection ended here, between two answers."""
        try:
            return not await client.more()
        except trio.BrokenResourceError:
            return True


@pytest.mark.parametrize("front", FRONTS)
def test_a_stop_under_load_cuts_no_answer_and_loses_nothing(front: str, tmp_path: Path) -> None:
    writers = [Writer(number) for number in range(WRITERS)]
    bursts = 0

    async def work(server: ServerProcess) -> None:
        def working() -> None:
            nonlocal bursts
            bursts += 1
            if bursts == 5 * WRITERS:
                server.ask_to_stop()

        async with trio.open_nursery() as nursery:
            for writer in writers:
                nursery.start_soon(writer.run, server.port, working)

    with serving(tmp_path / "data", front=front) as server:
        trio.run(work, server)
        assert server.wait_end() == 0
        server.start()
        with Client(server) as client:
            for writer in writers:
                stored = [event["n"] for event in read_all(client, writer.session)]
                assert stored == list(range(len(stored)))
                assert writer.acknowledged <= len(stored) <= writer.sent
