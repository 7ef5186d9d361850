"""A session is a stream: ``/ds/sessions/{id}``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from tailrace_server.config import ServiceConfig
from tailrace_server.keys import Key, Right
from tests.server.service_support import Client, Got, serving
from tests.server.streams.stream_support import JSON
from tests.server.streams.test_streams_live import waiting

PATIENT = ServiceConfig(long_poll_timeout_s=100, sse_heartbeat_s=100, sse_lifetime_s=100)


async def say(client: Client, session: str, text: str) -> None:
    event = {"type": "user.message", "text": text}
    assert (await client("POST", f"/v1/sessions/{session}/events", event)).status == 204


async def test_a_session_is_read_as_a_stream(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await say(client, "s1", "one")
        await say(client, "s1", "two")
        page = await client("GET", "/v1/sessions/s1/events")
        stream = await client("GET", "/ds/sessions/s1")
        assert stream.status == 200 and stream.headers["content-type"] == "application/json"
        assert stream.json == page.json["data"] and len(stream.json) == 2
        assert stream.headers["stream-next-offset"] == page.headers["stream-next-offset"]
        rest = await client("GET", "/ds/sessions/s1?offset=00000001")
        assert [event["text"] for event in rest.json] == ["two"]
        head = await client("HEAD", "/ds/sessions/s1")
        assert head.status == 200 and head.headers["stream-next-offset"] == "00000002"
        assert (await client("GET", "/ds/sessions/none")).status == 404


@pytest.mark.parametrize("session", ["s%2F1", "a..b", "%C3%A9", "s" * 122])
async def test_every_session_id_is_the_id_of_its_stream(tmp_path: Path, session: str) -> None:
    async with serving(tmp_path) as client:
        await say(client, session, "one")
        assert len((await client("GET", f"/ds/sessions/{session}")).json) == 1
        assert (await client("GET", f"/ds/sessions/{session}x" + "x" * 122)).status == 400


async def test_a_session_is_tailed_as_a_stream(tmp_path: Path) -> None:
    async with serving(tmp_path, config=PATIENT) as client:
        await say(client, "s1", "one")
        tail = await client.tail("/ds/sessions/s1?offset=-1&live=sse")
        assert [event["text"] for event in (await tail.next()).json] == ["one"]
        assert (await tail.next()).json["streamNextOffset"] == "00000001"
        found: list[Got] = []

        async def poll() -> None:
            found.append(await client("GET", "/ds/sessions/s1?offset=now&live=long-poll"))

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poll)
                await waiting(client, 2)
                await say(client, "s1", "two")
        assert [event["text"] for event in found[0].json] == ["two"]
        assert [event["text"] for event in (await tail.next()).json] == ["two"]


async def test_a_session_is_forked_as_a_stream(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await say(client, "s%2F1", "one")
        await client("PUT", "/ds/demo")
        fork = {"stream-forked-from": "/ds/sessions/s%2F1"}
        assert (await client("PUT", "/ds/demo/f", b"", fork)).status == 201
        assert (await client("POST", "/ds/demo/f", b"{}", JSON)).status == 204
        found = (await client("GET", "/ds/demo/f")).json
        assert found[0]["text"] == "one" and found[1] == {}


async def test_a_session_is_not_written_as_a_stream(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await say(client, "s1", "one")
        before = await client("GET", "/ds/sessions/s1")
        fork = JSON | {"stream-forked-from": "/ds/sessions/s1"}
        for method, target, headers in (
            ("POST", "/ds/sessions/s1", JSON),
            ("POST", "/ds/sessions/s1", {"stream-closed": "true"}),
            ("PUT", "/ds/sessions/s1", JSON),
            ("PUT", "/ds/sessions/s2", JSON),
            ("PUT", "/ds/sessions/s3", fork),
        ):
            body = b"{}" if method == "POST" else b""
            refused = await client(method, target, body, headers)
            assert refused.status == 405 and refused.error[0] == "method_not_allowed"
            assert "/v1/sessions/" in refused.error[1]
            assert refused.headers["allow"] == "DELETE, GET, HEAD, OPTIONS"
        after = await client("GET", "/ds/sessions/s1")
        assert after.body == before.body
        assert json.loads((await client("GET", "/ds/sessions")).body)["streams"] == 1


async def test_a_session_is_deleted_and_trimmed_as_a_stream(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for text in ("one", "two", "three"):
            await say(client, "s1", text)
        assert (await client("PUT", "/ds/sessions/s1/retention/00000001")).status == 204
        assert (await client("GET", "/v1/sessions/s1/events?offset=-1")).status == 410
        left = await client("GET", "/v1/sessions/s1/events?offset=00000001")
        assert [event["offset"] for event in left.json["data"]] == ["00000001", "00000002"]
        assert (await client("GET", "/v1/search?q=one")).json["total"] == 0
        assert (await client("GET", "/v1/search?q=two")).json["total"] == 1
        assert (await client("DELETE", "/ds/sessions/s1")).status == 204
        assert (await client("GET", "/v1/sessions/s1")).status == 404


async def test_a_key_for_some_sessions_reaches_those_as_streams(tmp_path: Path) -> None:
    keys = [Key("one", sessions=("s*",)), Key("reader", frozenset({Right.READ}), ("s1",))]
    async with serving(tmp_path, keys=keys) as client:
        one, reader = {"x-api-key": "one"}, {"x-api-key": "reader"}
        event = {"type": "user.message"}
        assert (await client("POST", "/v1/sessions/s1/events", event, one)).status == 204
        assert (await client("GET", "/ds/sessions/s1", b"", one)).status == 200
        assert (await client("GET", "/ds/sessions/s1", b"", reader)).status == 200
        for target in ("/ds/sessions/t1", "/ds/sessions"):
            assert (await client("GET", target, b"", one)).status == 404
        assert (await client("DELETE", "/ds/sessions/s1", b"", reader)).status == 404
        retention = "/ds/sessions/s1/retention/00000001"
        assert (await client("PUT", retention, b"", reader)).status == 404
        assert (await client("PUT", retention, b"", one)).status == 204
