"""Catch-up reads whose heads differ in their targets alone get the answers they get alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tailrace_server.context import PlainPage
from tailrace_server.fast import pages
from tailrace_server.fast.page_answer import PageForms
from tailrace_server.keys import Key, KeyRing
from tailrace_server.protocol.message import HeaderList
from tests.server.kept_support import JSON, TEXT, Running, serving, whole

KEY: HeaderList = (("authorization", "Bearer secret"),)


def taken(running: Running) -> int:
    return running.front.figures()["pages_taken"]


async def fill(running: Running, fields: HeaderList = ()) -> None:
    """Streams of both surfaces, of some events each; "lead" among them."""
    for target in ("/v1/stream/lead", *(f"/v1/stream/{n}/x" for n in range(5)), "/ds/buck/b"):
        if target.startswith("/ds/"):
            await running.ask("PUT", "/ds/buck", fields)
        kind = TEXT if target.endswith("/3/x") else JSON
        assert (await running.ask("PUT", target, (*fields, *kind))).status == 201
        body = b"text" if kind is TEXT else b'[{"a":1},{"a":2},{"a":3}]'
        assert (await running.ask("POST", target, (*fields, *kind), body)).status == 204


async def check(running: Running, target: str, fields: HeaderList = (), method: str = "GET") -> int:
    """The status of an answer, which must be the one that is made the general way."""
    answer = await running.ask(method, target, fields)
    again = await running.made_anew(method, target, fields)
    alike = await running.ask(method, target, (*fields, ("x-another", "head")))
    assert whole(answer, method) == whole(alike, method)
    assert answer.body == again.partition(b"\r\n\r\n")[2]
    return answer.status


async def test_another_target_needs_no_understanding(tmp_path: Path) -> None:
    """Section 5.6: streams and offsets that nobody asked for before."""
    async with serving(tmp_path) as running:
        await fill(running)
        await running.ask("GET", "/v1/stream/lead")
        await running.ask("GET", "/v1/stream/lead", (("x-another", "head"),))
        before, asked = taken(running), 0
        for number in (0, 1, 2, 4):
            for query in ("", "?offset=-1", "?offset=00000000", "?offset=00000001", "?cursor=7"):
                assert await check(running, f"/v1/stream/{number}/x{query}") == 200
                asked += 2
        assert await check(running, "/v1/stream/3/x?offset=-1") == 200
        assert taken(running) - before == asked + 2
        shown = (await running.ask("GET", "/metrics")).body
        counted = b'tailrace_http_requests_total{route="/v1/stream/{stream_name*}",status="200"} '
        made_anew = asked // 2 + 1
        assert counted + b"%d.0" % (asked + 2 + 2 + made_anew) in shown


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/v1/stream/0/x?offset=now", 200),
        ("/v1/stream/0/x?offset=00000003", 200),  # nothing there yet
        ("/v1/stream/0/x?offset=1", 400),
        ("/v1/stream/0/x?offset=-1&offset=-1", 400),
        ("/v1/stream/0/x?offset=%31", 400),
        ("/v1/stream/none", 404),
        ("/v1/stream/__ds/lead", 404),
        ("/v1/stream/", 400),
        ("/v1/stream/a/../lead", 400),
        ("/v1/stream/lea%64/%GG", 400),
        ("/ds/buck/b", 200),
        ("/ds/buck/streams", 200),
        ("/ds/buck/none", 404),
        ("/v1/sessions", 200),
    ],
)
async def test_what_is_no_such_read_is_answered_as_ever(
    tmp_path: Path, target: str, status: int
) -> None:
    async with serving(tmp_path) as running:
        await fill(running)
        await running.ask("GET", "/v1/stream/lead")
        await running.ask("GET", "/v1/stream/lead", (("x-another", "head"),))
        assert await check(running, target) == status
        assert taken(running) == 0


async def test_a_surface_has_its_own_route(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await fill(running)
        await running.ask("GET", "/ds/buck/b")
        assert (await running.ask("GET", "/ds/buck/b?offset=00000001")).status == 200
        assert taken(running) == 1
        assert (await running.ask("GET", "/v1/stream/lead")).status == 200  # leads from here on
        assert taken(running) == 1
        assert (await running.ask("GET", "/v1/stream/0/x")).status == 200
        assert taken(running) == 2
        shown = (await running.ask("GET", "/metrics")).body
        for route in (b"/ds/{bucket}/{stream}", b"/v1/stream/{stream_name*}"):
            assert b'requests_total{route="%s",status="200"} 2.0' % route in shown


async def test_a_condition_is_seen_to(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await fill(running)
        tag = (await running.ask("GET", "/v1/stream/0/x")).header("etag")
        assert tag is not None
        for target, status in (("/v1/stream/lead", 200), ("/v1/stream/0/x", 304)):
            answer = await running.ask("GET", target, (("if-none-match", tag),))
            assert answer.status == status
        assert (await running.ask("HEAD", "/v1/stream/1/x")).body == b""
        assert taken(running) == 0


async def test_a_key_reads_what_it_may(tmp_path: Path) -> None:
    """And its siblings with another key are others' heads; a revoked one is known no more."""
    keys = KeyRing([Key("secret"), Key("little", sessions=("one",))])
    async with serving(tmp_path, keys) as running:
        await fill(running, KEY)
        little = (("authorization", "Bearer little"),)
        await running.ask("GET", "/v1/stream/lead", KEY)
        for number in range(3):
            target = f"/v1/stream/{number}/x"
            assert (await running.ask("GET", target)).status == 401
            assert (await running.ask("GET", target, little)).status == 404
        answer = await running.ask("GET", "/v1/stream/1/x", KEY)
        assert (answer.header("cache-control") or "").startswith("private")
        assert taken(running) == 1
        keys.replace(["another"])
        assert (await running.ask("GET", "/v1/stream/2/x", KEY)).status == 401
        assert taken(running) == 1


async def test_a_head_that_comes_again_is_learned(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await fill(running)
        await running.ask("GET", "/v1/stream/lead")
        for _ in range(6):
            assert (await running.ask("GET", "/v1/stream/0/x")).status == 200
        assert taken(running) == 1
        assert running.given_again == 4


async def test_a_head_that_is_known_and_was_long_ago(tmp_path: Path) -> None:
    """Its answer is kept no more, and need not be again."""
    async with serving(tmp_path) as running:
        await fill(running)
        for _ in range(4):
            await running.ask("GET", "/v1/stream/0/x")
        assert (taken(running), running.given_again) == (0, 2)
        running.front._tick._pages._met.clear()  # type: ignore[union-attr]
        for count in range(4):
            await running.ask("POST", "/v1/stream/0/x", JSON, b"4")
            answer = await running.ask("GET", "/v1/stream/0/x")
            assert answer.json() == [{"a": 1}, {"a": 2}, {"a": 3}, *[4] * (count + 1)]
            assert taken(running) == 1
        assert running.given_again == 2
        await running.ask("GET", "/v1/stream/0/x")
        assert (taken(running), running.given_again) == (1, 3)


async def test_one_that_is_left_is_asked_for_the_first_time(tmp_path: Path) -> None:
    """So its answer is not kept before it was asked for again."""
    async with serving(tmp_path) as running:
        await fill(running)
        await running.ask("GET", "/v1/stream/lead")
        for count in range(4):
            answer = await running.ask("GET", "/v1/stream/0/x?offset=00000003")
            assert answer.json() == []
            assert running.given_again == max(0, count - 1)
        assert taken(running) == 0


async def test_a_read_of_many_bytes_goes_the_general_way(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await fill(running)
        for size, name in ((20_000, "long"), (16_000, "short")):
            await running.ask("PUT", f"/v1/stream/{name}", TEXT)
            assert (
                await running.ask("POST", f"/v1/stream/{name}", TEXT, b"x" * size)
            ).status == 204
        await running.ask("GET", "/v1/stream/lead")
        for name, size, count in (("long", 20_000, 0), ("short", 16_000, 1)):
            assert (await running.ask("GET", f"/v1/stream/{name}")).body == b"x" * size
            assert taken(running) == count


async def test_a_defect_of_theirs_leaves_them_to_the_general_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as running:
        await fill(running)
        await running.ask("GET", "/v1/stream/lead")

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("a defect")

        monkeypatch.setattr(running.store, "pieces_small", fail)
        assert (await running.ask("GET", "/v1/stream/0/x")).status == 200
        assert taken(running) == 0


async def test_a_defect_with_one_page_is_not_everybodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as running:
        await fill(running)
        await running.ask("GET", "/v1/stream/lead")
        made = PageForms.answer

        def answer(forms: PageForms, page: PlainPage) -> object:
            if page.result.key.stream == "0/x":
                raise RuntimeError("a defect")
            return made(forms, page)

        monkeypatch.setattr(PageForms, "answer", answer)
        assert (await running.ask("GET", "/v1/stream/0/x")).status == 500
        assert taken(running) == 0
        async with await running.connect() as running.client:
            assert (await running.ask("GET", "/v1/stream/1/x")).status == 200
        assert taken(running) == 1


async def test_readers_that_come_at_once_get_their_own(tmp_path: Path) -> None:
    streams, clients = 200, 16
    async with serving(tmp_path) as running:
        for number in range(streams):
            target = f"/v1/stream/s{number}"
            await running.ask("PUT", target, JSON)
            await running.ask("POST", target, JSON, b"[%d,0]" % number)
        await running.ask("GET", "/v1/stream/s0")

        async def read(first: int) -> None:
            async with await running.connect() as client:
                for number in range(first, streams, clients):
                    head = f"GET /v1/stream/s{number}?offset=-1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
                    await client.send(head.encode())
                    assert (await client.answer("GET")).json() == [number, 0]

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for first in range(clients):
                    nursery.start_soon(read, first)
        assert taken(running) == streams


async def test_what_is_remembered_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "ANSWERS_MAX", 4)
    monkeypatch.setattr(pages, "_LEADERS_MAX", 2)
    async with serving(tmp_path) as running:
        await fill(running)
        path = running.front._tick._pages  # type: ignore[union-attr]
        for number in range(20):
            fields = (("x-client", str(number % 5)),)
            target = f"/v1/stream/{number % 3}/x?offset={number % 2:08d}"
            assert (await running.ask("GET", target, fields)).status == 200
            assert len(path._leaders) <= 2
            assert len(path._met) <= 4 + 1
