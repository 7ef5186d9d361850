"""Damage, and what a repair gave up, as clients meet it: what is whole is served, the rest told."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import tailrace
from tests.server.service_support import Client, serving

OPTIONS = tailrace.Options(segment_bytes=256 * 1024)
EVENTS = "/v1/sessions/s/events"
STREAM = "/v1/stream/s"


async def fill(directory: Path) -> None:
    async with serving(directory, options=OPTIONS) as client:
        created = await client("PUT", STREAM, b"", {"content-type": "application/json"})
        assert created.status == 201
        for n in range(10):
            event = {"type": "user.message", "n": n, "word": f"number{n}."}
            assert (await client("POST", EVENTS, [event])).status == 204
            sent = await client("POST", STREAM, b'"number%d."' % n)
            assert sent.status in (200, 204), sent.body
            await trio.sleep(0.002)  # each event has a time of its own
        # So that the damage lies in what no start replays.
        filler = {"type": "filler", "text": "x" * 3000}
        for _ in range(100):
            await client("POST", "/v1/sessions/other/events", [filler])


def damage(directory: Path) -> None:
    """Numbers 4 and 5, of the session and of the stream."""
    segment = directory / "log" / f"{0:016x}.segment"
    content = bytearray(segment.read_bytes())
    for n in (4, 5):
        at = -1
        for _ in range(2):
            at = content.find(b"number%d." % n, at + 1)
            assert at > 0
            content[at] ^= 1
    segment.write_bytes(content)


@pytest.fixture(params=["damaged", "repaired"])
async def state(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    await fill(tmp_path)
    damage(tmp_path)
    if request.param == "repaired":
        report = tailrace.repair(tmp_path)
        assert {lost[1:] for lost in report.records} == {(4, 6)}
        assert not tailrace.repair(tmp_path).lost
    return str(request.param)


async def refused(client: Client, state: str, target: str) -> None:
    """The read begins at what cannot be read."""
    found = await client("GET", target)
    if state == "damaged":
        assert (found.status, found.error[0]) == (500, "data_corrupted")
    else:
        assert (found.status, found.error[0]) == (410, "records_lost")
        assert found.headers["stream-next-offset"] == "00000006"
        assert "00000004" in found.error[1] or "00000005" in found.error[1]
        assert "00000006" in found.error[1]


async def test_a_session(state: str, tmp_path: Path) -> None:
    async with serving(tmp_path, options=OPTIONS) as client:
        found = await client("GET", EVENTS)
        assert [event["n"] for event in found.json["data"]] == [0, 1, 2, 3]
        assert found.headers["stream-next-offset"] == "00000004"
        assert "stream-up-to-date" not in found.headers
        for offset in (4, 5):
            await refused(client, state, f"{EVENTS}?offset={offset:08}")
            await refused(client, state, f"{EVENTS}?offset={offset:08}&live=long-poll")
            await refused(client, state, f"{EVENTS}?offset={offset:08}&live=sse")
            await refused(client, state, f"{EVENTS}/stream?offset={offset:08}")
        token = found.json["next_page"]
        await refused(client, state, f"{EVENTS}?page={token}")
        behind = await client("GET", f"{EVENTS}?offset=00000006")
        assert [event["n"] for event in behind.json["data"]] == [6, 7, 8, 9]
        assert behind.headers["stream-up-to-date"] == "true"
        newest = await client("GET", f"{EVENTS}?order=desc")
        assert [event["n"] for event in newest.json["data"]] == [9, 8, 7, 6]
        await refused(client, state, f"{EVENTS}?order=desc&page={newest.json['next_page']}")
        assert (await client("POST", EVENTS, [{"type": "a", "n": 10}])).status == 204
        behind = await client("GET", f"{EVENTS}?offset=00000009")
        assert [event["n"] for event in behind.json["data"]] == [9, 10]


async def test_times_of_a_session_that_lost_events(tmp_path: Path) -> None:
    """Only a range that may have held the lost events tells of them."""
    await fill(tmp_path)
    damage(tmp_path)
    tailrace.repair(tmp_path)
    async with serving(tmp_path, options=OPTIONS) as client:
        whole = [await client("GET", f"{EVENTS}{offset}") for offset in ("", "?offset=00000006")]
        times = {e["n"]: e["created_at"] for found in whole for e in found.json["data"]}
        assert len(set(times.values())) == 8

        async def listed(bounds: str) -> list[int]:
            """The numbers of a page; -1 behind them if the next page tells of what was lost."""
            found = await client("GET", f"{EVENTS}?{bounds}")
            if found.status == 410:
                assert found.headers["stream-next-offset"] == "00000006"
                return [-1]
            numbers = [event["n"] for event in found.json["data"]]
            token = found.json["next_page"]
            return numbers + (await listed(f"{bounds}&page={token}") if token else [])

        for n in (6, 7, 8, 9):
            behind = list(range(n, 10))
            assert await listed(f"created_at[gt]={times[n]}") == behind[1:]
            assert await listed(f"created_at[gt]={times[n]}&order=desc") == behind[:0:-1]
            assert await listed(f"created_at[lt]={times[n]}") == [0, 1, 2, 3, -1]
            assert await listed(f"created_at[lt]={times[n]}&order=desc") == [
                *range(n - 1, 5, -1),
                -1,
            ]
            for least in (7, 8, 9):
                bounds = f"created_at[gte]={times[least]}&created_at[lte]={times[n]}"
                assert await listed(bounds) == list(range(least, n + 1))
        for n in range(4):
            before = list(range(n + 1))
            assert await listed(f"created_at[lt]={times[n]}") == before[:-1]
            assert await listed(f"created_at[lt]={times[n]}&order=desc") == before[-2::-1]
            assert await listed(f"created_at[gte]={times[n]}") == [*range(n, 4), -1]
        # They may be as old as the event before them, and as new as the one behind.
        assert await listed(f"created_at[gte]={times[6]}") == [-1]
        assert await listed(f"created_at[lte]={times[3]}") == [0, 1, 2, 3, -1]
        assert await listed(f"created_at[gt]={times[3]}") == [-1]
        assert await listed(f"created_at[lte]={times[2]}&order=desc") == [2, 1, 0]


async def test_a_stream(state: str, tmp_path: Path) -> None:
    async with serving(tmp_path, options=OPTIONS) as client:
        found = await client("GET", f"{STREAM}?offset=-1")
        assert found.json == [f"number{n}." for n in range(4)]
        assert found.headers["stream-next-offset"] == "00000004"
        for live in ("", "&live=long-poll", "&live=sse"):
            await refused(client, state, f"{STREAM}?offset=00000004{live}")
        tail = await client.tail(f"{STREAM}?offset=00000006&live=sse")
        assert "number6." in (await tail.next()).data
        head = await client("HEAD", STREAM)
        assert head.headers["stream-next-offset"] == "00000010"
