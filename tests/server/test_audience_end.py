"""Fan-out: what ends an audience, for one member or for all, and what it lives through."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace.operation import StreamKey
from tailrace_server.config import ServiceConfig
from tailrace_server.keys import Key
from tests.server.audience_support import PATIENT, Server, batches, live_server
from tests.server.front_support import eventually
from tests.server.service_support import StoreTime
from tests.server.streams.stream_support import JSON, at, put


@pytest.mark.usefixtures("fanout_calls")
async def test_a_revoked_key_gets_nothing_more(tmp_path: Path) -> None:
    async with live_server(tmp_path, keys=["a", "b"]) as server:
        await server.client("PUT", at("s"), b"", JSON | {"x-api-key": "a"})
        gone = [await server.follow("s", headers="x-api-key: a\r\n") for _ in range(5)]
        stay = [await server.follow("s", headers="x-api-key: b\r\n") for _ in range(5)]
        await server.together(10)
        server.client.service.context.keys.replace([Key("b")])
        key = {"x-api-key": "b"}
        await server.client("POST", at("s"), b"[1]", JSON | key)
        for follower in gone:
            await follower.tail.end()
            assert follower.whole and follower.records() == []
        await eventually(lambda: all(f.records() == [1] for f in stay))
        await server.together(5)


@pytest.mark.usefixtures("fanout_calls")
async def test_a_delete_ends_an_audience_and_its_successor_is_another(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server:
        followers = await server.audience("a", 5)
        await server.client("DELETE", at("a"))
        await put(server.client, "a", b'["not yours"]', JSON)
        for follower in followers:
            await follower.tail.end()
            assert follower.whole and follower.records() == []


@pytest.mark.usefixtures("fanout_calls")
async def test_a_trim_at_the_tail_changes_nothing_for_members(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server:
        followers = await server.audience("a", 5)
        for number in range(6):
            await server.append("a", number)
            for follower in followers:
                await batches(follower.tail, number + 2)
            server.client.store.trim(StreamKey("flat", "a"), number + 1)
        assert all(f.records() == list(range(6)) for f in followers)


@pytest.mark.usefixtures("fanout_calls")
async def test_a_drain_ends_all_with_a_last_word(tmp_path: Path) -> None:
    async with live_server(tmp_path) as server:
        followers = await server.audience("a", 5)
        await server.append("a", 1)
        for follower in followers:
            await batches(follower.tail, 2)
        await server.client.service.drain()
        for follower in followers:
            await follower.tail.end()
            assert follower.whole and follower.tail.frames()[-1].startswith("retry: ")
            assert follower.records() == [1]


@pytest.mark.usefixtures("fanout_calls")
async def test_a_member_leaves_when_its_time_is_over(tmp_path: Path) -> None:
    config = ServiceConfig(sse_heartbeat_s=600, sse_lifetime_s=0.5)
    async with live_server(tmp_path, config=config) as server:
        await server.make("a")
        await server.append("a", 0)
        followers = [await server.follow("a", "offset=-1") for _ in range(5)]
        number = 1
        while server.readers:
            await server.append("a", number)
            number += 1
        for follower in followers:
            await follower.tail.end()
            assert follower.whole and follower.tail.frames()[-1].startswith("retry: ")
            records = follower.records()
            assert records == list(range(len(records)))


@pytest.mark.usefixtures("fanout_calls")
async def test_heartbeats_come_to_members_too(tmp_path: Path) -> None:
    config = ServiceConfig(sse_heartbeat_s=0.1, sse_lifetime_s=600)
    async with live_server(tmp_path, config=config) as server:
        await server.make("a")
        followers = [await server.follow("a") for _ in range(5)]
        for follower in followers:
            await follower.tail.until(lambda t: t.raw.count(b": heartbeat\n\n") >= 3)
        await server.append("a", 1)
        await eventually(lambda: all(f.records() == [1] for f in followers))
        await server.together(5)


async def test_members_keep_a_ttl_alive(tmp_path: Path) -> None:
    now_ms = StoreTime()
    async with live_server(tmp_path, now_ms=now_ms) as server:
        await put(server.client, "a", b"", JSON | {"stream-ttl": "4"})
        await server.follow("a")
        await server.together(1)
        await now_ms.outlives(server.client.store, ("flat", "a"))
        assert (await server.client("HEAD", at("a"))).status == 200
        await server.together(1)


async def test_the_service_ends_with_readers_in_audiences(tmp_path: Path) -> None:
    async with live_server(tmp_path, config=PATIENT) as server:
        followers = await server.audience("a", 5)
        held: Server = server
    assert held.members == 0
    assert len(followers) == 5
