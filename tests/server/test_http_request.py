"""The reactor's parser: what it accepts, llhttp reads the same; all else it leaves alone."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_server._reactor import ffi, lib
from tailrace_server.fast.parser import Message, RequestParser
from tailrace_server.fast.reactor import METHODS
from tailrace_server.front import FrontLimits
from tests.server.test_front_parser import GOOD, REFUSED, SMUGGLED, get, post

LIMITS = FrontLimits(
    head_bytes_max=1024, target_bytes_max=256, head_fields_max=10, body_bytes_max=100
)
PLAIN = {"plain", "query", "length", "no body", "closing", "pipelined"}
"""Those of the good requests that are the reactor's."""


class Parsed(NamedTuple):
    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes
    keep_alive: bool
    rest: bytes


def parse(data: bytes) -> Parsed | int:
    """The plain request that ``data`` begins with, or PARTIAL or OTHER."""
    limits = ffi.new("struct tr_http_limits *", (1024, 100, 10))
    out = ffi.new("struct tr_http_request *")
    exact = ffi.new("uint8_t[]", data)  # a read beyond the bytes is one beyond the buffer
    found = lib.tr_http_parse(exact, len(data), limits, out)
    if found != lib.TR_HTTP_COMPLETE:
        return int(found)
    fields = []
    for field in out.fields[0 : out.field_count]:
        name = data[field.name : field.name + field.name_length]
        value = data[field.value : field.value + field.value_length]
        fields.append((name.decode().lower(), value.decode()))
    end = out.head_length + out.body_length
    return Parsed(
        METHODS[out.method],
        data[out.target : out.target + out.target_length].decode(),
        fields,
        data[out.head_length : end],
        bool(out.keep_alive),
        data[end:],
    )


def check_against_llhttp(data: bytes) -> None:
    found = parse(data)
    if isinstance(found, int):
        return
    parser = RequestParser(LIMITS, lambda _: False)
    parser.feed(data[: len(data) - len(found.rest)])
    message = parser.next_event()
    if not isinstance(message, Message):
        # What is not for a parser to say: Host's form, and the target's length.
        assert message is not None
        assert "Host" in message.message or "target" in message.message
        return
    assert parser.next_event() is None
    assert not parser.in_message
    request = message.request
    path, _, query = found.target.partition("?")
    assert (request.method, request.path, request.query) == (found.method, path, query)
    assert list(request.headers) == found.fields
    assert request.body == found.body
    assert message.keep_alive == found.keep_alive
    assert not message.http_10


@pytest.mark.parametrize("name", GOOD)
def test_only_plain_requests_are_taken(name: str) -> None:
    check_against_llhttp(GOOD[name])
    found = parse(GOOD[name])
    assert isinstance(found, Parsed) == (name in PLAIN), found


@pytest.mark.parametrize("name", [*SMUGGLED, *REFUSED])
def test_what_llhttp_refuses_is_not_taken(name: str) -> None:
    data = SMUGGLED.get(name) or REFUSED[name][1]
    found = parse(data + get(target=b"/smuggled"))
    # Whether Host is a host, the target short and the method known, Python says.
    if isinstance(found, Parsed):
        assert "host" in name or "target" in name
        check_against_llhttp(data)


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_every_prefix_is_partial_and_what_follows_changes_nothing(name: str) -> None:
    data = GOOD[name]
    found = parse(data)
    assert isinstance(found, Parsed)
    whole = len(data) - len(found.rest)
    assert {parse(data[:end]) for end in range(whole)} == {lib.TR_HTTP_PARTIAL}
    for behind in (b"", b"\x00", b"GET"):
        assert parse(data[:whole] + behind) == found._replace(rest=behind)


PIECES = st.sampled_from(
    [
        b"GET ",
        b"POST ",
        b"/",
        b"/a?b",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"host:b\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 03\r\n",
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
        b"Connection: upgrade\r\n",
        b"Upgrade: h2c\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"X-A:  b c \r\n",
        b"X-B:\r\n",
        b"X\t: a\r\n",
        b" fold\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"abc",
        b"\x00",
        b"\xff",
        b"\t",
        b"Expect: 100-continue\r\n",
        b"Proxy-Connection: close\r\n",
    ]
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_any_pieces(data: bytes) -> None:
    check_against_llhttp(data)
    check_against_llhttp(b"GET / HTTP/1.1\r\nHost: a\r\n" + data + b"\r\n")
    check_against_llhttp(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n" + data)


@given(st.integers(0, 80), st.binary(min_size=1, max_size=3))
def test_any_bytes_in_a_plain_request(at: int, odd: bytes) -> None:
    data = post(b"Content-Length: 3", b"X-A: b", body=b"abc")
    check_against_llhttp(data[:at] + odd + data[at:])
    check_against_llhttp(data[:at] + odd + data[at + len(odd) :])
