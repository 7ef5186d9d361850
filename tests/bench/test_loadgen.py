"""The load generator sends what it should, believes nothing it should not, and hides no wait."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.loadgen import http, native
from bench.loadgen.plan import Group, Kind, LoadError, Plan, Result, Wire
from bench.loadgen.process import LoadProcess
from tests.bench.scripted_server import answer, scripted

NEVER_S = 60.0
OFFSET = b"Stream-Next-Offset: 7\r\n"


def run(where: http.Base, *groups: Group) -> Result:
    return native.run(
        Plan(host=where.host, port=where.port, groups=groups, window_s=NEVER_S, patience_s=10.0)
    )


def reader(where: http.Base, steps: int = 1) -> Group:
    return http.read(where, ["/s"], connections=1, steps=steps, marker=b"ticks")


# ---- what is sent ----------------------------------------------------------------------


def test_every_connection_takes_streams_and_bodies_in_turn() -> None:
    seen: list[bytes] = []
    lock = threading.Lock()

    def script(request: bytes) -> list[bytes]:
        with lock:
            seen.append(request)
        return [answer()]

    bodies = [b"[%04d]" % number for number in range(50)]
    paths = [f"/s{number}" for number in range(6)]
    with scripted(script) as where:
        group = http.append(where, paths, bodies, connections=3, rate=3000.0, steps=60)
        (done,) = run(where, group).groups
    assert sum(done.acknowledged) == done.units == len(seen) == 60
    targets = Counter(request.split(b" ")[1].decode() for request in seen)
    assert [targets[path] for path in paths] == list(done.acknowledged) == [10] * 6
    assert len({request.partition(b"\r\n\r\n")[2] for request in seen}) > 40
    origin = where.origin.decode()
    assert seen[0].startswith(b"POST /s")
    assert f"Host: {origin}\r\nContent-Type: application/json\r\nContent-Length: 6" in (
        seen[0].decode()
    )


@pytest.mark.parametrize(("connections", "targets"), [(3, 6), (4, 6), (5, 3), (4, 4), (5, 7)])
def test_a_producer_numbers_its_appends_to_each_stream(connections: int, targets: int) -> None:
    """Section 5.2.1: from 0, without a gap, per stream, producer and epoch."""
    seen: dict[tuple[str, str, str], list[int]] = {}
    lock = threading.Lock()

    def script(request: bytes) -> list[bytes]:
        head = request.partition(b"\r\n\r\n")[0].decode("ascii").split("\r\n")
        fields = dict(line.split(": ") for line in head[1:])
        stream = head[0].split(" ")[1]
        with lock:
            key = (stream, fields["Producer-Id"], fields["Producer-Epoch"])
            seen.setdefault(key, []).append(int(fields["Producer-Seq"]))
        assert fields["Content-Length"] == "6"
        return [answer()]

    bodies = [b"[%04d]" % number for number in range(9)]
    paths = [f"/s{number}" for number in range(targets)]
    with scripted(script) as where:
        group = http.append(
            where, paths, bodies, connections=connections, steps=90, producer_epoch=5
        )
        run(where, group).check()
    assert sum(len(numbers) for numbers in seen.values()) == 90
    assert all(numbers == list(range(len(numbers))) for numbers in seen.values())
    assert {epoch for _, _, epoch in seen} == {"5"}
    assert len({producer for _, producer, _ in seen}) == connections


def test_a_repetition_that_nobody_sent_fails_the_run() -> None:
    with scripted(lambda _: [answer(status=b"204 No Content")]) as where:
        group = http.append(where, ["/s"], [b"[1]"], connections=1, steps=1, producer_epoch=0)
        with pytest.raises(LoadError, match="unexpected status"):
            run(where, group).check()


def test_once_asks_for_every_target_once_with_its_own_body() -> None:
    seen: list[bytes] = []

    def script(request: bytes) -> list[bytes]:
        seen.append(request)
        return [answer()]

    bodies = [b"[%04d]" % number for number in range(30)]
    paths = [f"/s{number}" for number in range(30)]
    with scripted(script) as where:
        run(where, http.fill(where, paths, bodies)).check()
    sent = {request.split(b" ")[1]: request.partition(b"\r\n\r\n")[2] for request in seen}
    assert len(seen) == 30
    assert sent == {path.encode(): body for path, body in zip(paths, bodies, strict=True)}


def test_a_follower_goes_on_from_the_offset_it_was_told_until_it_is_up_to_date() -> None:
    asked: list[bytes] = []

    def script(request: bytes) -> list[bytes]:
        asked.append(request.split(b" ")[1])
        number = len(asked)
        more = b"Stream-Next-Offset: o%d\r\nStream-Cursor: c%d\r\n" % (number, number)
        last = b"Stream-Up-To-Date: true\r\n" if number == 3 else b""
        return [answer(b'["ticks","ticks"]', headers=more + last)]

    with scripted(script) as where:
        (done,) = run(where, http.catch_up(where, ["/s"], b"ticks")).groups
    assert asked == [
        b"/s?offset=-1",
        b"/s?offset=o1&cursor=c1",
        b"/s?offset=o2&cursor=c2",
    ]
    assert (done.units, list(done.found), list(done.ends)) == (1, [6], ["o3"])
    assert done.latency.count == 1


# ---- what is believed ------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"
GOOD = {
    "length": answer(b"xx ticks yy ticks"),
    "empty": answer(),
    "no content": b"HTTP/1.1 204 No Content\r\nETag: x\r\n\r\n",
    "chunked": CHUNKED + b"3;x=y\r\nabc\r\nB\r\n ticksticks\r\n0\r\nTrailer: 1\r\n\r\n",
    "split event": CHUNKED + b"3\r\ntic\r\n2\r\nks\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_an_answer_may_come_in_any_pieces(name: str, step: int) -> None:
    whole = GOOD[name]

    def script(_: bytes) -> list[bytes]:
        return [whole[at : at + step] for at in range(0, len(whole), step)]

    with scripted(script) as where:
        group = replace(reader(where, steps=3), statuses=(200, 204))
        (done,) = run(where, group).groups
    assert done.errors == {}
    assert done.units == 3
    assert done.found[0] == 3 * whole.replace(b"\r\n2\r\n", b"").count(b"ticks")


MALFORMED, STATUS, LOST = "malformed answer", "unexpected status", "connection lost"
BAD: dict[str, tuple[Sequence[bytes] | None, str]] = {
    "another status": ([answer(b"no", status=b"404 Not Found")], STATUS),
    "another protocol": ([b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"], MALFORMED),
    "no length": ([b"HTTP/1.1 200 OK\r\n\r\nticks"], MALFORMED),
    "two lengths": ([answer(b"ticks", headers=b"Content-Length: 5\r\n")], MALFORMED),
    "length and chunked": ([answer(headers=b"Transfer-Encoding: chunked\r\n")], MALFORMED),
    "a sign": ([b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nticks"], MALFORMED),
    "no colon": ([b"HTTP/1.1 200 OK\r\nrubbish\r\n\r\n"], MALFORMED),
    "chunk size": ([CHUNKED, b"x\r\n"], MALFORMED),
    "chunk end": ([CHUNKED, b"5\r\nticksX\r\n"], MALFORMED),
    "too much": ([answer(b"ticks") + b"more"], MALFORMED),
    "an endless head": ([b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 2000], MALFORMED),
    "an interim answer": ([b"HTTP/1.1 100 Continue\r\n\r\n"], MALFORMED),
    "nothing": (None, LOST),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_proper_answer_fails_the_run(name: str) -> None:
    pieces, error = BAD[name]
    with scripted(lambda _: pieces) as where:
        result = run(where, reader(where))
    assert result.groups[0].errors == {error: 1}
    with pytest.raises(LoadError, match=error):
        result.check()


def test_half_an_answer_fails_the_run() -> None:
    with scripted(lambda _: [answer(b"ticks")[:-1]]) as where:
        plan = http.plan(where, reader(where))
        result = native.run(replace(plan, window_s=0.05, patience_s=0.05))
    assert result.groups[0].errors == {"no answer": 1}


def test_a_connection_that_ends_after_its_answer_is_made_again() -> None:
    with scripted(lambda _: [answer(b"ticks", headers=b"Connection: close\r\n")]) as where:
        (done,) = run(where, reader(where, steps=4)).groups
    assert done.errors == {}
    assert done.units == 4
    assert done.reconnects >= 3


def test_nobody_there_is_an_error() -> None:
    with scripted(lambda _: None) as where:
        pass
    with pytest.raises(LoadError, match="not connected"):
        run(where, reader(where)).check()


def test_redis_answers_are_read() -> None:
    nested = b"*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\ne\r\n$5\r\nticks\r\n:7\r\n"

    def group(where: http.Base, answers: int = 1) -> Group:
        head = b"GET x HTTP/1.1\r\n\r\n"  # what the scripted server takes for a request
        return Group(
            name="redis",
            kind=Kind.REQUEST,
            wire=Wire.RESP,
            connections=1,
            heads=[head],
            answers=answers,
            steps=2,
            marker=b"ticks",
        )

    with scripted(lambda _: [nested[:9], nested[9:]]) as where:
        (done,) = run(where, group(where)).groups
    assert (done.errors, done.units, list(done.found)) == ({}, 2, [2])
    with scripted(lambda _: [b"+OK\r\n:1\r\n$2\r\nab\r\n"]) as where:
        (done,) = run(where, group(where, answers=3)).groups
    assert (done.errors, done.units, list(done.acknowledged)) == ({}, 6, [6])
    with scripted(lambda _: [b"-ERR no\r\n"]) as where:
        assert run(where, group(where)).groups[0].errors == {STATUS: 1}
    with scripted(lambda _: [b"HTTP/1.1 200 OK\r\n"]) as where:
        assert run(where, group(where)).groups[0].errors == {MALFORMED: 1}


# ---- live readers ----------------------------------------------------------------------

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def relay(numbers: Sequence[int], live: str, patience_s: float = NEVER_S) -> Result:
    """A writer of 4 events, and one reader who is given those of ``numbers``, in that order."""
    bodies: list[bytes] = []
    written = threading.Event()
    polls = itertools.count()

    def script(request: bytes) -> list[bytes]:
        if request.startswith(b"POST"):
            bodies.append(request.partition(b"\r\n\r\n")[2])
            if len(bodies) == 4:
                written.set()
            return [answer()]
        if live == "sse":
            return [SSE]
        assert written.wait(NEVER_S)
        number = next(polls)
        if number >= len(numbers):
            time.sleep(0.05)
            return [b"HTTP/1.1 204 No Content\r\n" + OFFSET + b"\r\n"]
        return [answer(b"[" + bodies[numbers[number]] + b"]", headers=OFFSET)]

    with scripted(script) as where:
        groups = http.fan_out(
            where, "/s", b"7", subscribers=1, rate=1000.0, live=live, size=113, steps=4
        )
        plan = http.plan(where, groups[0])
        return native.run(replace(plan, groups=groups, patience_s=patience_s))


def test_live_readers_see_every_event_once_and_in_order() -> None:
    writer, readers = relay([0, 1, 2, 3], "long-poll").groups
    assert readers.errors == {}
    assert list(writer.acknowledged) == [4]
    assert list(readers.received) == [4]


@pytest.mark.parametrize("numbers", [[0, 2, 1, 3], [0, 0, 1, 2], [1, 2, 3]])
def test_events_out_of_order_fail_the_run(numbers: list[int]) -> None:
    (_, readers) = relay(numbers, "long-poll").groups
    assert readers.errors == {"event lost, repeated or out of order": 1}


def test_events_that_never_come_are_counted_as_missing() -> None:
    def missing(numbers: Sequence[int], live: str) -> int:
        for patience_s in (0.5, 5.0, 20.0):  # more if the machine stood still that long
            writer, readers = relay(numbers, live, patience_s).groups
            if readers.received[0] == len(numbers):
                break
        return sum(writer.acknowledged) - readers.received[0]

    assert missing([0, 1], "long-poll") == 2
    assert missing([], "sse") == 4


# ---- time ------------------------------------------------------------------------------


def test_a_fixed_rate_shows_the_wait_of_every_request_that_was_due_in_a_stall() -> None:
    """No coordinated omission: one answer is late, and all that were due meanwhile say so."""
    stall_s, rate, steps = 0.5, 100.0, 40
    asked = itertools.count()

    def script(_: bytes) -> list[bytes]:
        if next(asked) == 0:
            time.sleep(stall_s)
        return [answer(b"ticks")]

    with scripted(script) as where:
        group = http.read(where, ["/s"], connections=1, rate=rate, steps=steps)
        (done,) = run(where, group).groups
    assert done.latency.count == steps
    # The request of number n is due n / rate after the first, which takes stall_s.
    for number in range(0, steps, 5):
        slower = sum(
            count
            for top, count in done.latency.buckets
            if top / 1e9 >= stall_s - (number + 1) / rate
        )
        assert slower > number


def test_what_was_due_in_the_window_is_sent_and_counted_even_after_it() -> None:
    """Else a server that stands still would have its longest waits forgotten."""
    asked = itertools.count()

    def script(_: bytes) -> list[bytes]:
        if next(asked) == 0:
            time.sleep(0.6)
        return [answer(b"ticks")]

    with scripted(script) as where:
        group = http.read(where, ["/s"], connections=1, rate=100.0)
        (done,) = native.run(replace(http.plan(where, group), window_s=0.2)).groups
    assert done.errors == {}
    assert 20 <= done.latency.count <= 21
    assert done.latency.count == sum(done.acknowledged)


def test_one_after_the_other_shows_the_stall_once() -> None:
    asked = itertools.count()

    def script(_: bytes) -> list[bytes]:
        if next(asked) == 0:
            time.sleep(0.5)
        return [answer(b"ticks")]

    with scripted(script) as where:
        (done,) = run(where, http.read(where, ["/s"], connections=1, steps=20)).groups
    slow = sum(count for top, count in done.latency.buckets if top / 1e9 >= 0.5)
    assert 1 <= slow <= 3, "the server's, and perhaps one of the machine's own"


@given(st.integers(0, 2**40))
def test_a_bucket_is_narrow(ns: int) -> None:
    _, lib = native.library()
    bucket = lib.lg_bucket(ns)
    top = lib.lg_bucket_top(bucket)
    assert ns <= top <= ns + ns // 64
    assert bucket == 0 or lib.lg_bucket_top(bucket - 1) < ns


# ---- its own process -------------------------------------------------------------------


def test_plans_run_in_a_process_of_their_own_and_errors_come_back() -> None:
    with scripted(lambda _: [answer(b"ticks")]) as where, LoadProcess() as load:
        result = load.run(http.plan(where, reader(where, steps=5)))
        assert result.groups[0].units == 5
        assert result.cpu_s > 0
        with pytest.raises(LoadError, match="unexpected status"):
            load.run(http.plan(where, replace(reader(where), statuses=(404, 404))))
        assert load.run(http.plan(where, reader(where))).groups[0].units == 1
