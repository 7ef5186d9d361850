"""What is kept of answers and for how long: never out of date, never another's, bounded."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from tailrace_server.fast import kept, writer
from tailrace_server.keys import Key, KeyRing
from tests.server.kept_support import JSON, TEXT, Head, serving, whole


async def test_the_third_of_equal_reads_gets_the_seconds_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.ask("PUT", "/v1/stream/a", JSON)
        await running.ask("POST", "/v1/stream/a", JSON, b"[1,2]")
        running.service.context.metrics.add_front(lambda: running.front.counters, lambda: 0)
        for read in (("GET", "/v1/stream/a"), ("HEAD", "/v1/stream/a")):
            before = running.given_again
            answers = [await running.ask(*read) for _ in range(5)]
            assert running.given_again - before == 3
            assert {whole(answer, read[0]).__repr__() for answer in answers} == {
                whole(answers[0], read[0]).__repr__()
            }
        assert running.front.figures()["kept_answers"] == 2
        shown = (await running.ask("GET", "/metrics")).body
        assert b"tailrace_front_answers_kept_total 6.0" in shown
        counted = (
            b'tailrace_http_requests_total{route="/v1/stream/{stream_name*}",status="200"} 10.0'
        )
        assert counted in shown


async def test_after_each_append_the_next_read_shows_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.ask("PUT", "/v1/stream/a", JSON)
        for count in range(1, 51):
            appended = await running.ask("POST", "/v1/stream/a", JSON, b"%d" % count)
            for _ in range(3):
                read = await running.ask("GET", "/v1/stream/a")
                assert read.json() == list(range(1, count + 1))
                assert read.header("stream-next-offset") == appended.header("stream-next-offset")
                assert read.header("etag") == appended.header("etag")
        assert running.given_again >= 50


async def test_readers_never_see_less_than_was_acknowledged(tmp_path: Path) -> None:
    """Nor less than they have seen before, with writer and readers at full speed."""
    rounds = 300
    async with serving(tmp_path) as running:
        await running.ask("PUT", "/v1/stream/a", JSON)
        acknowledged = 0
        done = False

        async def write() -> None:
            nonlocal acknowledged, done
            for count in range(1, rounds + 1):
                answer = await running.ask("POST", "/v1/stream/a", JSON, b"%d" % count)
                assert answer.status == 204
                acknowledged = count
                if count % 10 == 0:
                    await trio.sleep(0.001)
            done = True

        async def read(method: bytes) -> None:
            seen = 0
            async with await running.connect() as client:
                while not done:
                    least = max(acknowledged, seen)
                    await client.send(method + b" /v1/stream/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    answer = await client.answer(method.decode())
                    seen = int(answer.header("stream-next-offset") or -1)
                    assert least <= seen <= rounds
                    if answer.body:
                        assert answer.json() == list(range(1, seen + 1))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                for method in (b"GET", b"HEAD", b"GET", b"HEAD"):
                    nursery.start_soon(read, method)
        assert running.given_again


async def test_only_the_date_is_changed_and_only_the_answers_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_800_000_000.9]
    monkeypatch.setattr(writer, "time", SimpleNamespace(time=lambda: now[0]))
    date = writer.date_line()
    async with serving(tmp_path) as running:
        await running.ask("PUT", "/v1/stream/a", TEXT)
        body = b"x\r\n" + date + b"\r\n" + date
        assert (await running.ask("POST", "/v1/stream/a", TEXT, body)).status == 204
        dates = []
        for step in (0, 0, 0, 0.2, 0, 1, 3600):
            now[0] += step
            answer = await running.ask("GET", "/v1/stream/a")
            assert answer.body == body
            assert f"Date: {answer.header('date')}\r\n".encode() == writer.date_line()
            dates.append(answer.header("date"))
        assert len(set(dates)) == 4
        assert running.given_again == 5


async def test_a_date_in_the_body_is_not_taken_for_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_800_000_000
    monkeypatch.setattr(writer, "time", SimpleNamespace(time=lambda: now))
    body = b"x\r\n" + writer.date_line()
    # The second changes between a turn's beginning and the answer's head, or the other way.
    seconds = cycle((now, now + 1))
    monkeypatch.setattr(writer, "time", SimpleNamespace(time=lambda: next(seconds)))
    async with serving(tmp_path) as running:
        await running.ask("PUT", "/v1/stream/a", TEXT)
        await running.ask("POST", "/v1/stream/a", TEXT, body)
        for turn in range(12):
            assert (await running.ask("GET", "/v1/stream/a")).body == body
            if turn % 2:
                writer.date_line()  # now the other way


async def test_what_time_alone_changes_is_never_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        for name, field in (
            ("a", "stream-ttl: 1000"),
            ("b", "stream-expires-at: 2099-01-01T00:00:00Z"),
        ):
            key, _, value = field.partition(": ")
            target = f"/v1/stream/{name}"
            assert (await running.ask("PUT", target, (*JSON, (key, value)))).status == 201
            for _ in range(5):
                await running.compare(("GET", target, ()))
                await running.compare(("HEAD", target, ()))
        assert running.given_again == 0


async def test_a_request_with_a_body_or_the_last_of_its_connection_is_answered_anew(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as running:
        await running.ask("PUT", "/v1/stream/a", JSON)
        for _ in range(4):
            await running.ask("GET", "/v1/stream/a")
        before = running.given_again
        request = b"GET /v1/stream/a HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
        for _ in range(4):
            await running.client.send(request % b"Content-Length: 2\r\n" + b"{}")
            assert (await running.client.answer()).body == b"[]"
            async with await running.connect() as client:
                await client.send(request % b"Connection: close\r\n")
                answer = await client.answer()
                assert (answer.status, answer.header("connection")) == (200, "close")
                assert await client.ended()
        assert running.given_again == before


async def test_while_the_server_stops_answers_say_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        await running.ask("PUT", "/v1/stream/a", JSON)
        for _ in range(4):
            assert (await running.ask("GET", "/v1/stream/a")).header("connection") is None
        assert running.given_again == 2
        # As of a request that came in the very turn before: the reactor reads no others then.
        running.front._shared.draining = True
        answer = await running.ask("GET", "/v1/stream/a")
        assert (answer.status, answer.header("connection")) == (200, "close")


async def test_keys_that_are_gone_get_nothing_that_was_kept_for_them(tmp_path: Path) -> None:
    keys = KeyRing([Key("one")])
    async with serving(tmp_path, keys) as running:
        one: Head = ("GET", "/v1/stream/a", (("x-api-key", "one"),))
        running.store.create(("flat", "a"), content_type="application/json")
        for _ in range(4):
            assert (await running.compare(one)).status == 200
        assert running.given_again
        keys.replace([Key("two")])
        assert (await running.compare(one)).status == 401
        keys.replace([Key("one")])
        assert (await running.compare(one)).header("vary") is not None
        keys.replace([])
        assert (await running.compare(one)).header("vary") is None


async def test_kept_answers_are_bounded_and_the_longest_unused_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "ANSWERS_MAX", 3)
    monkeypatch.setattr(kept, "BYTES_MAX", 5000)
    monkeypatch.setattr(kept, "ANSWER_BYTES_MAX", 4000)
    async with serving(tmp_path) as running:

        async def kept_now(name: str) -> bool:
            """Ask twice, so that it is kept from now on; whether it was before."""
            before = running.given_again
            await running.ask("GET", f"/v1/stream/{name}")
            found = running.given_again > before
            await running.ask("GET", f"/v1/stream/{name}")
            figures = running.front.figures()
            assert figures["kept_answers"] <= 3 and figures["kept_bytes"] <= 5000
            return found

        for name, size in (*((name, 10) for name in "abcd"), ("f", 2000), ("g", 4000)):
            await running.ask("PUT", f"/v1/stream/{name}", TEXT)
            await running.ask("POST", f"/v1/stream/{name}", TEXT, b"x" * size)
        for name in "abc":
            assert not await kept_now(name)
        assert [await kept_now(name) for name in "abc"] == [True] * 3
        assert await kept_now("a")
        assert not await kept_now("d")  # in the place of b
        assert [await kept_now(name) for name in "acd"] == [True] * 3
        assert not await kept_now("g")  # too large by itself
        assert not await kept_now("g")
        assert await kept_now("d")
        assert not await kept_now("f")
        assert await kept_now("f")
        assert running.front.figures()["kept_answers"] == 3
        await running.ask("POST", "/v1/stream/d", TEXT, b"x" * 2500)
        assert not await kept_now("d")
        assert running.front.figures()["kept_answers"] == 1, "both do not fit"


async def test_the_access_log_has_a_line_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    async with serving(tmp_path, access_log=True) as running:
        shared = running.front._shared
        monkeypatch.setattr(
            type(shared), "log_request", lambda _self, *line: lines.append((line[1], line[2]))
        )
        await running.ask("PUT", "/v1/stream/a", TEXT)
        await running.ask("POST", "/v1/stream/a", TEXT, b"12345")
        lines.clear()
        for _ in range(4):
            await running.ask("GET", "/v1/stream/a")
            await running.ask("HEAD", "/v1/stream/a")
        await running.ask("GET", "/v1/stream/a")  # the line before it is written by now
        reads = [line for line in lines if line[0] == 200]
        assert reads[:8] == [(200, 5), (200, 0)] * 4
        assert running.given_again == 5
