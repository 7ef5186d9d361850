"""Answers in pieces: sent from where they stand, kept until then, let go of exactly once."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.limits import PAGE_BYTES
from tailrace.native import map_file
from tailrace_server.fast.reactor import Reactor
from tailrace_server.fast.turn import CLOSE, LEFT, REQUEST
from tailrace_server.front import FrontLimits
from tests.server.test_reactor import FOREVER_S, GET, connect, is_readable, one, poll

SIZE = 1_000_000


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor(FrontLimits(connections_max=4))
    yield made
    made.close()


@pytest.fixture
def body() -> bytearray:
    return bytearray(os.urandom(SIZE))


def is_held(body: bytearray) -> bool:
    """Whether somebody has a view of it: then it cannot change its size."""
    try:
        body.append(0)
    except BufferError:
        return True
    body.pop()
    return False


def begin(reactor: Reactor, client: socket.socket, body: bytearray, flags: int = 0) -> int:
    """Answer a request in pieces, more than the client takes at once."""
    client.send(GET % b"1")
    handle = one(reactor)
    pieces = (b"head ", memoryview(body)[: SIZE // 2], b"", memoryview(body)[SIZE // 2 :], b" end")
    assert reactor.answer_pieces(handle, pieces, flags)
    del pieces
    assert (len(reactor.lent), is_held(body)) == (1, True)
    return handle


def take_all(reactor: Reactor, client: socket.socket, *, until: int) -> bytes:
    """What the client gets while the reactor goes on, up to so many bytes or the end."""
    got = b""
    while len(got) < until:
        try:
            data = client.recv(until - len(got))
        except BlockingIOError:
            assert poll(reactor) == []
            continue
        if not data:
            break
        got += data
    return got


def test_the_rest_is_sent_when_the_client_takes_more(reactor: Reactor, body: bytearray) -> None:
    with connect(reactor) as client:
        begin(reactor, client, body)
        assert take_all(reactor, client, until=SIZE + 9) == b"head " + body + b" end"
        poll(reactor)
        assert (len(reactor.lent), is_held(body)) == (0, False)
        assert reactor.counters()["kept"] == reactor.counters()["answered"] == 1


def test_what_is_taken_at_once_is_not_kept(reactor: Reactor) -> None:
    small = bytearray(b"small")
    with connect(reactor) as client:
        client.send(GET % b"1")
        assert reactor.answer_pieces(one(reactor), (b"a ", memoryview(small)), 0)
        assert (len(reactor.lent), is_held(small)) == (0, False)
        assert client.recv(100) == b"a small"


def test_the_next_request_waits_for_the_end(reactor: Reactor, body: bytearray) -> None:
    """RFC 9112 section 9.3.2: answers in the order of the requests."""
    with connect(reactor) as client:
        client.send(GET % b"0")
        reactor.answer([one(reactor)], [b"0"], bytes(1))
        assert client.recv(1) == b"0"
        handle = begin(reactor, client, body)
        client.send(GET % b"2" + GET % b"3")
        assert poll(reactor) == []
        assert reactor.answer([handle], [b"twice"], bytes(1)) == 0
        assert reactor.take(handle) is None
        take_all(reactor, client, until=SIZE + 9)
        ((second, _, target),) = poll(reactor) or poll(reactor)
        assert target == b"/2"
        reactor.answer([second], [b"2"], bytes(1))
        ((_, kind, target),) = poll(reactor)
        assert (kind, target, client.recv(9)) == (REQUEST, b"/3", b"2")


def test_a_client_that_leaves_is_sent_no_more(reactor: Reactor, body: bytearray) -> None:
    client = connect(reactor)
    begin(reactor, client, body)
    client.close()
    assert is_readable(reactor)
    assert LEFT not in [kind for _, kind, _ in poll(reactor)]
    assert (len(reactor.lent), is_held(body)) == (0, False)
    assert (reactor.counters()["unsent"], reactor.counters()["open"]) == (1, 0)


def test_a_client_that_only_stops_sending_gets_the_rest(reactor: Reactor, body: bytearray) -> None:
    with connect(reactor) as client:
        begin(reactor, client, body)
        client.shutdown(socket.SHUT_WR)
        assert take_all(reactor, client, until=SIZE + 9) == b"head " + body + b" end"
        while reactor.counters()["open"]:
            assert poll(reactor) == []


def test_a_client_that_takes_nothing_is_cut_off(reactor: Reactor, body: bytearray) -> None:
    with connect(reactor) as client:
        begin(reactor, client, body)
        reactor.sweep(0.0, 0.0, FOREVER_S)
        assert len(reactor.lent) == 1
        reactor.sweep(FOREVER_S, FOREVER_S, 0.0)
        assert (len(reactor.lent), is_held(body)) == (0, False)
        assert (reactor.counters()["stalled"], reactor.counters()["open"]) == (1, 0)
        assert len(take_all(reactor, client, until=SIZE + 9)) < SIZE


@pytest.mark.parametrize("drains", [False, True])
def test_the_connection_ends_behind_the_last_byte(
    reactor: Reactor, body: bytearray, drains: bool
) -> None:
    with connect(reactor) as client:
        begin(reactor, client, body, 0 if drains else CLOSE)
        if drains:
            reactor.drain()
        assert reactor.counters()["open"] == 1
        assert take_all(reactor, client, until=SIZE + 10) == b"head " + body + b" end"
        assert reactor.counters()["open"] == 0
        assert not is_held(body)


def test_what_is_kept_goes_with_the_reactor(reactor: Reactor, body: bytearray) -> None:
    with connect(reactor) as client:
        begin(reactor, client, body)
        reactor.close()
        assert (len(reactor.lent), is_held(body)) == (0, False)
        assert len(take_all(reactor, client, until=SIZE + 9)) < SIZE


def test_a_stale_handle_keeps_nothing(reactor: Reactor, body: bytearray) -> None:
    client = connect(reactor)
    client.send(GET % b"1")
    handle = one(reactor)
    taken = reactor.take(handle)
    assert taken is not None
    with client, socket.socket(fileno=taken.descriptor):
        assert not reactor.answer_pieces(handle, (memoryview(body),), 0)
        assert (len(reactor.lent), is_held(body)) == (0, False)


def test_memory_that_cannot_be_read_ends_the_connection(reactor: Reactor, tmp_path: Path) -> None:
    """A mapped file that was cut off: the body breaks off, and is not filled up with anything."""
    path, whole, cut = tmp_path / "file", os.urandom(500 * PAGE_BYTES), 250 * PAGE_BYTES
    path.write_bytes(whole)
    with path.open("r+b") as file, connect(reactor) as client:
        mapped = map_file(file.fileno(), path.stat().st_size)
        client.send(GET % b"1")
        assert reactor.answer_pieces(one(reactor), (b"head ", mapped), 0)
        file.truncate(cut)
        got = take_all(reactor, client, until=len(mapped) + 5)
        assert (b"head " + whole[:cut]).startswith(got)
        assert (reactor.counters()["open"], len(reactor.lent)) == (0, 0)
