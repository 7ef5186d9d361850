"""Buckets at ``/ds/{bucket}`` and their listing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace.operation import CreateBucket
from tailrace_server.keys import Key, Right
from tests.server.service_support import Client, serving
from tests.server.streams.stream_support import CLOSE, JSON, TEXT


async def make(client: Client, *ids: str, bucket: str = "demo") -> None:
    """A bucket with empty streams of these ids, percent-encoded."""
    assert (await client("PUT", f"/ds/{bucket}")).status == 201
    for stream in ids:
        assert (await client("PUT", f"/ds/{bucket}/{stream}", b"", TEXT)).status == 201


async def test_put_makes_a_bucket_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        made = await client("PUT", "/ds/demo")
        assert made.status == 201 and made.body == b""
        assert made.headers["location"] == "/ds/demo"
        again = await client("PUT", "/ds/demo")
        assert again.status == 409 and again.error[0] == "bucket_exists"
        assert (await client("PUT", "/ds/a b")).status == 400


async def test_a_stream_never_makes_its_bucket(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        refused = await client("PUT", "/ds/demo/a", b"x", TEXT)
        assert refused.status == 404 and "bucket demo" in refused.error[1]
        assert (await client("GET", "/ds/demo")).status == 404
        for method in ("POST", "GET", "HEAD", "DELETE"):
            assert (await client(method, "/ds/demo/a", b"", TEXT)).status == 404


async def test_get_tells_how_many_streams_there_are(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        assert (await client("GET", "/ds/demo")).status == 404
        assert (await client("GET", "/ds/DEMO")).status == 400
        await make(client, "a", "b")
        found = await client("GET", "/ds/demo")
        assert found.status == 200 and found.headers["cache-control"] == "no-store"
        assert found.json["bucket_id"] == "demo" and found.json["streams"] == 2
        assert found.json["created_at_ms"] > 0


async def test_delete_takes_an_empty_bucket_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        assert (await client("DELETE", "/ds/demo")).status == 404
        await make(client, "a")
        full = await client("DELETE", "/ds/demo")
        assert full.status == 409 and full.error[0] == "bucket_not_empty"
        assert (await client("DELETE", "/ds/demo/a")).status == 204
        assert (await client("DELETE", "/ds/demo")).status == 204
        assert (await client("GET", "/ds/demo")).status == 404
        await make(client, "a")


@pytest.mark.parametrize("bucket", ["flat", "sessions"])
async def test_the_buckets_of_other_surfaces_can_be_seen_but_not_deleted(
    tmp_path: Path, bucket: str
) -> None:
    async with serving(tmp_path) as client:
        refused = await client("DELETE", f"/ds/{bucket}")
        assert refused.status == 409 and refused.error[0] == "bucket_reserved"
        assert (await client("PUT", f"/ds/{bucket}")).status == 409
        assert (await client("GET", f"/ds/{bucket}")).json["streams"] == 0


async def test_streams_of_the_flat_bucket_are_listed_but_not_reached(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        assert (await client("PUT", "/v1/stream/a", b"x", TEXT)).status == 201
        listed = (await client("GET", "/ds/flat/streams")).json
        assert [stream["stream_id"] for stream in listed["streams"]] == ["a"]
        for method in ("PUT", "POST", "GET", "HEAD", "DELETE"):
            refused = await client(method, "/ds/flat/a", b"", TEXT)
            assert refused.status == 404
        assert "/v1/stream/" in refused.error[1]
        assert (await client("PUT", "/ds/flat/a/retention/00000001")).status == 404
        assert (await client("GET", "/v1/stream/a")).body == b"x"


async def test_internal_buckets_are_not_there(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        client.store.perform(CreateBucket("__ds"))
        client.store.create(("__ds", "a"))
        for target in ("/ds/__ds", "/ds/__ds/streams", "/ds/__ds/a"):
            assert (await client("GET", target)).status == 404
        for method in ("PUT", "DELETE"):
            for target in ("/ds/__ds", "/ds/__ds/a"):
                assert (await client(method, target)).status == 404
        assert (await client("POST", "/ds/__ds/a", b"x", TEXT)).status == 404
        assert (await client("PUT", "/ds/__ds/a/retention/00000000")).status == 404
        await make(client)
        fork = TEXT | {"stream-forked-from": "/ds/__ds/a"}
        assert (await client("PUT", "/ds/demo/f", b"", fork)).status == 404


async def test_listing_tells_of_each_stream(tmp_path: Path) -> None:
    now_ms = 1_000_000
    async with serving(tmp_path, now_ms=lambda: now_ms) as client:
        await make(client, "b", "%C3%A9")
        now_ms += 5
        await client("PUT", "/ds/demo/a", b"[1,2]", JSON | CLOSE)
        now_ms += 5
        await client("POST", "/ds/demo/b", b"x", TEXT)
        found = await client("GET", "/ds/demo/streams")
        assert found.status == 200 and found.headers["content-type"] == "application/json"
        assert found.json == {
            "bucket_id": "demo",
            "prefix": "",
            "stream_count": 3,
            "streams": [
                {
                    "stream_id": "a",
                    "status": "Closed",
                    "content_type": "application/json",
                    "tail_offset": "00000002",
                    "created_at_ms": 1_000_005,
                    "last_write_at_ms": 1_000_005,
                },
                {
                    "stream_id": "b",
                    "status": "Open",
                    "content_type": "text/plain",
                    "tail_offset": "00000001",
                    "created_at_ms": 1_000_000,
                    "last_write_at_ms": 1_000_010,
                },
                {
                    "stream_id": "é",
                    "status": "Open",
                    "content_type": "text/plain",
                    "tail_offset": "00000000",
                    "created_at_ms": 1_000_000,
                    "last_write_at_ms": 1_000_000,
                },
            ],
            "next_cursor": None,
            "has_more": False,
        }


async def test_listing_pages_by_limit_and_after(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await make(client, "x1", "x2", "x3", "y1", "y2")
        seen, after, pages = [], "", 0
        while True:
            page = (await client("GET", f"/ds/demo/streams?limit=2&after={after}")).json
            seen += [stream["stream_id"] for stream in page["streams"]]
            pages += 1
            if not page["has_more"]:
                assert page["next_cursor"] is None
                break
            assert page["next_cursor"] == seen[-1] and page["stream_count"] == 2
            after = page["next_cursor"]
        assert seen == ["x1", "x2", "x3", "y1", "y2"] and pages == 3
        page = (await client("GET", "/ds/demo/streams?prefix=x&limit=2&after=x1")).json
        assert [stream["stream_id"] for stream in page["streams"]] == ["x2", "x3"]
        assert page["prefix"] == "x" and page["has_more"] is False


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", ""])
async def test_listing_limit_is_1_to_1000(tmp_path: Path, limit: str) -> None:
    async with serving(tmp_path) as client:
        await make(client)
        refused = await client("GET", f"/ds/demo/streams?limit={limit}")
        assert refused.status == 400 and refused.error[1].startswith("limit: ")
        assert (await client("GET", "/ds/demo/streams?limit=1000")).status == 200


async def test_listing_of_no_bucket_is_404_and_of_a_bad_id_400(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        assert (await client("GET", "/ds/none/streams")).status == 404
        assert (await client("GET", "/ds/NO/streams")).status == 400


async def test_buckets_take_a_key_for_every_session(tmp_path: Path) -> None:
    keys = [
        Key("all"),
        Key("reader", rights=frozenset({Right.READ})),
        Key("writer", rights=frozenset({Right.APPEND})),
        Key("one", sessions=("s*",)),
    ]
    async with serving(tmp_path, keys=keys) as client:

        async def status(key: str | None, method: str, target: str) -> int:
            sent = TEXT if key is None else TEXT | {"x-api-key": key}
            return (await client(method, target, b"", sent)).status

        assert await status(None, "PUT", "/ds/demo") == 401
        for key in ("reader", "writer", "one"):
            assert await status(key, "PUT", "/ds/demo") == 404
        assert await status("all", "PUT", "/ds/demo") == 201
        for target in ("/ds/demo", "/ds/demo/streams", "/ds/sessions/streams"):
            assert await status("reader", "GET", target) == 200
            assert await status("one", "GET", target) == 404
            assert await status("writer", "GET", target) == 404
        assert await status("one", "PUT", "/ds/demo/s1") == 404
        assert await status("writer", "PUT", "/ds/demo/s1") == 201
        assert await status("one", "GET", "/ds/demo/s1") == 404
        assert await status("reader", "GET", "/ds/demo/s1") == 200
        for key in ("reader", "writer", "one"):
            assert await status(key, "PUT", "/ds/demo/s1/retention/00000000") == 404
            assert await status(key, "DELETE", "/ds/demo/s1") == 404
            assert await status(key, "DELETE", "/ds/demo") == 404
        assert await status("all", "PUT", "/ds/demo/s1/retention/00000000") == 204
