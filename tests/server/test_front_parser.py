"""The fast front's parser, byte by byte, with trailing data, and against its bounds."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_server.body import FrontBody
from tailrace_server.fast.parser import Message, RequestParser
from tailrace_server.front import FrontLimits, Refusal

LIMITS = FrontLimits(
    head_bytes_max=1024, target_bytes_max=256, head_fields_max=10, body_bytes_max=100
)
HOST = b"Host: a\r\n"


def get(*fields: bytes, target: bytes = b"/") -> bytes:
    return (
        b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"".join(f + b"\r\n" for f in fields) + b"\r\n"
    )


def post(*fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    lines = b"".join(f + b"\r\n" for f in fields)
    return b"POST /p HTTP/" + version + b"\r\n" + HOST + lines + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"
H2C = (b"Connection: upgrade", b"Upgrade: h2c")

GOOD = {
    "plain": get(),
    "query": get(target=b"/a%2Fb?x=%20&y"),
    "fields": get(b"X-A:  b \t", b"X-C:", b"X-D: \xe9"),
    "length": post(b"Content-Length: 3", body=b"abc"),
    "no body": post(b"Content-Length: 0"),
    "chunked": post(CHUNKED, body=b"3\r\nabc\r\n1;ext=1\r\nd\r\n0\r\nTrailer: x\r\n\r\n"),
    "pipelined": get() + post(b"Content-Length: 1", body=b"x") + get(target=b"/2"),
    "1.0": b"GET / HTTP/1.0\r\n\r\n",
    "1.0 kept": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "closing": get(b"Connection: close"),
    "absolute": get(target=b"http://a.example:80/x?y"),
    "absolute, no path": get(target=b"http://a.example?y"),
    "blank lines before": b"\r\n\r\n" + get(),
    "h2c offered": get(*H2C) + get(target=b"/2"),
    "h2c offered with a body": post(*H2C, b"Content-Length: 3", body=b"abc") + get(target=b"/2"),
    "h2c offered, empty body": post(*H2C, b"Content-Length: 0") + get(target=b"/2"),
    "h2c offered, chunked": post(*H2C, CHUNKED, body=b"1\r\na\r\n0\r\n\r\n") + get(target=b"/2"),
    "asterisk": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
}

SMUGGLED = {
    "two lengths": post(b"Content-Length: 1", b"Content-Length: 2", body=b"x"),
    "the same length twice": post(b"Content-Length: 1", b"Content-Length: 1", body=b"x"),
    "a list of lengths": post(b"Content-Length: 1, 1", body=b"x"),
    "signed length": post(b"Content-Length: +1", body=b"x"),
    "negative length": post(b"Content-Length: -1", body=b"x"),
    "hexadecimal length": post(b"Content-Length: 0x1", body=b"x"),
    "empty length": post(b"Content-Length:", body=b"x"),
    "endless length": post(b"Content-Length: 99999999999999999999999", body=b"x"),
    "length and coding": post(b"Content-Length: 1", CHUNKED, body=b"0\r\n\r\n"),
    "coding and length": post(CHUNKED, b"Content-Length: 1", body=b"0\r\n\r\n"),
    "coding twice": post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "chunked not last": post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"),
    "empty coding": post(b"Transfer-Encoding:", body=b"0\r\n\r\n"),
    "vertical tab in coding": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "coding in 1.0": post(CHUNKED, body=b"0\r\n\r\n", version=b"1.0"),
    "bare LF": get().replace(b"\r\n", b"\n"),
    "bare LF in a field": get(b"X-A: b\nX-C: d"),
    "bare CR in a field": get(b"X-A: b\rX-C: d"),
    "CR before CRLF": get(b"X-A: b\r"),
    "folded field": get(b"X-A: b", b" c"),
    "folded first field": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "space before colon": get(b"X-A : b"),
    "space in name": get(b"X A: b"),
    "empty name": get(b": b"),
    "no colon": get(b"X-A"),
    "control byte in name": get(b"X\x01: b"),
    "high byte in name": get(b"X\xff: b"),
    "NUL in value": get(b"X-A: b\x00c"),
    "control byte in value": get(b"X-A: b\x01c"),
    "DEL in value": get(b"X-A: b\x7fc"),
    "two hosts": get(b"Host: b"),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "host with a user": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "two hosts in one": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "chunk size with LF": post(CHUNKED, body=b"1\nx\r\n0\r\n\r\n"),
    "chunk extension with LF": post(CHUNKED, body=b"1;a\nx\r\n0\r\n\r\n"),
    "chunk size with 0x": post(CHUNKED, body=b"0x1\r\nx\r\n0\r\n\r\n"),
    "chunk size with a space": post(CHUNKED, body=b"1 \r\nx\r\n0\r\n\r\n"),
    "chunk longer than its size": post(CHUNKED, body=b"1\r\nxy\r\n0\r\n\r\n"),
    "chunk size too long": post(CHUNKED, body=b"ffffffffffffffffff\r\nx\r\n0\r\n\r\n"),
    "length in a trailer": post(CHUNKED, body=b"0\r\nContent-Length: 5\r\n\r\n"),
    "space in the target": get(target=b"/a b"),
    "control byte in the target": get(target=b"/\x01"),
    "high byte in the target": get(target=b"/\xc3\xa9"),
    "fragment in the target": get(target=b"/#a"),
    "relative target": get(target=b"a"),
    "other scheme": get(target=b"ftp://a/b"),
    "space after the version": get().replace(b"HTTP/1.1", b"HTTP/1.1 "),
    "lower case protocol": get().replace(b"HTTP", b"http"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}

REFUSED = {
    "unknown coding": (501, post(b"Transfer-Encoding: gzip", body=b"0\r\n\r\n")),
    "unknown coding before chunked": (501, post(b"Transfer-Encoding: gzip, chunked")),
    "unknown method": (501, b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "method of another protocol": (501, b"PROPFIND / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "tunnel": (501, b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n"),
    "lower case method": (501, b"get / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "HTTP/0.9": (505, b"GET /\r\n\r\n"),
    "HTTP/1.2": (505, get().replace(b"1.1", b"1.2")),
    "HTTP/2.0": (505, get().replace(b"1.1", b"2.0")),
    "long target": (414, get(target=b"/" + b"a" * 256)),
    "endless target": (414, b"GET /" + b"a" * 300),
    "large field": (431, get(b"X-A: " + b"b" * 1024)),
    "endless field": (431, b"GET / HTTP/1.1\r\nX-A: " + b"b" * 1100),
    "large head": (431, get(*(b"X-%d: " % i + b"b" * 200 for i in range(6)))),
    "many fields": (431, get(*(b"X-%d: b" % i for i in range(10)))),
    "many trailers": (431, post(CHUNKED, body=b"0\r\n" + b"X-A: %b\r\n" % (b"b" * 90) * 12)),
    "large length": (413, post(b"Content-Length: 101")),
    "large chunk": (413, post(CHUNKED, body=b"65\r\n" + b"x" * 101)),
    "large chunks": (413, post(CHUNKED, body=(b"32\r\n" + b"x" * 50 + b"\r\n") * 3)),
    "WebSocket": (400, get(b"Connection: upgrade", b"Upgrade: websocket")),
}


def parse(data: bytes, cuts: list[int] | None = None) -> list[Message | Refusal]:
    parser = RequestParser(LIMITS)
    edges = [0, *sorted(cuts or []), len(data)]
    for start, end in itertools.pairwise(edges):
        if start < end:
            parser.feed(data[start:end])
    events = []
    while (event := parser.next_event()) is not None:
        events.append(event)
    return events


def each_byte(data: bytes) -> list[int]:
    return list(range(1, len(data)))


@pytest.mark.parametrize("name", GOOD)
def test_a_good_request_is_the_same_byte_by_byte(name: str) -> None:
    whole = parse(GOOD[name])
    assert whole
    assert all(isinstance(event, Message) for event in whole)
    assert parse(GOOD[name], each_byte(GOOD[name])) == whole


@pytest.mark.parametrize("name", sorted(GOOD.keys() - {"closing", "1.0"}))
def test_bytes_behind_a_request_belong_to_the_next_one(name: str) -> None:
    good = GOOD[name]
    expected = parse(good)
    assert parse(good + get(target=b"/next"))[:-1] == expected
    assert parse(good + b"GE") == expected
    assert isinstance(parse(good + b"\x00")[-1], Refusal)


@pytest.mark.parametrize("name", SMUGGLED)
def test_an_ambiguous_request_is_refused(name: str) -> None:
    for cuts in ([], each_byte(SMUGGLED[name])):
        events = parse(SMUGGLED[name] + get(target=b"/smuggled"), cuts)
        assert [event.status for event in events if isinstance(event, Refusal)] == [400]
        assert isinstance(events[-1], Refusal)
        assert len(events) == 1


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_has_its_own_status(name: str) -> None:
    status, data = REFUSED[name]
    for cuts in ([], each_byte(data)):
        events = parse(data, cuts)
        assert len(events) == 1
        assert isinstance(events[0], Refusal)
        assert events[0].status == status


def test_what_came_before_a_bad_request_is_still_answered() -> None:
    events = parse(get() + get(b"X A: b") + get())
    assert isinstance(events[0], Message)
    assert isinstance(events[1], Refusal)
    assert len(events) == 2


def test_values_are_as_sent() -> None:
    (event,) = parse(GOOD["fields"])
    assert isinstance(event, Message)
    assert event.request.headers == (("host", "a"), ("x-a", "b"), ("x-c", ""), ("x-d", "\xe9"))
    (event,) = parse(GOOD["query"])
    assert isinstance(event, Message)
    assert (event.request.path, event.request.query) == ("/a%2Fb", "x=%20&y")
    (event,) = parse(GOOD["absolute, no path"])
    assert isinstance(event, Message)
    assert (event.request.path, event.request.query) == ("/", "y")


def test_keep_alive_is_what_the_version_says() -> None:
    kept = {name: parse(GOOD[name])[0].keep_alive for name in GOOD}  # type: ignore[union-attr]
    assert not kept["1.0"]
    assert not kept["closing"]
    assert kept["1.0 kept"]
    assert kept["plain"]


def test_chunk_extensions_are_bounded() -> None:
    parser = RequestParser(LIMITS)
    parser.feed(post(CHUNKED, body=b"1;"))
    for _ in range(70):
        parser.feed(b"e" * 1000)
    event = parser.next_event()
    assert isinstance(event, Refusal)
    assert event.status == 400


def test_the_head_can_be_seen_before_the_body() -> None:
    parser = RequestParser(LIMITS)
    parser.feed(post(b"Content-Length: 3", b"Expect: 100-continue", body=b"a"))
    assert parser.next_event() is None
    assert parser.in_body
    assert parser.expects_continue
    assert parser.pending_head().path == "/p"
    parser.feed(b"bc" + get())
    first, second = parser.next_event(), parser.next_event()
    assert isinstance(first, Message)
    assert first.request.body == b"abc"
    assert isinstance(second, Message)
    assert second.request.body == b""


class Sink(FrontBody):
    """A streamed body that nobody reads."""

    async def _read(self) -> Refusal | None:
        raise AssertionError


UPGRADING = post(*H2C, CHUNKED, body=b"1\r\na\r\n0\r\n\r\n")


@given(st.sampled_from([GOOD["length"], GOOD["chunked"], UPGRADING]), st.data())
def test_a_streamed_body_is_the_same_however_it_is_cut(request: bytes, data: st.DataObject) -> None:
    """What stands in one feed with its end is the next request's."""
    whole = parse(request + get(target=b"/next"))
    head = request.index(b"\r\n\r\n") + 4
    cut = data.draw(st.integers(head, len(request) - 1))
    parser = RequestParser(LIMITS)
    parser.feed(request[:cut])
    body = Sink(LIMITS)
    message = parser.stream_body(body)
    joined = request[cut:] + get(target=b"/next")
    edges = sorted({0, len(joined), *data.draw(st.lists(st.integers(0, len(joined)), max_size=6))})
    for start, end in itertools.pairwise(edges):
        parser.feed(joined[start:end])
    assert isinstance(whole[0], Message)
    assert body.whole
    assert b"".join(body.pieces) == whole[0].request.body
    assert dataclasses.replace(message.request, stream=None, body=b"".join(body.pieces)) == (
        whole[0].request
    )
    assert [parser.next_event() for _ in whole] == [*whole[1:], None]


def test_a_streamed_body_may_be_larger_than_others() -> None:
    for request in (
        post(b"Content-Length: 200", body=b"x" * 200),
        post(CHUNKED, body=b"c8\r\n" + b"x" * 200 + b"\r\n0\r\n\r\n"),
    ):
        parser = RequestParser(LIMITS, lambda head: head.path == "/p")
        parser.feed(request)
        event = parser.next_event()
        assert isinstance(event, Message)
        assert len(event.request.body) == 200
        other = RequestParser(LIMITS, lambda head: head.path == "/q")
        other.feed(request)
        assert isinstance(other.next_event(), Refusal)


@given(st.lists(st.sampled_from([*GOOD.values(), *SMUGGLED.values()]), max_size=4), st.data())
def test_cutting_the_input_anywhere_changes_nothing(
    parts: list[bytes], data: st.DataObject
) -> None:
    joined = b"".join(parts)
    cuts = data.draw(st.lists(st.integers(0, len(joined)), max_size=8))
    assert parse(joined, cuts) == parse(joined)
