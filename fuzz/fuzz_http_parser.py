"""Fuzzes the fast front's HTTP parser: ``python -m fuzz.fuzz_http_parser --seconds 10``.

Cutting the input anywhere changes no event, nothing but events ever comes out, and a
request that h11 reads as well is the same request to both: the same method, target and
body, and the same place where the next one begins.
"""

from __future__ import annotations

import itertools
import random
from typing import Final

import h11

from fuzz.engine_driver import run
from tailrace_server.fast.parser import Message, RequestParser
from tailrace_server.front import FrontLimits, Refusal, split_target

LIMITS: Final = FrontLimits(
    head_bytes_max=600, target_bytes_max=200, head_fields_max=12, body_bytes_max=300
)
LINES: Final = (
    b"GET / HTTP/1.1",
    b"POST /v1/sessions/a%2Fb/events?x=y HTTP/1.1",
    b"GET http://a.example/x?y HTTP/1.1",
    b"OPTIONS * HTTP/1.1",
    b"GET /old HTTP/1.0",
    b"HEAD /h HTTP/1.1",
)
FIELDS: Final = (
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Transfer-Encoding: chunked",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: upgrade",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"X-A: b",
    b"X-A:",
    b"X-High: \xff",
)
BODIES: Final = (
    b"",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"1;a=b\r\nx\r\n0\r\nT: u\r\n\r\n",
    b"0\r\n\r\n",
)
TOKENS: Final = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b"0",
    b"\x0b",
    b"\xff",
    b"Host: b\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n",
)


def make(dice: random.Random) -> bytes:
    """A few requests in a row, often with an edit or two."""
    data = bytearray()
    for _ in range(dice.randint(1, 3)):
        lines = [dice.choice(LINES), b"Host: a", *dice.choices(FIELDS, k=dice.randint(0, 3))]
        data += b"\r\n".join(lines) + b"\r\n\r\n" + dice.choice(BODIES)
    for _ in range(dice.choice((0, 0, 1, 1, 2, 3))):
        place = dice.randrange(len(data) + 1)
        data[place : place + dice.choice((0, 0, 1, 2))] = dice.choice(TOKENS)
    return bytes(data)


def parse(data: bytes, cuts: list[int]) -> list[Message | Refusal]:
    parser = RequestParser(LIMITS)
    for start, end in itertools.pairwise([0, *sorted(cuts), len(data)]):
        if start < end:
            parser.feed(data[start:end])
    events = []
    while (event := parser.next_event()) is not None:
        events.append(event)
    for earlier in events[:-1]:
        assert isinstance(earlier, Message), "something was parsed after a refusal"
    return events


def parse_h11(data: bytes) -> list[tuple[str, str, bytes]]:
    """The complete requests that h11 finds before anything it refuses."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    found = []
    try:
        while isinstance(request := connection.next_event(), h11.Request):
            body = b""
            while isinstance(part := connection.next_event(), h11.Data):
                body += part.data
            if not isinstance(part, h11.EndOfMessage):
                break
            found.append((request.method.decode(), request.target.decode("latin-1"), body))
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        pass  # refused, or the connection was to be closed
    return found


def target(data: bytes) -> None:
    whole = parse(data, [])
    dice = random.Random(data)
    assert parse(data, [dice.randrange(len(data)) for _ in range(4)]) == whole
    assert parse(data, list(range(len(data)))) == whole
    ours = [event.request for event in whole if isinstance(event, Message)]
    for request, (method, line_target, body) in zip(ours, parse_h11(data), strict=False):
        assert request.method == method
        assert (request.path, request.query) == split_target(method, line_target, LIMITS)
        assert request.body == body


if __name__ == "__main__":
    run(__doc__, target, make)
