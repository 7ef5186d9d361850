"""Fuzzes a running front: ``python -m fuzz.fuzz_front --seconds 10``.

Whatever a client sends, in whatever pieces: the service gets the requests that llhttp finds
in it and no others, every answer comes in their order, a refusal is the one that llhttp's
reading calls for, and then the connection ends.
"""

from __future__ import annotations

import bisect
import dataclasses
import errno
import itertools
import json
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from fuzz.engine_driver import run
from fuzz.fuzz_http_request import limits, parse
from fuzz.http_requests import make
from tailrace.operation import Operation, StreamKey
from tailrace.rows import Rows
from tailrace.ticket import RowsTaken
from tailrace_server._reactor import lib
from tailrace_server.context import Found, Lasting, PlainPage, Planned, Wait
from tailrace_server.engine_bridge import GroupContext, RowsContext
from tailrace_server.fast.listener import FastFront
from tailrace_server.fast.parser import Message, RequestParser
from tailrace_server.fast.reactor import HEAD_BYTES_MAX
from tailrace_server.front import CONTENT_LENGTH, FrontLimits, Refusal
from tailrace_server.keys import ALL_RIGHTS, Grant
from tailrace_server.protocol import headers
from tailrace_server.protocol.message import Request, Response
from tailrace_server.service import Known

LIMITS: Final = FrontLimits(
    head_bytes_max=4096, target_bytes_max=1024, head_fields_max=40, body_bytes_max=2000
)
REACTOR_LIMITS: Final = limits(
    min(HEAD_BYTES_MAX, LIMITS.head_bytes_max), LIMITS.body_bytes_max, lib.TR_HTTP_FIELDS_MAX
)
PATIENCE_S: Final = 20.0
SEQ: Final = headers.PRODUCER_SEQ.lower()
STREAM: Final = StreamKey("bucket", "any")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def shown(request: Request) -> bytes:
    """All of a request, as text that no other request has.

    But for Content-Length: heads that differ in nothing else, or in a number in Producer-Seq, are
    understood once.
    """
    fields = [field for field in request.headers if field[0] != CONTENT_LENGTH]
    body = request.body.decode("latin-1")
    return json.dumps([request.method, request.path, request.query, fields, body]).encode()


class Echo:
    """Answers each request with what it got: most at once, some by way of a task."""

    def __init__(self) -> None:
        self._grant = Grant(ALL_RIGHTS, ("*",))

    @property
    def generation(self) -> int:
        return 0

    async def handle(self, request: Request) -> Response:
        return Response(200, (), (shown(request),))

    def check_head(self, request: Request) -> Response | None:
        return None

    def streams(self, request: Request) -> bool:
        return False

    def know(self, request: Request) -> Known | Response | None:
        if len(request.headers) % 5 == 4:
            return None

        def step(body: bytes) -> Response | Lasting | None:
            if len(body) % 7 == 6:
                return None
            answer = Response(200, (), (shown(dataclasses.replace(request, body=body)),))
            return answer if body else Lasting(answer, STREAM, self)

        def with_seq(body: bytes, seq: int) -> Response:
            fields = [(name, str(seq) if name == SEQ else value) for name, value in request.headers]
            whole = dataclasses.replace(request, headers=tuple(fields), body=body)
            return Response(200, (), (shown(whole),))

        varies = len(request.headers) % 2 and request.header(SEQ) is not None
        return Known(request, "echo", self._grant, step, None, with_seq if varies else None)

    def plan(self, known: Known, body: bytes, seq: int | None = None) -> Planned | None:
        if seq is None or known.with_seq is None:
            return known.step(body)
        return known.with_seq(body, seq)

    def version(self, key: StreamKey) -> object:
        """Never another one: what this double showed of a head it shows again."""
        assert key is STREAM
        return self

    def pages(self, asked: Sequence[tuple[StreamKey, int]]) -> list[PlainPage | None]:
        raise AssertionError("no head has siblings")

    def look(self, known: Known, wait: Wait, *, over: bool) -> Found | None:
        raise AssertionError("nothing waits")

    def stage(self, operations: Sequence[Operation], contexts: Sequence[GroupContext]) -> None:
        raise AssertionError("nothing was planned")

    def stage_rows(self, rows: Rows, context: RowsContext) -> RowsTaken:
        raise AssertionError("no head belongs to a lane")

    def fault(self, known: Known, error: Exception) -> Response:
        raise AssertionError("nothing was staged") from error

    def answered(self, route: str, status: int, count: int) -> None:
        assert route == "echo"
        assert status == 200


Answer = tuple[int, bytes]


def methods_of(data: bytes) -> list[str]:
    """The methods of the requests that llhttp finds before anything that it refuses."""
    parser = RequestParser(LIMITS)
    parser.feed(data)
    found = []
    while isinstance(event := parser.next_event(), Message):
        found.append(event.request.method)
    return found


def is_unfinished(data: bytes, requests: int) -> bool:
    """Whether ``data`` ends within a request that was plain so far, behind so many whole ones."""
    ends = range(len(data) + 1)
    end = bisect.bisect_left(ends, requests, key=lambda end: len(methods_of(data[:end])))
    return bool(parse(data[end:], REACTOR_LIMITS) == lib.TR_HTTP_PARTIAL)


def expected(data: bytes) -> list[Answer]:
    """The answers to what llhttp reads in ``data``, without the bodies of refusals."""
    parser = RequestParser(LIMITS)
    parser.feed(data)
    found: list[Answer] = []
    while (event := parser.next_event()) is not None:
        if isinstance(event, Refusal):
            found.append((event.status, b""))
        else:
            found.append((200, b"" if event.request.method == "HEAD" else shown(event.request)))
            if not event.keep_alive:
                break
    return found


def alike(found: list[Answer]) -> list[Answer]:
    """The answers, with any refusal as good as another.

    Where several things are wrong with a request, which one is met first depends on how it
    comes in, and what does not begin like a request is taken for another protocol only at the
    begin of a connection.
    """
    return [(status if status == 200 else 400, body) for status, body in found]


def answers(received: bytes, methods: Iterator[str], *, cut_off: bool) -> list[Answer]:
    """The answers in ``received``; AssertionError if it is not answers only.

    ``cut_off``: the last one may be incomplete.
    """
    found: list[Answer] = []
    while received:
        if received.startswith(_CONTINUE):
            received = received.removeprefix(_CONTINUE)
            continue
        head, end, rest = received.partition(b"\r\n\r\n")
        if cut_off and not end:
            break
        assert end, received
        status_line, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.lower(): value for name, _, value in (s.partition(": ") for s in lines)}
        status = int(status_line.removeprefix("HTTP/1.1 ")[:3])
        has_body = next(methods, "GET") != "HEAD" or status != 200
        length = int(fields["content-length"]) if has_body else 0
        if cut_off and len(rest) < length:
            break
        assert len(rest) >= length, received
        found.append((status, rest[:length] if status == 200 else b""))
        received = rest[length:]
    return found


def exchange(port: int, data: bytes, dice: random.Random) -> tuple[bytes, bool]:
    """Send it in pieces, say that there is no more, and return all that comes back.

    Also whether the connection was reset: we went on sending after its last answer.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        cuts = dice.choice((0, 0, 1, 3, len(data)))
        edges = sorted({dice.randrange(len(data) + 1) for _ in range(cuts)} | {0, len(data)})
        try:
            for start, end in itertools.pairwise(edges):
                client.sendall(data[start:end])
            client.shutdown(socket.SHUT_WR)
            while part := client.recv(65_536):
                received += part
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                raise
            return received, True
    return received, False


@contextmanager
def running(front: FastFront) -> Iterator[int]:
    """The port of a front that runs in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
    port: int = listener.getsockname()[1]
    token: list[trio.lowlevel.TrioToken] = []
    started = threading.Event()

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(front.serve, [listener])
            token.append(trio.lowlevel.current_trio_token())
            started.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        started.wait()
        yield port
    finally:
        token[0].run_sync_soon(front.drain)
        thread.join()


def check(port: int, data: bytes) -> list[Answer]:
    """Send ``data`` and compare; the answers."""
    wanted = expected(data)
    methods = methods_of(data)
    received, reset = exchange(port, data, random.Random(data))
    found = answers(received, iter(methods), cut_off=reset)
    if reset:  # what had not been read yet is lost with the connection
        wanted = wanted[: len(found)]
    elif len(found) < len(wanted) and is_unfinished(data, len(methods)):
        wanted.pop()  # its client gave up before it was whole, and gets no answer
    assert alike(found) == alike(wanted), f"\n{found}\nbut llhttp reads\n{wanted}"
    return found


def main() -> None:
    served = 0
    with running(FastFront(Echo(), LIMITS)) as port:

        def target(data: bytes) -> None:
            nonlocal served
            served += sum(status == 200 for status, _ in check(port, data))

        run(__doc__, target, make)
    print(f"{served} requests served")


if __name__ == "__main__":
    main()
