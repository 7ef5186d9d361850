"""The reactor by itself, step by step: handles, order, partial sends, hand-overs, drain."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from tailrace_server.fast.reactor import BODY_BYTES_MAX, RECEIVE_BYTES, Reactor
from tailrace_server.fast.turn import CLOSE, HANDOVER, HEAD, LEAVING, LEFT, REQUEST, Row
from tailrace_server.front import FrontLimits

FOREVER_S = 1000.0
GET = b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor(FrontLimits(connections_max=4))
    yield made
    made.close()


def connect(reactor: Reactor, tag: int = 0) -> socket.socket:
    """A client of the reactor; a small send buffer on the reactor's side."""
    client, server = socket.socketpair()
    server.setblocking(False)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    assert reactor.adopt(server.detach(), tag)
    client.setblocking(False)
    return client


def is_readable(reactor: Reactor) -> bool:
    return bool(select.select([reactor.descriptor], [], [], 0)[0])


def poll(reactor: Reactor) -> list[tuple[int, int, bytes]]:
    """Handle, kind and target of each row."""
    arena, rows, error = reactor.poll(10)
    assert error == 0
    found = []
    for fields in rows:
        row = Row._make(fields)
        at = row.head + row.target
        target = arena[at : at + row.target_length] if row.kind == REQUEST else b""
        found.append((row.handle, row.kind, target))
    return found


def one(reactor: Reactor, kind: int = REQUEST) -> int:
    ((handle, found, _),) = poll(reactor)
    assert found == kind
    return handle


def is_silent(client: socket.socket) -> bool:
    with pytest.raises(BlockingIOError):
        client.recv(1)
    return True


def test_an_answer_counts_once(reactor: Reactor) -> None:
    with connect(reactor) as client:
        client.send(GET % b"1" + GET % b"2")
        handle = one(reactor)
        assert reactor.answer([handle, handle], [b"first", b"again"], bytes(2)) == 1
        assert client.recv(100) == b"first"
        assert reactor.counters()["stale"] == 1


def test_requests_in_a_row_come_one_by_one(reactor: Reactor) -> None:
    """The second waits for the first's answer; then the descriptor says that it is there."""
    with connect(reactor) as client:
        client.send(GET % b"1" + GET % b"2")
        ((handle, _, target),) = poll(reactor)
        assert target == b"/1"
        assert not is_readable(reactor)
        assert poll(reactor) == []
        reactor.answer([handle], [b"first"], bytes(1))
        assert is_readable(reactor)
        ((_, kind, target),) = poll(reactor)
        assert (kind, target) == (REQUEST, b"/2")


def test_a_handle_dies_with_its_answer(reactor: Reactor) -> None:
    """What comes late for a request that was answered is no answer to the next one."""
    with connect(reactor) as client:
        client.send(GET % b"1" + GET % b"2")
        old = one(reactor)
        assert reactor.answer([old], [b"first"], bytes(1)) == 1
        new = one(reactor)
        assert reactor.answer([old], [b"late"], bytes(1)) == 0
        assert reactor.answer_alike([old], [0], [b"late"], bytes(1)) == 0
        assert reactor.park([old]) == []
        assert reactor.take(old) is None
        assert reactor.peer(old) == ""
        assert reactor.counters()["stale"] == 4
        client.shutdown(socket.SHUT_WR)
        assert poll(reactor) == []  # the one that is out is not parked
        assert reactor.answer([new], [b"second"], bytes(1)) == 1
        assert client.recv(100) == b"firstsecond"


def test_events_find_a_connection_however_many_requests_it_had(reactor: Reactor) -> None:
    with connect(reactor) as client:
        for number in range(5):
            client.send(GET % b"%d" % number)
            reactor.answer([one(reactor)], [b"x"], bytes(1))
            assert client.recv(100) == b"x"
        client.send(GET % b"last")
        handle = one(reactor)
        assert reactor.park([handle]) == []
        client.close()
        assert poll(reactor) == [(handle, LEFT, b"")]


POST = b"POST /%b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"


def test_a_head_is_told_once_while_its_body_is_awaited(reactor: Reactor) -> None:
    with connect(reactor) as client:
        client.send(POST[:20])
        assert poll(reactor) == []
        client.send(POST[20:] + b"b")
        handle = one(reactor, HEAD)
        client.send(b"od")
        assert poll(reactor) == []
        client.send(b"y" + POST + b"bo")
        assert one(reactor) == handle
        reactor.answer([handle], [b"first"], bytes(1))
        second = one(reactor, HEAD)
        assert second != handle
        client.send(b"dy")
        assert one(reactor) == second


def test_a_connection_whose_head_was_told_may_be_taken(reactor: Reactor) -> None:
    with connect(reactor) as client:
        client.send(POST + b"bod")
        handle = one(reactor, HEAD)
        taken = reactor.take(handle)
        assert taken is not None
        socket.close(taken.descriptor)
        assert (taken.input, taken.output) == (POST + b"bod", b"")
        assert reactor.counters()["open"] == 0
        assert reactor.take(handle) is None


def test_one_that_waits_and_told_no_head_may_not(reactor: Reactor) -> None:
    with connect(reactor) as client:
        client.send(POST + b"body" + POST[:10])
        handle = one(reactor)
        reactor.answer([handle], [b"first"], bytes(1))
        assert poll(reactor) == []
        assert reactor.take(handle) is None
        client.send(POST[10:] + b"body")
        assert one(reactor) != handle


def test_a_handle_dies_with_its_connection(reactor: Reactor) -> None:
    first = connect(reactor)
    first.send(GET % b"1")
    old = one(reactor)
    taken = reactor.take(old)
    assert taken is not None
    socket.close(taken.descriptor)
    first.close()
    with connect(reactor) as second:
        second.send(GET % b"2")
        new = one(reactor)
        assert new != old
        assert new & 0xFFFFFFFF == old & 0xFFFFFFFF  # the same slot
        assert reactor.answer([old], [b"not for you"], bytes(1)) == 0
        assert reactor.take(old) is None
        assert reactor.peer(old) == ""
        assert is_silent(second)
        assert reactor.answer([new], [b"yours"], bytes(1)) == 1
        assert second.recv(100) == b"yours"


def test_a_client_that_leaves_is_noticed(reactor: Reactor) -> None:
    connect(reactor).close()
    assert is_readable(reactor)
    assert poll(reactor) == []
    assert reactor.counters()["open"] == 0


def test_an_answer_to_a_client_that_left_goes_nowhere(reactor: Reactor) -> None:
    client = connect(reactor)
    client.send(GET % b"1")
    handle = one(reactor)
    client.close()
    assert reactor.answer([handle], [b"x"], bytes(1)) == 1
    assert (reactor.counters()["unsent"], reactor.counters()["open"]) == (1, 0)


def test_the_rest_of_an_answer_is_handed_over(reactor: Reactor) -> None:
    answer = bytes(range(256)) * 1000
    with connect(reactor, tag=3) as client:
        client.send(GET % b"1" + GET % b"2")
        handle = one(reactor)
        assert reactor.answer([handle], [answer], bytes(1)) == 1
        offered = one(reactor, HANDOVER)
        assert reactor.take(handle) is None
        taken = reactor.take(offered)
        assert taken is not None
        with socket.socket(fileno=taken.descriptor):
            assert taken.input == GET % b"2"
            received = client.recv(len(answer))
            assert 0 < len(taken.output) < len(answer)
            while len(received) + len(taken.output) < len(answer):
                received += client.recv(len(answer))
            assert received + taken.output == answer
            assert (taken.closing, taken.tag) == (False, 3)


def test_what_is_not_plain_is_handed_over_with_all_its_bytes(reactor: Reactor) -> None:
    odd = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    with connect(reactor) as client:
        client.send(GET % b"1" + odd)
        handle = one(reactor)
        reactor.answer([handle], [b"first"], bytes(1))
        taken = reactor.take(one(reactor, HANDOVER))
        assert taken is not None
        socket.close(taken.descriptor)
        assert (taken.input, taken.output) == (odd, b"")
        assert client.recv(100) == b"first"


def test_a_slow_request_is_handed_over(reactor: Reactor) -> None:
    with connect(reactor) as client:
        client.send(b"GET / HT")
        assert poll(reactor) == []
        reactor.sweep(FOREVER_S, FOREVER_S, FOREVER_S)
        assert poll(reactor) == []
        reactor.sweep(0.0, FOREVER_S, FOREVER_S)
        handle = one(reactor, HANDOVER)
        taken = reactor.take(handle)
        assert taken is not None
        socket.close(taken.descriptor)
        assert taken.input == b"GET / HT"


def test_a_connection_without_a_request_is_closed_in_the_end(reactor: Reactor) -> None:
    with connect(reactor) as client:
        reactor.sweep(0.0, FOREVER_S, FOREVER_S)
        assert is_silent(client)
        reactor.sweep(0.0, 0.0, FOREVER_S)
        assert client.recv(1) == b""
        assert reactor.counters()["idle"] == 1


def test_closing_on_unread_bytes_is_for_a_task(reactor: Reactor) -> None:
    """RFC 9112 section 9.6: closing at once would reset the answer away."""
    with connect(reactor) as client:
        client.send(GET % b"1")
        handle = one(reactor)
        client.send(GET % b"2")
        reactor.answer([handle], [b"last"], bytes([CLOSE]))
        taken = reactor.take(one(reactor, HANDOVER))
        assert taken is not None
        socket.close(taken.descriptor)
        assert (taken.closing, taken.input, taken.output) == (True, b"", b"")
        assert client.recv(100) == b"last"


def test_drain_ends_what_is_idle_and_the_others_behind_their_answer(reactor: Reactor) -> None:
    with connect(reactor) as idle, connect(reactor) as busy, connect(reactor) as begun:
        busy.send(GET % b"1")
        handle = one(reactor)
        begun.send(b"GET")
        assert poll(reactor) == []
        reactor.drain()
        assert idle.recv(1) == b""
        offered = one(reactor, HANDOVER)
        assert reactor.answer([handle], [b"last"], bytes(1)) == 1
        assert (busy.recv(100), busy.recv(100)) == (b"last", b"")
        assert reactor.counters()["open"] == 1
        taken = reactor.take(offered)
        assert taken is not None
        socket.close(taken.descriptor)
        left, right = socket.socketpair()
        with left, right:
            assert not reactor.adopt(left.fileno(), 0)


def test_drain_ends_a_connection_that_was_to_be_looked_at(reactor: Reactor) -> None:
    """Its request filled what was asked of the kernel, so that more might have been there."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    body = RECEIVE_BYTES - len(head % 10_000)
    assert 10_000 <= body <= BODY_BYTES_MAX
    with connect(reactor) as client:
        client.setblocking(True)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * RECEIVE_BYTES)
        client.sendall(head % body + b"x" * body)
        handle = one(reactor)
        reactor.answer([handle], [b"done"], bytes(1))
        reactor.drain()
        assert poll(reactor) == []
        assert reactor.counters()["open"] == 0
        assert (client.recv(100), client.recv(100)) == (b"done", b"")


def test_answers_after_the_close_go_nowhere(reactor: Reactor) -> None:
    with connect(reactor) as client:
        client.send(GET % b"1")
        handle = one(reactor)
        reactor.close()
        assert client.recv(1) == b""
        assert reactor.answer([handle], [b"x"], bytes(1)) == 0
        assert reactor.take(handle) is None


# -- bodies


def post(length: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length


def test_bodies_are_held_from_their_heads_to_their_answers(reactor: Reactor) -> None:
    with connect(reactor) as whole, connect(reactor) as begun, connect(reactor) as left:
        whole.send(post(1000) + b"x" * 1000)
        handle = one(reactor)
        assert reactor.bodies_held() == 1000
        begun.send(post(500) + b"x")
        one(reactor, HEAD)
        left.send(post(2000))
        one(reactor, HEAD)
        assert reactor.bodies_held() == 3500
        left.close()
        assert poll(reactor) == []
        assert reactor.bodies_held() == 1500
        reactor.answer([handle], [b"x"], bytes(1))
        assert reactor.bodies_held() == 500
        begun.send(b"x" * 499)
        taken = reactor.take(one(reactor))
        assert taken is not None
        socket.close(taken.descriptor)
        assert reactor.bodies_held() == 0


def test_a_body_without_room_is_for_a_task(reactor: Reactor) -> None:
    reactor.limit_bodies(1500)
    with connect(reactor) as first, connect(reactor) as second, connect(reactor) as third:
        first.send(post(1000) + b"x" * 1000)
        handle = one(reactor)
        for client, data in ((second, post(501) + b"x" * 501), (third, post(501))):
            client.send(data)
            taken = reactor.take(one(reactor, HANDOVER))
            assert taken is not None
            socket.close(taken.descriptor)
            assert taken.input == data
        assert reactor.bodies_held() == 1000
        reactor.answer([handle], [b"x"], bytes(1))
        first.send(post(1500) + b"x" * 1500 + GET % b"1")
        reactor.answer([one(reactor)], [b"x"], bytes(1))
        one(reactor)


# -- parked: requests that wait


def test_only_who_is_parked_is_told_to_leave_and_once(reactor: Reactor) -> None:
    with connect(reactor) as busy, connect(reactor) as parked:
        for client in (busy, parked):
            client.send(GET % b"1")
        handles = [handle for handle, _, _ in poll(reactor)]
        assert reactor.park(handles[1:]) == []
        for client in (busy, parked):
            client.shutdown(socket.SHUT_WR)
        assert poll(reactor) == [(handles[1], LEAVING, b"")]
        assert poll(reactor) == []
        parked.close()
        busy.close()
        assert poll(reactor) == [(handles[1], LEFT, b"")]
        assert poll(reactor) == []
        assert reactor.counters()["departed"] == 2
        assert reactor.answer(handles, [b"x", b"y"], bytes(2)) == 2
        assert reactor.counters()["open"] == 0


def test_who_has_left_before_is_told_when_parked(reactor: Reactor) -> None:
    with connect(reactor) as leaving, connect(reactor) as left, connect(reactor) as here:
        for client in (leaving, left, here):
            client.send(GET % b"1")
        leaving.shutdown(socket.SHUT_WR)
        left.close()
        handles = [handle for handle, _, _ in poll(reactor)]
        stale = handles[0] + (1 << 32)
        assert reactor.park([stale, *handles]) == [(handles[0], LEAVING), (handles[1], LEFT)]
        assert reactor.counters()["stale"] == 1


def test_a_wait_ends_with_its_answer(reactor: Reactor) -> None:
    """The connection goes on; what its client does then is told in the usual way."""
    with connect(reactor) as client:
        client.send(GET % b"1" + GET % b"2")
        handle = one(reactor)
        assert reactor.park([handle]) == []
        assert not is_readable(reactor)  # the second request waits behind the first
        reactor.answer([handle], [b"first"], bytes(1))
        assert one(reactor) != handle
        client.close()
        assert poll(reactor) == []


def test_one_piece_for_many(reactor: Reactor) -> None:
    with connect(reactor) as a, connect(reactor) as b, connect(reactor) as c:
        for client in (a, b, c):
            client.send(GET % b"1")
        handles = [handle for handle, _, _ in poll(reactor)]
        stale = handles[0] + (1 << 32)
        pieces, flags = [b"two", b"", b"one"], bytes([0, 0, CLOSE])
        assert reactor.answer_alike([*handles, stale], [0, 2, 0, 0], pieces, flags) == 3
        assert [client.recv(10) for client in (a, b, c)] == [b"two", b"one", b"two"]
        assert b.recv(10) == b""
        assert is_silent(a)
        # A piece that is none is sent to nobody, nor is anything behind it.
        a.send(GET % b"2")
        assert reactor.answer_alike([one(reactor)], [1], [b"x"], bytes(1)) == 0
        assert is_silent(a)
