"""``GET /ds/{bucket}/{stream}/bootstrap``: Durable Streams Extensions, bootstrap."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import trio

from tailrace_server.config import ServiceConfig
from tailrace_server.keys import Key, Right
from tailrace_server.live import CutOff, LiveResponse
from tests.server.buckets.test_buckets import make
from tests.server.service_support import Client, Got, request, serving
from tests.server.snapshots.snapshot_support import LARGE, S, at, digest, numbers, put
from tests.server.snapshots.test_multipart import parts
from tests.server.streams.stream_support import CLOSE, JSON, TEXT

SMALL_PAGES = ServiceConfig(read_bytes_max=64)


async def bootstrap(client: Client, stream: str = S) -> Got:
    found = await client("GET", f"{stream}/bootstrap")
    assert found.status == 200
    return found


def read(found: Got) -> tuple[tuple[str, bytes], list[tuple[str, bytes]]]:
    """The snapshot's part and those of the records."""
    first, *more = parts(found.headers["content-type"], found.body)
    return first, more


async def test_the_snapshot_and_each_record_after_it(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SMALL_PAGES) as client:
        await numbers(client, 40)
        await put(client, 10, b'{"folded": 10}', {"content-type": "application/x; v=1"})
        found = await bootstrap(client)
        snapshot, records = read(found)
        assert snapshot == ("application/x; v=1", b'{"folded": 10}')
        assert records == [("application/json", b"%d" % number) for number in range(10, 40)]
        assert found.headers["stream-snapshot-offset"] == "00000010"
        assert found.headers["stream-snapshot-digest"] == digest(b'{"folded": 10}')
        assert found.headers["stream-next-offset"] == "00000040"
        assert found.headers["stream-up-to-date"] == "true"
        assert "stream-closed" not in found.headers
        assert found.headers["cache-control"] == "no-store"


async def test_without_a_snapshot_the_first_part_is_empty(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client, 3)
        found = await bootstrap(client)
        snapshot, records = read(found)
        assert snapshot == ("application/octet-stream", b"")
        assert [record for _, record in records] == [b"0", b"1", b"2"]
        assert found.headers["stream-snapshot-offset"] == "-1"
        assert "stream-snapshot-digest" not in found.headers
        # What retention dropped is in no part; the rest is.
        await client("PUT", f"{S}/retention/00000002")
        assert [record for _, record in read(await bootstrap(client))[1]] == [b"2"]


async def test_a_stream_of_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await make(client)
        await client("PUT", S, b"", TEXT)
        assert read(await bootstrap(client)) == (("application/octet-stream", b""), [])


async def test_a_closed_stream_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await put(client, 5)
        await client("POST", S, b"", CLOSE)
        found = await bootstrap(client)
        assert found.headers["stream-closed"] == "true"
        assert read(found) == (("text/plain", b"folded"), [])


async def test_bytes_of_any_kind_come_through(tmp_path: Path) -> None:
    hostile = [b"\r\n--", b"--", b"\r", b"\n\n", bytes(range(256)), "é".encode(), b"-" * 80]
    async with serving(tmp_path) as client:
        await make(client)
        await client("PUT", S, b"", TEXT)
        for record in hostile:
            assert (await client("POST", S, record, TEXT)).status == 204
        assert [record for _, record in read(await bootstrap(client))[1]] == hostile
        await put(client, 2, LARGE)
        snapshot, records = read(await bootstrap(client))
        assert snapshot == ("text/plain", LARGE)
        assert [record for _, record in records] == hostile[2:]


async def test_the_boundary_is_new_each_time_and_in_no_part(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        boundaries = set()
        for _ in range(5):
            found = await bootstrap(client)
            boundary = found.headers["content-type"].partition("boundary=")[2]
            assert found.body.count(boundary.encode()) == 7  # one for each part, and the end
            boundaries.add(boundary)
        assert len(boundaries) == 5


@pytest.mark.parametrize("live", ["sse", "long-poll", "", "x"])
async def test_400_for_any_live(tmp_path: Path, live: str) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        refused = await client("GET", f"{S}/bootstrap?live={live}")
        assert refused.status == 400 and refused.error[1].startswith("live:")


async def test_404_and_410_where_there_is_no_stream(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        for path in ("/ds/demo/none", "/ds/none/a", "/ds/flat/a", "/ds/__ds/a"):
            assert (await client("GET", f"{path}/bootstrap")).status == 404
        await client("PUT", "/ds/demo/f", b"", JSON | {"stream-forked-from": S})
        await client("DELETE", S)
        assert (await client("GET", f"{S}/bootstrap")).status == 410
        assert len(read(await bootstrap(client, "/ds/demo/f"))[1]) == 5


async def test_head_has_no_body_and_holds_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await numbers(client)
        await put(client, 3)
        before = len(os.listdir("/proc/self/fd"))
        answer = await client.service.handle(request("HEAD", f"{S}/bootstrap"))
        assert isinstance(answer, LiveResponse) and answer.length is None
        assert len(os.listdir("/proc/self/fd")) == before
        found = await client("HEAD", f"{S}/bootstrap")
        assert found.headers["stream-snapshot-offset"] == "00000003"


async def test_a_session_is_bootstrapped(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for text in ("one", "two"):
            event = {"type": "user.message", "text": text}
            await client("POST", "/v1/sessions/s%2F1/events", event)
        session = "/ds/sessions/s%2F1"
        await client("PUT", at(1, session), b"folded", TEXT)
        snapshot, records = read(await bootstrap(client, session))
        assert snapshot == ("text/plain", b"folded")
        assert [json.loads(record)["text"] for _, record in records] == ["two"]


async def test_a_key_needs_the_right_to_read(tmp_path: Path) -> None:
    keys = [Key("all"), Key("writer", frozenset({Right.APPEND})), Key("some", sessions=("s*",))]
    async with serving(tmp_path, keys=keys) as client:
        await client("PUT", "/ds/demo", b"", {"x-api-key": "all"})
        await client("PUT", S, b"[1]", JSON | {"x-api-key": "all"})
        for name, status in (("all", 200), ("writer", 404), ("some", 404)):
            found = await client("GET", f"{S}/bootstrap", b"", {"x-api-key": name})
            assert found.status == status


# ---- one consistent view


async def held_up(client: Client, *calls: tuple[str, str, bytes]) -> tuple[bytes, bool]:
    """A bootstrap during which, after its first bytes, ``calls`` are made; whether it is whole."""
    answer = await client.service.handle(request("GET", f"{S}/bootstrap"))
    assert isinstance(answer, LiveResponse)
    head = f"Content-Type: {dict(answer.headers)['Content-Type']}\r\n\r\n".encode()
    body = bytearray()

    async def send(piece: bytes) -> None:
        if not body:
            for method, target, sent in calls:
                done = await client(method, target, sent, JSON)
                assert done.status in (201, 204), (method, target, done)
        body.extend(piece)

    try:
        await answer.run(send)
    except CutOff:
        return head + bytes(body), False
    finally:
        answer.close()
    return head + bytes(body), True


async def test_what_comes_meanwhile_is_not_in_it(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SMALL_PAGES) as client:
        await numbers(client, 30)
        await put(client, 10, LARGE)
        body, whole = await held_up(
            client,
            ("POST", S, b"30"),
            ("PUT", at(25), b"newer"),
            ("PUT", f"{S}/retention/00000010", b""),
        )
        assert whole
        content_type = body.partition(b"\r\n")[0].decode().removeprefix("Content-Type: ")
        first, *records = parts(content_type, body.partition(b"\r\n\r\n")[2])
        assert first == ("text/plain", LARGE)
        assert [record for _, record in records] == [b"%d" % n for n in range(10, 30)]


@pytest.mark.parametrize(
    "calls",
    [
        [("PUT", at(30), b"newer"), ("PUT", f"{S}/retention/00000030", b"")],
        [("DELETE", S, b"")],
        [("DELETE", S, b""), ("PUT", S, b"[1,2,3,4,5,6,7,8,9,10,11,12,13]")],
    ],
    ids=["trimmed", "deleted", "made again"],
)
async def test_what_is_taken_away_meanwhile_cuts_it_off(
    tmp_path: Path, calls: list[tuple[str, str, bytes]]
) -> None:
    async with serving(tmp_path, config=SMALL_PAGES) as client:
        await numbers(client, 30)
        await put(client, 10)
        body, whole = await held_up(client, *calls)
        assert not whole
        assert not body.endswith(b"--\r\n")


async def test_no_record_is_lost_or_repeated_between_it_and_what_follows(tmp_path: Path) -> None:
    """Appends, snapshots and trims race it: snapshot, its records, then a read from its end."""
    async with serving(tmp_path, config=SMALL_PAGES) as client:
        await make(client)
        await client("PUT", S, b"", JSON)
        done = False

        async def write() -> None:
            nonlocal done
            for number in range(300):
                body = b"[%d]" % number
                assert (await client("POST", S, body, JSON)).status == 204
                if number % 7 == 0:
                    # The fold of the numbers before an offset is the offset.
                    assert (await put(client, number, b"%d" % number)).status == 204
                if number % 31 == 0 and number > 20:
                    newest = number - number % 7
                    trimmed = await client("PUT", f"{S}/retention/{newest:08d}")
                    assert trimmed.status == 204
            done = True

        async def check() -> None:
            seen = 0
            while not done or seen < 5:
                try:
                    found = await bootstrap(client)
                except CutOff:
                    continue  # a trim overtook it: the client asks again
                snapshot, records = read(found)
                folded = int(snapshot[1] or b"0")
                numbers = [int(record) for _, record in records]
                following = found.headers["stream-next-offset"]
                assert [*range(folded), *numbers] == list(range(int(following)))
                rest = await client("GET", f"{S}?offset={following}")
                if rest.status == 200:
                    after = rest.json
                    assert after == list(range(int(following), int(following) + len(after)))
                seen += 1

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                nursery.start_soon(check)
