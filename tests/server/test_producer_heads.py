"""Appends of producers (protocol section 5.2.1) whose heads differ in Producer-Seq alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tailrace_server._reactor import ffi, lib
from tailrace_server.fast.listener import FastFront
from tailrace_server.keys import Key, KeyRing
from tests.server.front_support import Answer, RawClient
from tests.server.rows_support import JSON, content, post, put
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
