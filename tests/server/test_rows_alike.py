"""Appends as rows and the general way, side by side: whatever is sent, the answers are the same."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio
import trio.testing
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.server.front_support import Answer
from tests.server.rows_support import (
    JSON,
    OF_THE_MOMENT,
    TEXT,
    Clients,
    put,
    request,
    taken,
)
from tests.server.test_vectorized_front import serving

REFUSED = (b"[]", b"{", b"", b'"\xff"', b'"\\ud800"', b"[1,]", b"[1,2", b"[" * 123 + b"]" * 123)
# Of one size in a turn: then its answers are the same in whichever order they came.
BODIES = st.sampled_from(
    [
        (b"1", b'"two"', b'{"n":3}', b"null", b" 5", b"[4]", b"[{\n}]", b'["\\ud83d\\ude00"]'),
        (b'[6,7,{"a":[8]}]', b" [9 ,\n[10], 11 ]\n", b"[12,{\n},13]", b"[0,0,0]"),
    ]
).flatmap(lambda bodies: st.lists(st.sampled_from((*bodies, *bodies, *REFUSED)), max_size=5))

STREAMS = (b"a", b"b", b"c")


APPENDS = st.tuples(st.sampled_from([JSON, JSON, JSON, TEXT, JSON + b";charset=x"]), BODIES).map(
    lambda made: [(b"POST", body, made[0]) for body in made[1]]
)


CHANGES = st.sampled_from(
    [
        [(b"PUT", None, JSON)],
        [(b"PUT", None, TEXT)],
        [(b"DELETE", None, b"X-A: b")],
        [(b"POST", b"", b"Stream-Closed: true")],
        [(b"POST", b"6", JSON + b"\r\nStream-Seq: a")],
        [(b"GET", None, b"X-A: b")],
        [(b"POST", b"7", JSON + b"\r\nConnection: close")],
    ]
)


# The number behind @ is how far Producer-Seq is from the one that comes next.
PRODUCER = b"\r\nProducer-Id: p\r\nProducer-Seq: @%+d\r\nProducer-Epoch: %d"
PRODUCERS = st.tuples(BODIES, st.sampled_from((0, 0, 0, 0, 1, -1)), st.sampled_from((0, 0, 1))).map(
    lambda made: [(b"POST", body, JSON + PRODUCER % made[1:]) for body in made[0][:1]]
)
# In one turn a stream gets either appends, of which any may come first, or one other request.
TURN = st.tuples(*(APPENDS | PRODUCERS | PRODUCERS | CHANGES for _ in STREAMS))


class Seqs:
    """The numbers that come next, as far as answers tell."""

    def __init__(self) -> None:
        self._next: dict[bytes, int] = {}

    def fill(self, stream: bytes, fields: bytes) -> bytes:
        last = self._next.get(stream, 0)
        return re.sub(rb"@([+-]\d)", lambda found: b"%d" % max(0, last + int(found[1])), fields)

    def learn(self, stream: bytes, answer: Answer) -> None:
        expected = answer.header("producer-expected-seq")
        seq = answer.header("producer-seq")
        if expected is not None:
            self._next[stream] = int(expected)
        elif seq is not None:
            self._next[stream] = int(seq) + 1


def comparable(answer: Answer) -> tuple[int, list[tuple[str, str]], list[int]]:
    """Of a read, what it holds: the order of records is theirs who came in one turn."""
    fields = sorted(field for field in answer.headers if field[0] not in OF_THE_MOMENT)
    return answer.status, fields, sorted(answer.body)


async def answered(
    turns: Sequence[Sequence[Sequence[tuple[bytes, bytes | None, bytes]]]], access_log: bool
) -> list[object]:
    """What each stream's requests are told in each turn, and what the streams hold."""
    found: list[object] = []
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder), access_log=access_log) as (front, _, port):
            clients = Clients(port, 0)
            for stream, kind in zip(STREAMS, (JSON, JSON, TEXT), strict=True):
                clients = Clients(port, 1)
                assert await clients.statuses([put(stream, kind)]) == [201]
            clients, seqs = Clients(port, 15), Seqs()
            for turn in turns:
                asked = [
                    (stream, request(method, stream, body, seqs.fill(stream, fields)))
                    for stream, some in zip(STREAMS, turn, strict=True)
                    for method, body, fields in some
                ]
                told = await clients.ask([data for _, data in asked])
                for (stream, _), answer in zip(asked, told, strict=True):
                    seqs.learn(stream, answer)
                for stream in STREAMS:
                    mine = [t for t, (name, _) in zip(told, asked, strict=True) if name == stream]
                    found.append(sorted(map(comparable, mine)))
                if any(b"Connection: close" in data for _, data in asked):
                    clients = Clients(port, 15)
            for stream in STREAMS:
                (answer,) = await clients.ask([request(b"GET", stream, None)])
                found.append((answer.status, sorted(answer.body)))
            assert not (access_log and taken(front))
    return found


# Each example takes two servers: a smaller one is not worth thousands of them.
@settings(max_examples=25, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(st.lists(TURN, min_size=1, max_size=8))
def test_both_ways_answer_alike(
    turns: list[tuple[list[tuple[bytes, bytes | None, bytes]], ...]],
) -> None:
    assert trio.run(answered, turns, False) == trio.run(answered, turns, True)
