"""Draws HTTP/1.1 byte strings for the fuzz targets: plain requests, odd ones, attacks, and ruins.

Most parts of most requests are what clients send, so that parsers get far; each part is now
and then one of those that parsers disagree about (RFC 9112 section 11.2), and now and then
the whole is edited without regard for its meaning.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

METHODS: Final = (b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"PATCH", b"OPTIONS")
ODD_METHODS: Final = (
    *(b"get", b"Post", b"G", b"GETT", b"POST\t", b"M-SEARCH", b"CONNECT", b"TRACE", b"PRI", b""),
    *(b"QUERY", b"G@T", b"\x16\x03\x01", b"PURGE", b"PO", b"HTTP/1.1", b"_", b" GET", b"GE\0T"),
)
TARGETS: Final = (
    b"/",
    b"/v1/sessions/agent-7/events",
    b"/v1/sessions/a%2Fb/events?offset=-1&live=sse",
    b"/v1/stream/logs/app.1",
    b"/v1/stream/x?offset=00000001&limit=10",
    b"/ds/team/stream",
    b"/healthz",
    b"/v1/search?q=%22a+b%22",
)
ODD_TARGETS: Final = (
    *(b"*", b"http://a.example/x?y", b"HTTP://A/", b"https://a", b"http://", b"http:/x", b"//a/b"),
    *(b"a.example:443", b"", b"x", b"?", b"/?", b"/#f", b"/a#b?c", b"/a\tb", b"/a b", b"/\xc3\xa9"),
    *(b"/\x7f", b"/\0", b"/\x01", b"/..", b"/%", b"/%zz", b"/\\", b'/"', b"/a|b", b"/{}", b"/`"),
    *(
        b"/^<>",
        b"/ ",
        b" /",
        b"http://u:p@h/x",
        b"http://[::1]/",
        b"/a%00b",
        b"ftp://a/b",
        b"/\x80",
    ),
)
VERSIONS: Final = (b"HTTP/1.1",)
ODD_VERSIONS: Final = (
    *(b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/1.", b"HTTP/11", b"http/1.1"),
    *(
        b"HTTP/1.10",
        b"HTTP/01.1",
        b"HTTP/1.1 ",
        b" HTTP/1.1",
        b"HTTP /1.1",
        b"",
        b"HTTP",
        b"ICE/1.1",
    ),
    *(b"RTSP/1.1", b"HTTP/1,1", b"HTTP/1.1\t", b"HTTPS/1.1", b"HTTP/\x001.1", b"HTTP/1.\xb1"),
)
HOSTS: Final = (b"Host: a", b"Host: localhost:4437", b"host: 127.0.0.1:80", b"HOST:a.example")
ODD_HOSTS: Final = (
    *(
        b"",
        b"Host:",
        b"Host: ",
        b"Host: a b",
        b"Host: a,b",
        b"Host: a/b",
        b"Host: u@h",
        b"Host: [::1]",
    ),
    *(b"Host: [::1]:80", b"Host: [::1", b"Host: a:80:80", b"Host: a:b", b"Host : a", b"Host: \xe9"),
    *(
        b"Host: a\r\nHost: a",
        b"Host: a\r\nhost: b",
        b"Host:\ta\t",
        b"Host: a\0b",
        b"Host: %61",
        b" Host: a",
    ),
)
FIELDS: Final = (
    b"Content-Type: application/json",
    b"content-type: text/plain; charset=utf-8",
    b"Accept: */*",
    b"Accept-Encoding: gzip, deflate",
    b"User-Agent: agent/1.0 (x; y)",
    b"Authorization: Bearer abc",
    b"X-Api-Key: k",
    b"Producer-Id: p",
    b"Producer-Epoch: 0",
    b"Producer-Seq: 17",
    b"producer-seq:  9 ",
    b"Producer-Seq: 123456789012345",
    b"Stream-Seq: 0009",
    b"Stream-Closed: true",
    b"Stream-TTL: 60",
    b'If-None-Match: "a:b"',
    b"Last-Event-ID: 00000001",
    b"Cache-Control: no-cache",
    b"Origin: http://localhost",
    b"Connection: keep-alive",
    b"X-A:",
    b"X-A: b",
    b"X-B:    padded   ",
    b"X-Obs: caf\xe9",
)
ODD_FIELDS: Final = (
    *(b"Producer-Seq:", b"Producer-Seq: 0", b"Producer-Seq: 017", b"Producer-Seq: 1 7"),
    *(b"Producer-Seq: 1234567890123456", b"Producer-Seq: -1", b"producer-seq: x"),
    *(b"Connection: close", b"Connection: Close", b"connection: keep-alive, close", b"Connection:"),
    *(b"Connection: upgrade", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"),
    *(b"Upgrade: websocket", b"HTTP2-Settings: AA", b"Connection: x", b"Connection: closed"),
    *(b"Connection: close, keep-alive", b"Connection: Host", b"Connection: content-length"),
    *(b"Proxy-Connection: close", b"Keep-Alive: timeout=5", b"Connection:close,", b"Connection: ,"),
    *(b"Expect: 100-continue", b"Expect: 100-Continue", b"Expect: 200-ok", b"expect:"),
    *(b"Trailer: X-A", b"TE: trailers", b"Via: 1.1 x", b"Content-Encoding: gzip"),
    *(b"X-A : b", b"X-A\t: b", b" X-A: b", b"\tX-A: b", b": b", b"X-A", b"X A: b", b"X-A: b\0c"),
    *(b"X-A: b\x01c", b"X-A: b\x7fc", b"X-A: b\tc", b"X-A:\tb", b"X-A: b\x0bc", b"X-A: \xff\xfe"),
    *(
        b"X-A: b\r\n c",
        b"X-A: b\r\n\tc",
        b"X-A: b\r\n ",
        b"X-A:\r\n b",
        b"X-A: b\rc",
        b"X-A: b\nY: c",
    ),
    *(
        b"X-A: b\r",
        b"X-A: b\n",
        b"X\xe9: a",
        b"X(: a",
        b"X\0: a",
        b"X@A: a",
        b'X"A: a',
        b"X\x7f: a",
    ),
    *(b"!#$%&'*+-.^_`|~: a", b"X_A: a", b"1: a", b"X-A:b:c", b"X-A::", b"Stream-Closed: TRUE"),
    *(b"Producer-Id: a\r\nProducer-Id: b", b"Content-Type: a\r\nContent-Type: b"),
    *(b"Authorization: a\r\nauthorization: b", b"X-" + b"a" * 300 + b": b", b"X-A: " + b"b" * 5000),
    *(b"X: y\r\n" * 120 + b"X: y",),
)
LENGTHS: Final = (b"Content-Length: %d", b"content-length: %d", b"Content-Length:%d")
ODD_LENGTHS: Final = (
    *(b"Content-Length: +%d", b"Content-Length: 0%d", b"Content-Length: 000000000000000000000%d"),
    *(
        b"Content-Length: %d ",
        b"Content-Length: %d\t",
        b"Content-Length:\t%d",
        b"Content-Length : %d",
    ),
    *(
        b"Content-Length: %d, %d",
        b"Content-Length: %d,%d",
        b"Content-Length: %d;",
        b"Content-Length: -%d",
    ),
    *(
        b"Content-Length: 0x%x",
        b"Content-Length: %d.0",
        b"Content-Length: %de0",
        b"Content-Length: %d %d",
    ),
    *(b"Content-Length: %d\r\nContent-Length: %d", b"Content-Length: %d\r\ncontent-length: 1%d"),
    *(
        b"Content-Length: %d\r\nTransfer-Encoding: chunked",
        b"Content-Length: %d\0",
        b"Content_Length: %d",
    ),
    *(
        b"Transfer-Encoding: chunked\r\nContent-Length: %d",
        b"Content-Length: %d\r\n 5",
        b"Content-Length:",
    ),
    *(b"Content-Length: 18446744073709551616", b"Content-Length: 18446744073709551615", b""),
    *(
        b"Content-Length: 9223372036854775808",
        b"Content-Length: 4294967296",
        b"Content-Length: 1%d",
    ),
    *(
        b"Content-Length: 16777216",
        b"Content-Length: 16777217",
        b"Content-Length: 99999999999999999999%d",
    ),
    *(
        b"Content-Length: 18446744073709551617",
        b"Content-Length: 1_0",
        b"Content-Length: \xb2",
        b"Length: %d",
    ),
    *(
        b"Content-Length: %d\r\nConnection: close",
        b"Content-Length: 00",
        b"Content-Length: \r\n %d",
    ),
)
CODINGS: Final = (
    *(b"Transfer-Encoding: chunked", b"transfer-encoding: chunked", b"Transfer-Encoding: Chunked"),
    *(
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, gzip",
        b"Transfer-Encoding:",
    ),
    *(
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: xchunked",
    ),
    *(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: chunked\0",
    ),
    *(
        b"Transfer-Encoding:\tchunked",
        b"Transfer-Encoding: \x0bchunked",
        b"Transfer-Encoding: chunked ",
    ),
    *(
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer_Encoding: chunked",
        b"X: y\nTransfer-Encoding: chunked",
    ),
    *(
        b'Transfer-Encoding: "chunked"',
        b"Transfer-Encoding: chunked;q=1",
        b"Transfer-Encoding: chunked,",
    ),
)
CHUNKED_BODIES: Final = (
    *(
        b"5\r\nhello\r\n0\r\n\r\n",
        b"1;a=b\r\nx\r\n0\r\nT: u\r\n\r\n",
        b"0\r\n\r\n",
        b"05\r\nhello\r\n0\r\n\r\n",
    ),
    *(
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"-1\r\n",
        b"fffffffffffffffff\r\n",
    ),
    *(
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"0\r\nX: y\r\nContent-Length: 3\r\n\r\n",
        b"5;\r\nhello\r\n0\r\n\r\n",
    ),
)
TOKENS: Final = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"\n\n",
        b"\r\r\n",
        b"\n\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b",",
        b"0",
        b"\x0b",
    ),
    *(
        b"\x0c",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xa0",
        b"\x85",
        b"/",
        b"?",
        b"HTTP/1.1",
        b"  ",
        b"\r\n ",
        b"\r\n\t",
    ),
    *(
        b"Host: b\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
    ),
    *(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
)


def _body(dice: random.Random) -> bytes:
    kind = dice.randrange(6)
    if kind == 0:
        return b""
    if kind == 1:
        return dice.randbytes(dice.randrange(40))
    if kind == 2:  # a body that looks like the next request
        return b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    if kind == 3:
        return b'{"type":"a","text":"' + b"x" * dice.choice((1, 30, 900, 5000)) + b'"}'
    return b'[{"type":"a","n":%d}]' % dice.randrange(1000)


def _one(dice: random.Random, odds: float) -> bytes:
    """One request; each of its parts is odd with the probability ``odds``."""

    def part(plain: Sequence[bytes], odd: Sequence[bytes]) -> bytes:
        return dice.choice(odd if dice.random() < odds else plain)

    method = part(METHODS, ODD_METHODS)
    space = part((b" ",), (b"  ", b"\t", b"", b"\x0b", b" \t", b"\xa0"))
    version = part(VERSIONS, ODD_VERSIONS)
    line = method + space + part(TARGETS, ODD_TARGETS) + b" " + version
    fields = dice.choices(FIELDS, k=dice.choice((0, 0, 1, 2, 3, 6)))
    fields += [dice.choice(ODD_FIELDS) for _ in range(4) if dice.random() < odds]
    fields.append(part(HOSTS, ODD_HOSTS))
    body = b""
    if method not in (b"GET", b"HEAD", b"DELETE", b"OPTIONS") or dice.random() < odds:
        if dice.random() < odds:
            fields.append(dice.choice(CODINGS))
            body = dice.choice(CHUNKED_BODIES)
        else:
            body = _body(dice)
            length = part(LENGTHS, ODD_LENGTHS)
            fields.append(
                length.replace(b"%d", b"%d" % len(body)).replace(b"%x", b"%x" % len(body))
            )
    elif dice.random() < odds:
        fields.append(b"Content-Length: 0")
    dice.shuffle(fields)
    end = part((b"\r\n",), (b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\r\n\0", b" \r\n"))
    head = end.join([line, *(field for field in fields if field or dice.random() < 0.1)])
    return head + end + part((b"\r\n",), (b"\n", b"\r", b"\r\n\r\n", b"", b" \r\n")) + body


def _edit(dice: random.Random, data: bytearray) -> None:
    """One change without regard for meaning."""
    kind = dice.randrange(7)
    place = dice.randrange(len(data) + 1)
    if kind == 0 and place < len(data):
        data[place] ^= 1 << dice.randrange(8)
    elif kind == 1:
        data[place : place + dice.randrange(3)] = dice.choice(TOKENS)
    elif kind == 2:
        data[place:place] = bytes((dice.randrange(256),))
    elif kind == 3:
        del data[place : place + dice.choice((1, 1, 2, 8, 60))]
    elif kind == 4:  # splice: some bytes of it once more, somewhere else
        start = dice.randrange(len(data) + 1)
        data[place:place] = data[start : start + dice.randrange(60)]
    elif kind == 5:
        del data[place:]
    else:
        data[place:place] = bytes((dice.randrange(256),)) * dice.choice((2, 20, 300))


def make(dice: random.Random) -> bytes:
    """Bytes as one connection might bring them: some requests in a row, whole or ruined."""
    odds = dice.choice((0.0, 0.02, 0.05, 0.15, 0.4))
    data = bytearray(b"\r\n" * (dice.random() < 0.02))
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 5))):
        data += _one(dice, odds)
    for _ in range(dice.choice((0, 0, 0, 1, 1, 2, 5))):
        _edit(dice, data)
    return bytes(data)
