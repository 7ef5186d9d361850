"""Appends of producers (protocol section 5.2.1) whose heads differ in Producer-Seq alone."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest

from tailrace.offset import encode_offset
from tailrace.rows import AppendedRows, Rows
from tailrace.ticket import RowsTaken, Ticket
from tailrace_server._reactor import ffi, lib
from tailrace_server.engine_bridge import RowsContext
from tailrace_server.fast.listener import FastFront
from tailrace_server.keys import Key, KeyRing
from tests.server.front_support import Answer, RawClient
from tests.server.rows_support import JSON, Clients, content, post, put, taken
from tests.server.test_vectorized_front import ask, connect, get, serving

EVENTS = b"/v1/sessions/s/events"
NOT_PLAIN = [b"", b"01", b"+1", b"1 ,", b"1e0", b"0x1", b"%d" % 2**53, b"9" * 40, b"1.0", b"1, 2"]


def seq_of(data: bytes) -> bytes | int:
    """The digits of Producer-Seq that the parser leaves out of the head; or what else it says."""
    limits = ffi.new("struct tr_http_limits *", (1024, 100, 10))
    out = ffi.new("struct tr_http_request *")
    found = int(lib.tr_http_parse(ffi.new("uint8_t[]", data), len(data), limits, out))
    if found != lib.TR_HTTP_COMPLETE:
        return found
    return data[out.seq_value : out.seq_value + out.seq_value_length]


def head(*fields: bytes) -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: a", *fields]) + b"\r\n\r\n"


def test_only_plain_numbers_are_left_out_of_a_head() -> None:
    """Section 5.2.1: 0 to 2^53 - 1. What is left out must be good whatever it is."""
    for digits in (b"0", b"7", b"10", b"9" * 15):
        assert seq_of(head(b"Producer-Seq: " + digits)) == digits
        assert seq_of(head(b"X-A: b", b"pRODUCER-sEQ:%b  " % digits, b"X-A: 5")) == digits
        assert seq_of(head(b"Producer-Seq2: " + digits, b"Producer-Epoch: 3")) == b""
    for text in NOT_PLAIN:
        expected = b"" if text else lib.TR_HTTP_OTHER
        assert seq_of(head(b"Producer-Seq: " + text)) == expected
    assert seq_of(head(b"Producer-Seq: 1", b"Producer-Seq: 1")) == lib.TR_HTTP_OTHER


def numbered(
    seq: bytes | int, *, epoch: int = 0, stream: bytes = b"j", body: bytes = b"1"
) -> bytes:
    seq = seq if isinstance(seq, bytes) else b"%d" % seq
    return post(
        stream,
        body,
        JSON,
        b"Producer-Id: p",
        b"Producer-Seq: " + seq,
        b"Producer-Epoch: %d" % epoch,
    )


def kept(front: FastFront) -> int:
    return front.figures()["heads_kept"]


def told(answer: Answer) -> tuple[int, str | None, str | None]:
    return answer.status, answer.header("producer-seq"), answer.header("producer-expected-seq")


async def test_a_producers_head_is_understood_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as (front, _, port), await connect(port) as client:
        assert (await ask(client, put(b"j"))).status == 201
        for seq in range(12):
            answer = await ask(client, numbered(seq, body=b"%d" % seq))
            assert told(answer) == (200, str(seq), None)
            assert answer.header("stream-next-offset") == f"{seq + 1:08d}"
            assert answer.header("producer-epoch") == "0"
        assert kept(front) == 11
        # Section 5.2.1: what comes again, what leaves a gap, what is of an older epoch.
        assert told(await ask(client, numbered(11))) == (204, "11", None)
        assert told(await ask(client, numbered(3))) == (204, "11", None)
        gap = await ask(client, numbered(13))
        assert told(gap) == (409, None, "12")
        assert gap.header("producer-received-seq") == "13"
        assert kept(front) == 14
        assert told(await ask(client, numbered(1, epoch=1))) == (400, None, None)
        assert told(await ask(client, numbered(0, epoch=1))) == (200, "0", None)
        fenced = await ask(client, numbered(12))
        assert (fenced.status, fenced.header("producer-epoch")) == (403, "1")
        assert json.loads(await content(client, b"j")) == [*range(12), 1]


async def test_the_next_append_of_a_known_producer_is_a_row(tmp_path: Path) -> None:
    """Section 5.2.1: the same answers; and what is not the next one gets them the general way."""
    async with serving(tmp_path) as (front, _, port), await connect(port) as client:
        assert (await ask(client, put(b"j"))).status == 201
        for seq, body in enumerate((b"0", b"1", b"[2,3]", b" [[4]] ", b"5")):
            answer = await ask(client, numbered(seq, body=body))
            assert told(answer) == (200, str(seq), None)
            assert answer.header("producer-epoch") == "0"
        assert answer.header("stream-next-offset") == "00000006"
        assert (answer.header("etag") or "").endswith(':6"')
        assert taken(front) == 4
        assert told(await ask(client, numbered(4, body=b"5"))) == (204, "4", None)
        assert told(await ask(client, numbered(6))) == (409, None, "5")
        assert told(await ask(client, numbered(5, body=b"[]"))) == (400, None, None)
        assert told(await ask(client, numbered(5, body=b"[6"))) == (400, None, None)
        assert taken(front) == 4
        assert told(await ask(client, numbered(5, body=b"6"))) == (200, "5", None)
        assert taken(front) == 5
        assert json.loads(await content(client, b"j")) == [0, 1, 2, 3, [4], 5, 6]
        counted = (await ask(client, get(b"metrics"))).body
        six_and_a_read = b'{route="/v1/stream/{stream_name*}",status="200"} 7.0'
        assert six_and_a_read in counted


async def test_producers_and_others_append_to_a_stream_in_one_turn(tmp_path: Path) -> None:
    """Whoever sends a number twice at the same moment has stored it once."""
    async with serving(tmp_path) as (front, _, port):
        clients = Clients(port, 10)
        assert await clients.statuses([put(b"j"), put(b"k")]) == [201, 201]

        def turn(seq: int) -> list[bytes]:
            body = b'["%d",0]' % seq
            one = numbered(seq, body=body)
            other = one.replace(b"Producer-Id: p", b"Producer-Id: q")
            elsewhere = numbered(seq, body=body, stream=b"k")
            return [one, post(b"j", b'"x"'), other, one, elsewhere, post(b"j", b'["y","y"]'), one]

        for seq in range(5):
            before = taken(front)
            answers = await clients.ask(turn(seq))
            found = [answer.status for answer in answers]
            assert sorted((found.pop(6), found.pop(3), found.pop(0))) == [200, 204, 204]
            assert found == [204, 200, 200, 204]
            if seq:  # all heads are known: who sent a number again goes the general way
                assert taken(front) - before == 5
            # An answer is behind the records of its own request.
            async with await connect(port) as client:
                held = json.loads(await content(client, b"j"))
            for index, last in ((1, "x"), (2, 0), (5, "y")):
                tail = int(answers[index].header("stream-next-offset") or "")
                assert held[tail - 1] == last
        async with await connect(port) as client:
            assert json.loads(await content(client, b"k")) == [
                value for seq in range(5) for value in (str(seq), 0)
            ]
        assert [value for value in held if value not in ("x", "y", 0)] == [
            value for seq in range(5) for value in [str(seq)] * 2
        ]


async def test_a_producers_answers_are_written_as_ever_where_streams_are_long(
    tmp_path: Path,
) -> None:
    firsts = {b"j": 10**8 - 2, b"k": 12, b"l": 10**12}

    def submit_rows(rows: Rows, context: RowsContext, **_: object) -> RowsTaken:
        ids = array("Q", [77] * len(rows.keys))
        starts = array("Q", [firsts[key.stream.encode()] for key in rows.keys])
        ticket = Ticket(None, context)
        ticket.answer(AppendedRows(ids, starts, array("Q", bytes(8 * len(ids)))))
        context.tell([ticket])
        return RowsTaken(ticket, [])

    async with serving(tmp_path) as (front, service, port):
        clients = Clients(port, 6)
        assert await clients.statuses([put(name) for name in firsts]) == [201] * 3
        plain = [post(name, b'["a","b","c"]') for name in firsts]
        assert await clients.statuses(plain) == [204] * 3
        first = [numbered(0, stream=name) for name in firsts]
        assert await clients.statuses(first) == [200] * 3
        service.context.store.submit_rows = submit_rows  # type: ignore[method-assign,assignment]
        asked = [numbered(9, stream=name, body=b"[1,2,3]") for name in firsts]
        answers = await clients.ask([*asked, *plain])
        assert taken(front) == 6
        for answer, (name, base) in zip(answers, [*firsts.items()] * 2, strict=True):
            by_producer = answer.status == 200
            assert told(answer) == ((200, "9", None) if by_producer else (204, None, None))
            assert answer.header("producer-epoch") == ("0" if by_producer else None)
            assert answer.header("etag") == f'"{77:x}:0:{base + 3}"', name
            assert answer.header("stream-next-offset") == encode_offset(base + 3)
        assert [answer.status for answer in answers] == [200] * 3 + [204] * 3


@pytest.mark.parametrize("text", NOT_PLAIN)
async def test_a_number_that_is_none_is_refused_beside_a_known_head(
    text: bytes, tmp_path: Path
) -> None:
    async with serving(tmp_path) as (_, _, port), await connect(port) as client:
        assert (await ask(client, put(b"j"))).status == 201
        for seq in range(3):
            assert (await ask(client, numbered(seq))).status == 200
        for _ in range(2):
            answer = await ask(client, numbered(text))
            assert answer.status == 400
            assert b"Producer-Seq" in answer.body
        assert told(await ask(client, numbered(3))) == (200, "3", None)


async def answers(client: RawClient, requests: Sequence[bytes]) -> list[int]:
    return [(await ask(client, data)).status for data in requests]


async def test_each_head_has_its_own_producer_stream_and_key(tmp_path: Path) -> None:
    keys = KeyRing([Key("one"), Key("two")])
    async with serving(tmp_path, keys) as (_, _, port), await connect(port) as client:

        def with_key(data: bytes, key: bytes) -> bytes:
            return data.replace(b"\r\n\r\n", b"\r\nx-api-key: %b\r\n\r\n" % key, 1)

        for stream in (b"a", b"b"):
            assert (await ask(client, with_key(put(stream), b"one"))).status == 201
        for seq in range(4):
            requests = [with_key(numbered(seq, stream=stream), b"one") for stream in (b"a", b"b")]
            requests.append(with_key(numbered(seq, stream=b"a"), b"two"))
            requests.append(requests[0].replace(b"Producer-Id: p", b"Producer-Id: q"))
            assert await answers(client, requests) == [200, 200, 204, 200]
        keys.replace([Key("two")])
        assert await answers(client, [with_key(numbered(4, stream=b"a"), b"one")] * 2) == [401] * 2


async def test_sessions_take_producers_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as (front, _, port), await connect(port) as client:

        def event(seq: int) -> bytes:
            return numbered(seq, body=b'{"type":"a"}').replace(b"/v1/stream/j", EVENTS)

        for seq in range(5):
            assert told(await ask(client, event(seq))) == (200, str(seq), None)
        assert kept(front) == 4
        assert told(await ask(client, event(4))) == (204, "4", None)
        assert told(await ask(client, event(6))) == (409, None, "5")


async def test_a_head_whose_route_knows_no_producers_is_not_kept_without_its_number(
    tmp_path: Path,
) -> None:
    """Only what says that the number may vary is understood for all numbers."""
    async with serving(tmp_path) as (front, _, port), await connect(port) as client:
        assert (await ask(client, put(b"j"))).status == 201
        data = get(b"v1/stream/j").replace(b"\r\n\r\n", b"\r\nProducer-Seq: 1\r\n\r\n")
        assert [(await ask(client, data)).body for _ in range(3)] == [b"[]"] * 3
        assert kept(front) == 0
