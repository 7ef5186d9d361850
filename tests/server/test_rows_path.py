"""Plain appends as columns: answered like all others, and only those that are plain."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

import tailrace
from tailrace.operation import StreamKey
from tailrace.rows import AppendedRows, Rows
from tailrace.ticket import RowsTaken, Ticket
from tailrace_server.engine_bridge import RowsContext
from tailrace_server.fast.append_answer import general
from tailrace_server.keys import Key, KeyRing
from tests.server.rows_support import (
    JSON,
    TEXT,
    Clients,
    content,
    post,
    put,
    request,
    taken,
)
from tests.server.test_vectorized_front import ask, connect, get, serving

# -- what is taken, and what is left


async def test_appends_with_a_known_head_go_as_rows(tmp_path: Path) -> None:
    """Protocol section 5.2: the answers tell where each record is."""
    async with serving(tmp_path) as (front, _, port):
        clients = Clients(port, 8)
        assert await clients.statuses([put(b"j"), put(b"t", TEXT)]) == [201, 201]
        assert await clients.statuses([post(b"j", b"0"), post(b"t", b"0", TEXT)]) == [204, 204]
        assert taken(front) == 0
        answers = await clients.ask(
            [post(b"j", b"%d" % n) if n % 2 else post(b"t", b"%d" % n, TEXT) for n in range(8)]
        )
        assert taken(front) == 8
        offsets = [answer.header("stream-next-offset") for answer in answers]
        assert sorted(filter(None, offsets[::2])) == [f"{n:08d}" for n in range(2, 6)]
        assert sorted(filter(None, offsets[1::2])) == [f"{n:08d}" for n in range(2, 6)]
        async with await connect(port) as client:
            records = json.loads(await content(client, b"j"))
            for answer, number in zip(answers[1::2], (1, 3, 5, 7), strict=True):
                assert records[int(answer.header("stream-next-offset") or "") - 1] == number
            assert sorted(await content(client, b"t")) == sorted(b"00246")


async def test_a_large_body_is_a_row_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as (front, _, port), await connect(port) as client:
        assert (await ask(client, put(b"j"))).status == 201
        bodies = [json.dumps(["x" * size])[1:-1].encode() for size in (1, 1, 60_000, 10, 2)]
        for body in bodies:
            assert (await ask(client, post(b"j", body))).status == 204
        assert taken(front) == len(bodies) - 1
        assert await content(client, b"j") == b"[" + b",".join(bodies) + b"]"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (post(b"j", b'{"a":\n1}'), 204),
        (post(b"j", b'[1,{"a":\n1}]'), 204),
        (post(b"j", b'[1,"\\ud83d\\ude00"]'), 204),
        (post(b"j", b"[1," + b"[" * 121 + b"]" * 121 + b"]"), 400),
        (post(b"j", b"[1,2"), 400),
        (post(b"j", b"[1,]"), 400),
        (post(b"j", b" [ ]"), 400),
        (post(b"j", b'"\\ud83d\\ude00"'), 204),
        (post(b"j", b"[]"), 400),
        (post(b"j", b""), 400),
        (post(b"j", b"{"), 400),
        (post(b"j", b'"\xff"'), 400),
        (post(b"j", b'{"a":' * 120 + b"[0]" + b"}" * 120), 400),
        (post(b"j", b"1", JSON, b"Producer-Id: p", b"Producer-Epoch: 0", b"Producer-Seq: 0"), 200),
        (post(b"j", b"1", JSON, b"Producer-Id: p", b"Producer-Epoch: 0", b"Producer-Seq: 1"), 409),
        (post(b"j", b"1", JSON, b"Stream-Seq: a"), 204),
        (post(b"j", b"1", JSON, b"Stream-Closed: true"), 204),
        (post(b"j", b"1", JSON, b"Stream-Expected-Offset: 00000001"), 204),
        (post(b"j", b"1", JSON, b'If-Match: "1:0:7"'), 412),
        (post(b"j", b"1", b"X-A: b"), 400),
        (post(b"none", b"1"), 404),
        (post(b"j", b"1", TEXT), 409),
        (post(b"ttl", b"1"), 204),
    ],
)
async def test_what_is_not_plain_gets_the_general_answer(
    data: bytes, status: int, tmp_path: Path
) -> None:
    async with serving(tmp_path) as (front, _, port), await connect(port) as client:
        assert (await ask(client, put(b"j"))).status == 201
        assert (await ask(client, put(b"ttl", JSON, b"Stream-TTL: 1000"))).status == 201
        assert (await ask(client, post(b"j", b"1"))).status == 204
        # Its head is known before it comes, and that changes nothing.
        head, _, body = data.partition(b"\r\n\r\n")
        known = head.replace(b"Content-Length: %d" % len(body), b"Content-Length: 1")
        assert (await ask(client, known + b"\r\n\r\n{")).status in (400, 404, 409)
        assert (await ask(client, data)).status == status
        assert taken(front) == 0


async def test_a_client_that_goes_is_told_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as (front, _, port), await connect(port) as client:
        assert (await ask(client, put(b"j"))).status == 201
        data = post(b"j", b"1", JSON, b"Connection: close")
        for _ in range(2):
            async with await connect(port) as other:
                answer = await ask(other, data)
                assert (answer.status, answer.header("connection")) == (204, "close")
                assert await other.ended()
        assert taken(front) == 0


async def test_a_stream_is_looked_at_each_time(tmp_path: Path) -> None:
    """Nothing of a stream is kept with a head: closed, deleted, made again otherwise."""
    async with serving(tmp_path) as (front, _, port):
        clients = Clients(port, 4)
        appends = [post(b"a", b"1"), post(b"a", b"2"), post(b"b", b"3"), post(b"b", b"4")]
        assert await clients.statuses([put(b"a"), put(b"b")]) == [201, 201]
        assert await clients.in_turn(appends) == [204] * 4
        assert taken(front) == 2
        assert await clients.statuses(appends) == [204] * 4
        assert taken(front) == 6
        assert await clients.statuses([post(b"a", b"", b"Stream-Closed: true")]) == [204]
        answers = await clients.ask(appends)
        assert [answer.status for answer in answers] == [409, 409, 204, 204]
        assert answers[0].header("stream-closed") == "true"
        assert await clients.statuses([request(b"DELETE", b"a", None)]) == [204]
        assert await clients.statuses(appends) == [404, 404, 204, 204]
        assert await clients.statuses([put(b"a", TEXT)]) == [201]
        assert await clients.statuses(appends) == [409, 409, 204, 204]
        assert await clients.statuses([request(b"DELETE", b"a", None)]) == [204]
        assert await clients.statuses([put(b"a")]) == [201]
        assert await clients.statuses(appends) == [204] * 4
        assert taken(front) == 16


async def test_two_types_for_one_stream_in_one_turn(tmp_path: Path) -> None:
    """Protocol section 5.2: the type is compared for each append."""
    async with serving(tmp_path) as (_, _, port):
        clients = Clients(port, 4)
        assert await clients.statuses([put(b"a")]) == [201]
        charset = JSON + b"; charset=utf-8"
        appends = [
            post(b"a", b"1", TEXT),
            post(b"a", b"2"),
            post(b"a", b"3", charset),
            post(b"a", b"4"),
        ]
        for _ in range(3):
            assert await clients.statuses(appends) == [409, 204, 204, 204]
            assert await clients.statuses(appends[::-1]) == [204, 204, 204, 409]
        async with await connect(port) as client:
            assert sorted(json.loads(await content(client, b"a"))) == sorted([2, 3, 4] * 6)


# -- keys


async def test_a_removed_key_appends_no_row(tmp_path: Path) -> None:
    keys = KeyRing([Key("one"), Key("two")])
    async with serving(tmp_path, keys) as (front, _, port), await connect(port) as client:
        one, two = (post(b"a", b"1", JSON, b"x-api-key: " + key) for key in (b"one", b"two"))
        assert (await ask(client, put(b"a", JSON, b"x-api-key: one"))).status == 201
        for _ in range(2):
            assert [(await ask(client, data)).status for data in (one, two)] == [204, 204]
        assert taken(front) == 2
        keys.replace([Key("two")])
        for _ in range(2):
            assert [(await ask(client, data)).status for data in (one, two)] == [401, 204]
        keys.replace([Key("one", sessions=("s",)), Key("two")])
        assert [(await ask(client, data)).status for data in (one, two)] == [404, 204]


async def test_a_server_that_gets_its_first_key_takes_no_row_without(tmp_path: Path) -> None:
    keys = KeyRing()
    async with serving(tmp_path, keys) as (front, _, port), await connect(port) as client:
        assert (await ask(client, put(b"a"))).status == 201
        for _ in range(2):
            assert (await ask(client, post(b"a", b"1"))).status == 204
        assert taken(front) == 1
        keys.replace([Key("one")])
        for _ in range(2):
            assert (await ask(client, post(b"a", b"1"))).status == 401
        keys.replace([])
        for _ in range(2):
            assert (await ask(client, post(b"a", b"1"))).status == 204
        assert taken(front) == 2


# -- faults


def fails(error: Exception) -> Callable[..., RowsTaken]:
    def submit_rows(rows: Rows, context: RowsContext, **_: object) -> RowsTaken:
        raise error

    return submit_rows


def fails_later(error: Exception) -> Callable[..., RowsTaken]:
    def submit_rows(rows: Rows, context: RowsContext, **_: object) -> RowsTaken:
        ticket = Ticket(None, context)
        ticket.answer(None, error)
        context.tell([ticket])
        return RowsTaken(ticket, [])

    return submit_rows


@pytest.mark.parametrize(
    ("submit_rows", "status"),
    [
        (fails(tailrace.Overloaded("full", retry_after_s=2)), 503),
        (fails(RuntimeError("a defect")), 500),
        (fails_later(tailrace.LogPoisoned("broken")), 503),
        (fails_later(RuntimeError("a defect")), 500),
    ],
)
async def test_a_fault_is_told_to_everyone_who_asked(
    submit_rows: Callable[..., RowsTaken], status: int, tmp_path: Path
) -> None:
    async with serving(tmp_path) as (front, service, port):
        clients = Clients(port, 3)
        appends = [post(b"a", b"1"), post(b"a", b"2"), post(b"b", b"3")]
        assert await clients.statuses([put(b"a"), put(b"b")]) == [201, 201]
        assert await clients.in_turn(appends) == [204] * 3
        assert taken(front) == 1
        service.context.store.submit_rows = submit_rows  # type: ignore[method-assign]
        assert await clients.statuses(appends) == [status] * 3
        assert taken(front) == 1 + 3


async def test_an_answer_while_the_front_drains_ends_the_connection(tmp_path: Path) -> None:
    async with serving(tmp_path) as (front, service, port), await connect(port) as client:
        assert (await ask(client, put(b"a"))).status == 201
        assert (await ask(client, post(b"a", b"1"))).status == 204
        store = service.context.store
        real = store.submit_rows

        def submit_rows(rows: Rows, context: RowsContext, *, patience_s: float) -> RowsTaken:
            front.drain()
            return real(rows, context, patience_s=patience_s)

        store.submit_rows = submit_rows  # type: ignore[method-assign,assignment]
        answer = await ask(client, post(b"a", b"2"))
        assert (answer.status, answer.header("connection")) == (204, "close")
        assert answer.header("stream-next-offset") == "00000002"
        assert await client.ended()
        assert taken(front) == 1


async def test_what_the_access_log_tells_of_is_no_row(tmp_path: Path) -> None:
    async with serving(tmp_path, access_log=True) as (front, _, port):
        async with await connect(port) as client:
            assert (await ask(client, put(b"a"))).status == 201
            for _ in range(3):
                assert (await ask(client, post(b"a", b"1"))).status == 204
            assert taken(front) == 0


async def test_every_offset_is_written_as_ever(tmp_path: Path) -> None:
    """Rows whose tails have more digits, or come to have them; and a stream that was left."""
    firsts = {b"a": 10**8 - 3, b"b": 12, b"c": 10**12, b"d": 10**9 - 2, b"e": 0}
    tails = dict(firsts)

    def submit_rows(rows: Rows, context: RowsContext, **_: object) -> RowsTaken:
        names = [key.stream.encode() for key in rows.keys]
        left = [index for index, name in enumerate(names) if name == b"e"]
        ids = array("Q", [0 if name == b"e" else 77 for name in names])
        starts = array("Q", [tails[name] for name in names])
        for name, count in zip(names, rows.counts, strict=True):
            tails[name] += count  # the next turn's come behind them
        ticket = Ticket(None, context)
        ticket.answer(AppendedRows(ids, starts, array("Q", bytes(8 * len(names)))))
        context.tell([ticket])
        return RowsTaken(ticket, left)

    async with serving(tmp_path) as (front, service, port):
        clients = Clients(port, 20)
        appends = [post(name, b"%d" % n) for n in range(4) for name in firsts]
        # Others, as a connection that had to wait so often stays in its task for a while.
        assert await Clients(port, 5).statuses([put(name) for name in firsts]) == [201] * 5
        assert await clients.statuses(appends) == [204] * 20
        before = taken(front)
        service.context.store.submit_rows = submit_rows  # type: ignore[method-assign,assignment]
        answers = await clients.ask(appends)
        told: dict[bytes, list[str | None]] = {name: [] for name in firsts}
        for answer, name in zip(answers, list(firsts) * 4, strict=True):
            told[name].append(answer.header("etag"))
            if name != b"e":
                tail = int((answer.header("etag") or "").strip('"').split(":")[2])
                lines = general(77, tail).decode().split("\r\n")
                fields = {line.split(": ")[0].lower(): line.split(": ")[1] for line in lines[1:-2]}
                assert {**dict(answer.headers), "date": fields["date"]} == fields
        for name, first in firsts.items():
            if name != b"e":
                expected = [f'"{77:x}:0:{first + n}"' for n in range(1, 5)]
                assert sorted(filter(None, told[name])) == sorted(expected)
        assert [int((tag or "").strip('"').split(":")[2]) for tag in told[b"e"]] == [5, 6, 7, 8]
        assert taken(front) - before == 16


# -- who else is told


async def test_requests_bodies_and_answers_are_counted(tmp_path: Path) -> None:
    async with serving(tmp_path) as (front, _, port):
        clients = Clients(port, 6)
        assert await clients.statuses([put(b"a"), put(b"closed")]) == [201, 201]
        appends = [post(b"a", b"12"), post(b"a", b"{"), post(b"closed", b"1"), post(b"a", b"345")]
        assert await clients.in_turn(appends) == [204, 400, 204, 204]
        assert await clients.statuses([post(b"closed", b"", b"Stream-Closed: true")]) == [204]
        assert taken(front) == 1
        requests, body_bytes = front.counters.requests, front.counters.body_bytes
        for _ in range(3):
            assert await clients.statuses(appends) == [204, 400, 409, 204]
        assert taken(front) == 1 + 6
        assert front.counters.requests - requests == 12
        assert front.counters.body_bytes - body_bytes == 3 * (2 + 1 + 1 + 3)
        async with await connect(port) as client:
            metrics = (await ask(client, get(b"metrics"))).body
        route = b'tailrace_http_requests_total{route="/v1/stream/{stream_name*}",status="%d"} %d.0'
        for status, count in ((204, 2 + 2 + 6), (400, 1 + 3), (409, 3)):
            assert route % (status, count) in metrics


async def test_who_is_answered_has_been_counted(tmp_path: Path) -> None:
    """By whichever thread: what /metrics tells is never behind what its reader was told."""
    async with serving(tmp_path) as (front, service, port), await connect(port) as client:
        counted: list[int] = []
        route = re.compile(rb'requests_total{route="/v1/stream/\S*",status="20[014]"} (\d+)')

        def noting(answer: Callable[..., int]) -> Callable[..., int]:
            def call(*arguments: object) -> int:
                shown = service.context.metrics.exposition()
                counted.append(sum(int(number) for number in route.findall(shown)))
                return answer(*arguments)

            return call

        reactor = front._reactor
        for name in ("answer", "answer_rows"):
            setattr(reactor, name, noting(getattr(reactor, name)))
        assert (await ask(client, put(b"a"))).status == 201
        for _ in range(3):
            assert (await ask(client, post(b"a", b"1"))).status == 204
        assert (await ask(client, get(b"v1/stream/a"))).body == b"[1,1,1]"
        assert taken(front) == 2
        assert counted == [2, 3, 4, 5]


async def test_live_readers_and_subscriptions_hear_of_rows(tmp_path: Path) -> None:
    async with serving(tmp_path) as (front, service, port):
        clients = Clients(port, 3)
        assert await clients.statuses([put(b"a"), put(b"b")]) == [201, 201]
        assert await clients.statuses([post(b"a", b"1"), post(b"b", b"1")]) == [204, 204]
        changes = []
        service.context.bridge.on_change = lambda key, created: changes.append((key, created))
        async with await connect(port) as reader:
            await reader.send(get(b"v1/stream/b?offset=00000001&live=long-poll"))
            await trio.testing.wait_all_tasks_blocked()
            assert (
                await clients.statuses([post(b"a", b"2"), post(b"a", b"3"), post(b"b", b"4")])
                == [204] * 3
            )
            assert (await reader.answer()).body == b"[4]"
        assert taken(front) == 3
        # A change is told once a turn, and how many turns the requests met is the machine's affair.
        assert set(changes) == {(StreamKey("flat", "a"), False), (StreamKey("flat", "b"), False)}
