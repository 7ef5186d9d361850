"""A corpus of requests at ``/v1/stream/{path}`` that every front must answer alike.

The cases run in order against one store, each on a connection of its own, so later ones
see what earlier ones made. ``status`` is what any front answers.
"""

from __future__ import annotations

from typing import Final

from tests.server.corpus.case import BODY_BYTES_MAX, JSON, Case, ask, chunked

S: Final = b"/v1/stream/"
TEXT: Final = b"Content-Type: text/plain"
CLOSE: Final = b"Stream-Closed: true"


def put(path: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return ask(b"PUT " + S + path, *fields, body=body)


def post(path: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return ask(b"POST " + S + path, *fields, body=body)


def get(path: bytes, *fields: bytes) -> bytes:
    return ask(b"GET " + S + path, *fields)


def producer(identity: bytes, epoch: bytes, seq: bytes) -> tuple[bytes, ...]:
    return (
        b"Producer-Id: " + identity,
        b"Producer-Epoch: " + epoch,
        b"Producer-Seq: " + seq,
    )


_CREATES: Final = [
    Case("create text", put(b"t", TEXT, body=b"one\n"), 201),
    Case("create it again", put(b"t", TEXT), 200),
    Case("create it otherwise", put(b"t", JSON), 409),
    Case("create JSON", put(b"j", JSON, body=b'[{"a":1}, [2], "3"]'), 201),
    Case("create JSON of nothing", put(b"j/empty", JSON, body=b"[]"), 201),
    Case("create broken JSON", put(b"j/bad", JSON, body=b"[1,"), 400),
    Case("create without a type", put(b"bytes", body=b"\x00\xff"), 201),
    Case("create without a length", ask(b"PUT " + S + b"nolength", TEXT), 201),
    Case("create with a bad type", put(b"bad", b"Content-Type: text"), 400),
    Case("create with a type twice", put(b"bad", TEXT, TEXT), 400),
    Case("create closed", put(b"closed", TEXT, CLOSE, body=b"all"), 201),
    Case("create closed again", put(b"closed", TEXT, b"stream-closed: TRUE"), 200),
    Case("create open what is closed", put(b"closed", TEXT), 409),
    Case("create not quite closed", put(b"open", TEXT, b"Stream-Closed: yes"), 201),
    Case("create with TTL", put(b"ttl", TEXT, b"Stream-TTL: 86400"), 201),
    Case("create with another TTL", put(b"ttl", TEXT, b"Stream-TTL: 86401"), 409),
    Case("create with expiry", put(b"exp", TEXT, b"Stream-Expires-At: 2999-01-01T00:00:00Z"), 201),
    Case(
        "create with both",
        put(b"bad", b"Stream-TTL: 1", b"Stream-Expires-At: 2999-01-01T00:00:00Z"),
        400,
    ),
    *(
        Case(f"create with TTL {ttl!r}", put(b"bad", b"Stream-TTL: " + ttl), 400)
        for ttl in (b"", b"01", b"+1", b"-1", b"1.0", b"1e3", b"x", b"18446744073709551617")
    ),
    *(
        Case(f"create with expiry {at!r}", put(b"bad", b"Stream-Expires-At: " + at), 400)
        for at in (b"", b"soon", b"2030-01-01", b"2030-02-30T00:00:00Z", b"1234567890")
    ),
    Case("create with a slash", put(b"a/b/c", TEXT), 201),
    Case("create with an encoded slash", put(b"a%2Fb%2fc", TEXT), 201),
    Case("create with encoded UTF-8", put(b"%C3%A9", TEXT), 201),
    Case("create with its letters in other case", put(b"%c3%a9", TEXT), 200),
    Case("create with an encoded percent sign", put(b"100%25", TEXT), 201),
    Case("create with a plus", put(b"a+b", TEXT), 201),
    Case("create with no name", put(b"", TEXT), 400),
    Case("create with no slash", ask(b"PUT /v1/stream", TEXT, body=b""), 404),
    Case("create reserved", put(b"__ds/x", TEXT), 404),
    Case("create reserved, encoded", put(b"%5f%5fds", TEXT), 404),
    *(
        Case(f"create at {path!r}", put(path, TEXT), 400)
        for path in (b"%", b"a%2", b"%zz", b"%FF", b"%00", b"a%0A", b"..", b"a/../b", b"%2e%2e/b")
    ),
    Case("create with a long name", put(b"x" * 1025, TEXT), 400),
    Case("create with an absolute target", put(b"t", TEXT).replace(b" /", b" http://h/", 1), 200),
    Case("create too large", put(b"bad", TEXT, body=b"x" * (BODY_BYTES_MAX + 1)), 413),
    Case("create too many", put(b"bad", JSON, body=b"[" + b"1," * 50 + b"1]"), 413),
    Case("create without a key", ask(b"PUT " + S + b"bad", TEXT, body=b"", auth=False), 401),
]

_APPENDS: Final = [
    Case("append", post(b"t", TEXT, body=b"two\n"), 204),
    Case("append with a charset", post(b"t", TEXT + b"; charset=utf-8", body=b"three"), 204),
    Case(
        "append chunked",
        chunked(b"POST " + S + b"t", b"3\r\nfou\r\n1\r\nr\r\n0\r\n\r\n", TEXT),
        204,
    ),
    Case("append nothing", post(b"t", TEXT), 400),
    Case("append nothing, no length", ask(b"POST " + S + b"t", TEXT), 400),
    Case("append without a type", post(b"t", body=b"x"), 400),
    Case("append with another type", post(b"t", JSON, body=b"{}"), 409),
    Case("append to nothing", post(b"none", TEXT, body=b"x"), 404),
    Case("append nothing to nothing", post(b"none", TEXT), 404),
    Case("append JSON", post(b"j", JSON, body=b'{"n": 18446744073709551617}'), 204),
    Case("append JSON array", post(b"j", JSON, body=b"[[[1]],\r\n2]"), 204),
    Case("append empty array", post(b"j", JSON, body=b"[]"), 400),
    Case("append broken JSON", post(b"j", JSON, body=b"{"), 400),
    Case("append JSON that is no UTF-8", post(b"j", JSON, body=b'"\xff"'), 400),
    Case("append to closed", post(b"closed", TEXT, body=b"x"), 409),
    Case("append broken JSON to closed", post(b"closed", JSON, body=b"{"), 409),
    Case("close closed", post(b"closed", CLOSE), 204),
    Case("close with an odd type", post(b"closed", CLOSE, b"Content-Type: ?"), 204),
    Case("close and append to closed", post(b"closed", TEXT, CLOSE, body=b"x"), 409),
    Case("close", post(b"open", CLOSE), 204),
    Case("close nothing", post(b"none", CLOSE), 404),
    Case("stream seq", post(b"t", TEXT, b"Stream-Seq: b", body=b"x"), 204),
    Case("stream seq again", post(b"t", TEXT, b"Stream-Seq: b", body=b"x"), 409),
    Case("stream seq before", post(b"t", TEXT, b"Stream-Seq: a", body=b"x"), 409),
    Case("stream seq empty", post(b"t", TEXT, b"Stream-Seq:", body=b"x"), 400),
    Case("expected", post(b"a/b/c", TEXT, b"Stream-Expected-Offset: -1", body=b"x"), 204),
    Case("unexpected", post(b"a/b/c", TEXT, b"Stream-Expected-Offset: -1", body=b"x"), 409),
    Case("expected nonsense", post(b"a/b/c", TEXT, b"Stream-Expected-Offset: 1", body=b"x"), 400),
    Case("producer", post(b"t", TEXT, *producer(b"p", b"0", b"0"), body=b"x"), 200),
    Case("producer again", post(b"t", TEXT, *producer(b"p", b"0", b"0"), body=b"x"), 204),
    Case("producer gap", post(b"t", TEXT, *producer(b"p", b"0", b"2"), body=b"x"), 409),
    Case("producer epoch", post(b"t", TEXT, *producer(b"p", b"3", b"0"), body=b"x"), 200),
    Case("producer fenced", post(b"t", TEXT, *producer(b"p", b"2", b"0"), body=b"x"), 403),
    Case("producer start", post(b"t", TEXT, *producer(b"p", b"4", b"1"), body=b"x"), 400),
    Case("producer of UTF-8", post(b"t", TEXT, *producer(b"\xc3\xa9", b"0", b"0"), body=b"x"), 200),
    Case("producer of bytes", post(b"t", TEXT, *producer(b"\xff", b"0", b"0"), body=b"x"), 400),
    Case("producer alone", post(b"t", TEXT, b"Producer-Id: p", body=b"x"), 400),
    *(
        Case(f"producer seq {seq!r}", post(b"t", TEXT, *producer(b"q", b"0", seq), body=b"x"), 400)
        for seq in (b"", b"-1", b"00", b"1.5", b"9007199254740992", b"18446744073709551616")
    ),
]

_READS: Final = [
    Case("append gzip", post(b"t", TEXT, b"Content-Encoding: gzip", body=b"x"), 415),
    Case("read", get(b"t"), 200),
    Case("read, of no body a coding", get(b"t", b"Content-Encoding: gzip"), 200),
    Case("read JSON", get(b"j"), 200),
    Case("read bytes", get(b"bytes"), 200),
    Case("read nothing", get(b"j/empty"), 200),
    Case("read none", get(b"none"), 404),
    Case("read an encoded slash", get(b"a%2fb%2Fc"), 200),
    *(
        Case(f"read {query!r}", get(b"j?" + query), 200)
        for query in (
            b"offset=-1",
            b"offset=now",
            b"offset=00000001",
            b"offset=0%3000000%31",
            b"offset=99999999",
            b"offset=a123456789",
            b"offset=0000000000000000_0000000000000000",
            b"unknown=1&unknown=2",
            b"",
        )
    ),
    *(
        Case(f"read {query!r}", get(b"j?" + query), 400)
        for query in (
            b"offset=",
            b"offset=1",
            b"offset=0,0",
            b"offset=-1&offset=-1",
            b"offset=%",
            b"offset=%FF",
            b"live=sse",
            b"live=long-poll",
            b"live=&offset=-1",
            b"live=true&offset=-1",
        )
    ),
    Case("read what is known", get(b"closed", b'If-None-Match: "x", *'), 200),
    Case("read anything but", get(b"closed", b"If-None-Match: *"), 304),
    Case("head", ask(b"HEAD " + S + b"t"), 200),
    Case("head of JSON", ask(b"HEAD " + S + b"j"), 200),
    Case("head of closed", ask(b"HEAD " + S + b"closed"), 200),
    Case("head of TTL", ask(b"HEAD " + S + b"ttl"), 200),
    Case("head of expiry", ask(b"HEAD " + S + b"exp"), 200),
    Case("head of none", ask(b"HEAD " + S + b"none"), 404),
    Case("long-poll with data", get(b"j?offset=-1&live=long-poll"), 200),
    Case("long-poll without", get(b"j?offset=now&live=long-poll"), 204),
    Case("long-poll at the end", get(b"closed?offset=now&live=long-poll"), 204),
    Case("long-poll of none", get(b"none?offset=now&live=long-poll"), 404),
    Case("long-poll beyond", get(b"j?offset=99999999&live=long-poll&cursor=99999999"), 204),
    Case("long-poll of text", get(b"t?offset=00000001&live=long-poll&cursor=x"), 200),
    Case(
        "long-poll of what is known", get(b"j?offset=-1&live=long-poll", b"If-None-Match: *"), 304
    ),
    Case("long-poll of a TTL", get(b"ttl?offset=now&live=long-poll"), 204),
    Case("long-poll from no offset", get(b"j?offset=x&live=long-poll"), 400),
    Case("long-poll that parts", get(b"j?offset=now&live=long-poll", b"Connection: close"), 204),
    Case("head that polls", ask(b"HEAD " + S + b"j?offset=now&live=long-poll"), 200),
    Case("events of JSON", get(b"j?offset=-1&live=sse"), 200),
    Case("events of text", get(b"t?offset=-1&live=sse"), 200),
    Case("events of bytes", get(b"bytes?offset=-1&live=sse"), 200),
    Case("events of closed", get(b"closed?offset=-1&live=sse"), 200),
    Case("events of none", get(b"none?offset=-1&live=sse"), 404),
    Case("read without a key", ask(b"GET " + S + b"t", auth=False), 401),
]

_FORKS: Final = [
    Case("fork", put(b"f", b"Stream-Forked-From: /v1/stream/t"), 201),
    Case("fork again", put(b"f", b"Stream-Forked-From: /v1/stream/t"), 200),
    Case(
        "fork at an offset",
        put(b"f1", b"Stream-Forked-From: /v1/stream/t", b"Stream-Fork-Offset: 00000001"),
        201,
    ),
    Case(
        "fork inside a record",
        put(
            b"f2",
            b"Stream-Forked-From: /v1/stream/t",
            b"Stream-Fork-Offset: 00000001",
            b"Stream-Fork-Sub-Offset: 2",
        ),
        201,
    ),
    Case("fork read", get(b"f2"), 200),
    Case("fork of none", put(b"f3", b"Stream-Forked-From: /v1/stream/none"), 404),
    Case("fork of elsewhere", put(b"f3", b"Stream-Forked-From: http://h/v1/stream/t"), 400),
    Case("fork of another type", put(b"f3", JSON, b"Stream-Forked-From: /v1/stream/t"), 409),
    Case(
        "fork beyond",
        put(b"f3", b"Stream-Forked-From: /v1/stream/t", b"Stream-Fork-Offset: 99999999"),
        400,
    ),
    Case("fork offset alone", put(b"f3", b"Stream-Fork-Offset: -1"), 400),
    Case("fork sub-offset alone", put(b"f3", b"Stream-Fork-Sub-Offset: 0"), 400),
    Case("delete the source", ask(b"DELETE " + S + b"t"), 204),
    Case("delete it again", ask(b"DELETE " + S + b"t"), 410),
    Case("read it", get(b"t"), 410),
    Case("poll it", get(b"t?offset=now&live=long-poll"), 410),
    Case("head of it", ask(b"HEAD " + S + b"t"), 410),
    Case("append to it", post(b"t", TEXT, body=b"x"), 410),
    Case("create it", put(b"t", TEXT), 409),
    Case("fork it", put(b"f3", b"Stream-Forked-From: /v1/stream/t"), 409),
    Case("read its fork", get(b"f"), 200),
    Case("delete", ask(b"DELETE " + S + b"j"), 204),
    Case("delete none", ask(b"DELETE " + S + b"j"), 404),
]

_METHODS: Final = [
    Case("options", ask(b"OPTIONS " + S + b"a/b", b"Origin: http://a", auth=False), 204),
    Case("options of no path", ask(b"OPTIONS /v1/streams", auth=False), 404),
    Case("patch", ask(b"PATCH " + S + b"t", body=b"{}"), 405),
]

# Appends that are nothing but a body, of every kind that one can be.
_PLAIN_JSON: Final = (
    b"0",
    b"-1.5e+300",
    b"null",
    b'""',
    b'"\xc3\xa9\xf0\x9f\x98\x80"',
    b'"\\u0000\\n\\ud83d\\ude00"',
    b'{"a":{"b":[1,{"c":[]}]},"a":true}',
    b'{ "spaced" :\t[ 1 , 2 ] }',
    b'{"lines":\r\n1}',
    b" 1",
    b"1\n",
    b"[1]",
    b"[[1],2]",
    b'{"a":' * 119 + b"[0]" + b"}" * 119,
    b'"' + b"x" * 10_000 + b'"',
)
_BAD_JSON: Final = (
    b"[]",
    b"",
    b"{",
    b"01",
    b"NaN",
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\\ud800"',
    b'"\n"',
    b"1,",
    b'{"a":' * 120 + b"[0]" + b"}" * 120,
)
_BYTES: Final = (b"x", b"\x00", b"\xff" * 9, b" \r\n ", b"[]", b"y" * 10_000)
_PLAIN: Final = [
    Case("create for plain JSON", put(b"plain/j", JSON), 201),
    Case("create for plain bytes", put(b"plain/b", TEXT), 201),
    *(
        Case(f"append plain JSON {body[:40]!r}", post(b"plain/j", JSON, body=body), 204)
        for body in _PLAIN_JSON
    ),
    *(
        Case(f"append bad JSON {body[:40]!r}", post(b"plain/j", JSON, body=body), 400)
        for body in _BAD_JSON
    ),
    *(
        Case(f"append plain bytes {body[:40]!r}", post(b"plain/b", TEXT, body=body), 204)
        for body in _BYTES
    ),
    Case("append JSON as bytes", post(b"plain/b", JSON, body=b"{}"), 409),
    Case("append bytes as JSON", post(b"plain/j", TEXT, body=b"{}"), 409),
    Case("append too large a body", post(b"plain/b", TEXT, body=b"x" * (BODY_BYTES_MAX + 1)), 413),
    Case("read plain JSON", get(b"plain/j"), 200),
    Case("read plain bytes", get(b"plain/b"), 200),
    Case("close plain bytes", post(b"plain/b", CLOSE), 204),
    Case("append plain bytes to closed", post(b"plain/b", TEXT, body=b"x"), 409),
]

CASES: Final = [*_CREATES, *_APPENDS, *_READS, *_FORKS, *_METHODS, *_PLAIN]
