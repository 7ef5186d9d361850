"""Requests that are odd or wrong as HTTP: part of the corpus of the Sessions API."""

from __future__ import annotations

from typing import Final

from tests.server.corpus.case import EVENT, JSON, TARGET_BYTES_MAX, Case, E, ask, chunked, post

CASES: Final = [
    Case("absolute form", ask(b"GET http://tailrace.test/v1/sessions?limit=1"), 200),
    Case("absolute form, other case", ask(b"GET HTTP://tailrace.test/v1/sessions?limit=1"), 200),
    Case("absolute form, no path", ask(b"GET http://tailrace.test"), 404),
    Case("fragment", ask(b"GET /v1/sessions#a"), 400),
    Case("HTTP/1.0", ask(b"GET /v1/sessions/done HTTP/1.0"), 200),
    Case("HTTP/1.0 without host", ask(b"GET /v1/sessions/done HTTP/1.0", host=False), 200),
    Case("HTTP/1.0 append", ask(b"POST /v1/sessions/old/events HTTP/1.0", JSON, body=EVENT), 204),
    Case("connection close", ask(b"GET /v1/sessions/done", b"Connection: close"), 200),
    Case("keep alive", ask(b"GET /v1/sessions/done", b"Connection: keep-alive"), 200),
    Case(
        "h2c offered", ask(b"GET /v1/sessions/done", b"Connection: upgrade", b"Upgrade: h2c"), 200
    ),
    Case(
        "h2c offered with a body",
        post(b"/v1/sessions/up/events", EVENT, b"Connection: upgrade", b"Upgrade: h2c"),
        204,
    ),
    Case("empty header", ask(b"GET /v1/sessions/done", b"X-Empty:"), 200),
    Case("obs-text in a header", ask(b"GET /v1/sessions/done", b"X-High: \xff\xfe"), 200),
    Case("tab in a header", ask(b"GET /v1/sessions/done", b"X-Tab: a\tb"), 200),
    Case("underscore in a header", ask(b"GET /v1/sessions/done", b"Content_Length: 5"), 200),
    Case("repeated header", ask(b"GET /v1/sessions/done", b"X-A: 1", b"X-A: 2"), 200),
    Case("blank lines first", b"\r\n\r\n" + ask(b"GET /v1/sessions/done"), 200),
    Case("many headers", ask(b"GET /v1/sessions/done", *(b"X-%d: y" % n for n in range(90))), 200),
    Case(
        "too many headers",
        ask(b"GET /v1/sessions/done", *(b"X-%d: y" % n for n in range(120))),
        431,
    ),
    Case("large header", ask(b"GET /v1/sessions/done", b"X-A: " + b"y" * 5_000), 431),
    Case("long target", ask(b"GET /" + b"a" * TARGET_BYTES_MAX), 414),
    Case("expect something else", post(b"/v1/sessions/ex/events", EVENT, b"Expect: gold"), 204),
    Case(
        "WebSocket",
        ask(
            b"GET " + E,
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Version: 13",
        ),
        400,
    ),
    Case("two hosts", ask(b"GET /v1/sessions", b"Host: b"), 400),
    Case("no host", ask(b"GET /v1/sessions", host=False), 400),
    Case("host with a path", ask(b"GET /v1/sessions", b"Host: a/b", host=False), 400),
    Case("empty host", ask(b"GET /v1/sessions/done", b"Host:", host=False), 200),
    Case("IPv6 host", ask(b"GET /v1/sessions/done", b"Host: [::1]:4437", host=False), 200),
    Case("two lengths", ask(b"POST " + E, JSON, b"Content-Length: 1", body=EVENT), 400),
    Case(
        "length and chunked",
        chunked(
            b"POST " + E,
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT),
            JSON,
            b"Content-Length: 1",
        ),
        400,
    ),
    Case("negative length", ask(b"POST " + E, JSON, b"Content-Length: -1"), 400),
    Case("length in words", ask(b"POST " + E, JSON, b"Content-Length: ten"), 400),
    Case("endless length", ask(b"POST " + E, JSON, b"Content-Length: " + b"9" * 30), 400),
    Case("unknown coding", ask(b"POST " + E, JSON, b"Transfer-Encoding: gzip"), 501),
    Case("gzip, chunked", ask(b"POST " + E, JSON, b"Transfer-Encoding: gzip, chunked"), 501),
    Case("chunk size no number", chunked(b"POST " + E, b"x\r\n", JSON), 400),
    Case("chunk too long for its size", chunked(b"POST " + E, b"1\r\nxyz\r\n0\r\n\r\n", JSON), 400),
    Case("space before the colon", ask(b"GET /v1/sessions", b"X-A : b"), 400),
    Case("no colon", ask(b"GET /v1/sessions", b"X-A"), 400),
    Case("empty header name", ask(b"GET /v1/sessions", b": a"), 400),
    Case("NUL in a header", ask(b"GET /v1/sessions", b"X-A: b\x00"), 400),
    Case("bare CR in a header", ask(b"GET /v1/sessions", b"X-A: b\rc"), 400),
    Case("high byte in the target", ask(b"GET /v1/sessions/\xff"), 400),
    Case("control byte in the target", ask(b"GET /v1/sessions/\x01"), 400),
    Case("space in the target", ask(b"GET /v1/sessions/a b"), 400),
    Case("relative target", ask(b"GET v1/sessions"), 400),
    Case("no version", b"GET /v1/sessions\r\n\r\n", 505),
    Case("HTTP/1.2", ask(b"GET /v1/sessions HTTP/1.2"), 505),
    Case("HTTP/2.0", ask(b"GET /v1/sessions HTTP/2.0"), 505),
    Case("lower case method", ask(b"get /v1/sessions"), 501),
    Case("lower case version", ask(b"GET /v1/sessions http/1.1"), 400),
    Case("folded header", ask(b"GET /v1/sessions", b"X-A: b", b" c"), 400),
    Case("bare LF", ask(b"GET /v1/sessions").replace(b"\r\n", b"\n"), 400),
    Case("bare LF in a header", ask(b"GET /v1/sessions", b"X-A: b\nX-B: c"), 400),
    Case("length twice, alike", ask(b"GET /v1/sessions/done", b"Content-Length: 0", body=b""), 400),
    Case("length as a list", ask(b"GET /v1/sessions/done", b"Content-Length: 0, 0"), 400),
    Case("control byte in a header", ask(b"GET /v1/sessions", b"X-A: \x01"), 400),
    Case("coding in HTTP/1.0", chunked(b"POST " + E + b" HTTP/1.0", b"0\r\n\r\n", JSON), 400),
    Case("two spaces before the target", ask(b"GET  /v1/sessions/done"), 200),
    Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
]


REFUSED_BY_PARSER: Final = frozenset(
    case.name for case in CASES[CASES.index(next(c for c in CASES if c.name == "two hosts")) :]
) - {"host with a path", "empty host", "IPv6 host"}
"""Refused before any request exists. Status and error type are the same from every front;
the message is the parser's, and one connection may be closed where another goes on."""

HYPERCORN_DIFFERS: Final = {
    "blank lines first": (400, "h11 wants the request line first"),
    "no version": (400, "h11 calls a request line without a version illegal"),
    "two spaces before the target": (400, "h11 wants exactly one space; llhttp takes more"),
    "folded header": (200, "h11 joins folded lines, as RFC 9112 section 5.2 allows"),
    "bare LF": (200, "h11 takes LF for CRLF, as RFC 9112 section 2.2 allows"),
    "bare LF in a header": (200, "h11 takes LF for CRLF, as RFC 9112 section 2.2 allows"),
    "length twice, alike": (200, "h11 takes equal lengths for one (RFC 9112 section 6.3)"),
    "length as a list": (200, "h11 takes equal lengths for one (RFC 9112 section 6.3)"),
}
"""Where Hypercorn's parser is more or less strict than llhttp, with its status and the reason."""
