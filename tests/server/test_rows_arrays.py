"""JSON arrays as rows: one level flattened, each value a record, and the same answers as ever."""

from __future__ import annotations

import json
from pathlib import Path

from tests.server.rows_support import TEXT, Clients, content, post, put, request, taken
from tests.server.test_vectorized_front import ask, connect, serving


async def test_an_array_is_as_many_records(tmp_path: Path) -> None:
    """Protocol section 9.1.1: one level is flattened, and the answer tells where the last one is.

    What is stored is what the general way stores, whose first request each body is here.
    """
    bodies = [
        (b"[1,2,3]", 3),
        (b'\r\n[ {"a" : [1, 2]} ,\n[3,[4]]\t, "]" ] \n', 3),
        (b"[[]]", 1),
        (b' {"a":1}\n', 1),
        (b"[" + b",".join([b'{"n":%d}' % n for n in range(900)]) + b"]", 900),
        (b"[" * 121 + b"]" * 121, 1),
        (b'["a","a",-0,1e999,"\\u0000\xc3\xa9"]', 5),
    ]
    async with serving(tmp_path) as (front, _, port):
        for number, (body, count) in enumerate(bodies):
            stream = b"s%d" % number
            clients = Clients(port, 4)
            assert await clients.statuses([put(stream)]) == [201]
            before = taken(front)
            (answer,) = await clients.ask([post(stream, body)])
            assert (answer.status, answer.header("stream-next-offset")) == (204, f"{count:08d}")
            assert taken(front) == before
            async with await connect(port) as client:
                general = (await content(client, stream))[1:-1]
                answers = await clients.ask([post(stream, body)] * 4)
                assert taken(front) == before + 4
                tails = sorted(filter(None, (a.header("stream-next-offset") for a in answers)))
                assert tails == [f"{count * n:08d}" for n in range(2, 6)]
                assert await content(client, stream) == b"[" + b",".join([general] * 5) + b"]"


async def test_arrays_and_single_records_of_one_turn_keep_their_places(tmp_path: Path) -> None:
    """An answer's offset is behind the records of its own request, whatever came beside it."""
    async with serving(tmp_path) as (front, _, port):
        clients = Clients(port, 9)
        assert await clients.statuses([put(b"a"), put(b"b"), put(b"t", TEXT)]) == [201] * 3
        assert await clients.statuses([post(b"a", b"0"), post(b"b", b"0")]) == [204] * 2
        assert await clients.statuses([post(b"t", b"0", TEXT)]) == [204]
        asked = [(b"ab"[n % 2 : n % 2 + 1], [[n, i] for i in range(n % 4 + 1)]) for n in range(8)]
        requests = [
            post(name, json.dumps(records if len(records) > 1 else records[0][:1]).encode())
            for name, records in asked
        ]
        answers = await clients.ask([*requests, post(b"t", b"[1,2]", TEXT)])
        assert taken(front) == 9
        assert answers[-1].header("stream-next-offset") == "00000002"
        async with await connect(port) as client:
            found = {name: json.loads(await content(client, name)) for name in (b"a", b"b")}
            assert await content(client, b"t") == b"0[1,2]"
        for answer, (name, records) in zip(answers, asked, strict=False):
            tail = int(answer.header("stream-next-offset") or "")
            told = records if len(records) > 1 else [records[0][0]]
            assert found[name][tail - len(told) : tail] == told
            assert (answer.header("etag") or "").strip('"').endswith(f":{tail}")


async def test_more_records_than_a_request_may_have_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (front, service, port), await connect(port) as client:
        most = service.context.config.events_per_request_max
        assert (await ask(client, put(b"a"))).status == 201
        assert (await ask(client, post(b"a", b"1"))).status == 204
        body = b"[" + b"1," * most + b"1]"
        assert (await ask(client, post(b"a", body))).status == 413
        assert taken(front) == 0
        answer = await ask(client, post(b"a", body.replace(b"1,", b"", 1)))
        assert (answer.status, answer.header("stream-next-offset")) == (204, f"{most + 1:08d}")
        assert taken(front) == 1


async def test_records_beyond_what_a_turn_holds_go_the_general_way(tmp_path: Path) -> None:
    """Bodies of the smallest records there are: the columns of a turn hold some of them."""
    body = b"[" + b"1," * 9_999 + b"1]"
    async with serving(tmp_path) as (front, _, port):
        clients = Clients(port, 12)
        assert await clients.statuses([put(b"a")]) == [201]
        assert await clients.statuses([post(b"a", body)]) == [204]
        answers = await clients.ask([post(b"a", body)] * 12)
        tails = sorted(int(answer.header("stream-next-offset") or "") for answer in answers)
        assert tails == [10_000 * n for n in range(2, 14)]
        assert 0 < taken(front) <= 12
        async with await connect(port) as client:
            answer = await ask(client, request(b"HEAD", b"a", None))
            assert answer.header("stream-next-offset") == "00130000"
