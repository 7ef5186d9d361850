"""GET and HEAD at ``/v1/stream/{path}``: catch-up reads (protocol sections 5.5, 5.6, 8 to 10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace_server.config import ServiceConfig
from tests.server.service_support import serving
from tests.server.streams.stream_support import CLOSE, JSON, at, get, post, put


async def test_5_5_head(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"x", {"stream-ttl": "3600"})
        found = await client("HEAD", at("a"))
        assert found.status == 200 and found.body == b""
        assert found.headers["content-type"] == "text/plain"
        assert found.headers["stream-next-offset"] == "00000001"
        assert found.headers["stream-ttl"] == "3600"
        assert found.headers["cache-control"] == "no-store"
        assert not {"stream-closed", "stream-expires-at"} & set(found.headers)
        assert found.headers["etag"] == (await get(client, "a")).headers["etag"]
        await put(client, "b", b"", CLOSE | {"stream-expires-at": "2999-01-01T00:00:00+01:00"})
        found = await client("HEAD", at("b"))
        assert found.headers["stream-expires-at"] == "2998-12-31T23:00:00.000Z"
        assert found.headers["stream-closed"] == "true"
        assert "stream-ttl" not in found.headers


async def test_5_6_read_from_any_offset(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"one")
        await post(client, "a", b"two")
        for query, body in (
            ("", b"onetwo"),
            ("offset=-1", b"onetwo"),
            ("offset=00000000", b"onetwo"),
            ("offset=00000001", b"two"),
            ("offset=00000002", b""),
            ("offset=00000009", b""),
        ):
            found = await get(client, "a", query)
            assert found.status == 200 and found.body == body, query
            assert found.headers["content-type"] == "text/plain"
            assert found.headers["stream-next-offset"] == "00000002"
            assert found.headers["stream-up-to-date"] == "true"
            assert "stream-closed" not in found.headers
            assert found.headers["etag"]


async def test_9_1_5_json_streams_read_as_arrays(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"", JSON)
        assert (await get(client, "a")).body == b"[]"
        await post(client, "a", b'{"k": 1}', JSON)
        await post(client, "a", b"[2, [3]]", JSON)
        assert (await get(client, "a")).body == b'[{"k": 1},2,[3]]'
        assert (await get(client, "a", "offset=00000002")).body == b"[[3]]"
        assert (await get(client, "a", "offset=00000003")).body == b"[]"


async def test_5_6_a_part_of_the_stream_is_not_up_to_date(tmp_path: Path) -> None:
    config = ServiceConfig(read_bytes_max=10)
    async with serving(tmp_path, config=config) as client:
        await put(client, "a", b"x" * 8)
        await post(client, "a", b"y" * 8, CLOSE)
        first = await get(client, "a")
        assert first.body == b"x" * 8
        assert first.headers["stream-next-offset"] == "00000001"
        assert not {"stream-up-to-date", "stream-closed"} & set(first.headers)
        last = await get(client, "a", "offset=00000001")
        assert last.body == b"y" * 8
        assert last.headers["stream-up-to-date"] == last.headers["stream-closed"] == "true"


async def test_5_6_a_record_larger_than_a_page_is_read_whole(tmp_path: Path) -> None:
    async with serving(tmp_path, config=ServiceConfig(read_bytes_max=10)) as client:
        await put(client, "a", b"x" * 1000)
        assert (await get(client, "a")).body == b"x" * 1000


async def test_5_6_eof(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"x", CLOSE)
        for query in ("offset=-1", "offset=00000001", "offset=now"):
            found = await get(client, "a", query)
            assert found.status == 200
            assert found.headers["stream-closed"] == found.headers["stream-up-to-date"] == "true"
            assert found.headers["stream-next-offset"] == "00000001"
            assert "stream-cursor" not in found.headers


@pytest.mark.parametrize(("headers", "empty"), [(JSON, b"[]"), ({}, b"")])
async def test_8_now_is_the_tail_without_data(
    tmp_path: Path, headers: dict[str, str], empty: bytes
) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"[1]", headers)
        found = await get(client, "a", "offset=now")
        assert found.status == 200 and found.body == empty
        assert found.headers["stream-next-offset"] == "00000001"
        assert found.headers["stream-up-to-date"] == "true"
        assert found.headers["cache-control"] == "no-store"
        assert "etag" not in found.headers
        assert (await get(client, "none", "offset=now")).status == 404


async def test_10_1_etag_changes_with_data_and_closure(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"x")
        tags = []
        for headers in ({}, {}, CLOSE):
            found = await get(client, "a")
            tag = found.headers["etag"]
            tags.append(tag)
            for match in (tag, f"W/{tag}", f'"other", {tag}', "*"):
                kept = await get(client, "a", headers={"if-none-match": match})
                assert kept.status == 304 and kept.body == b""
                assert kept.headers["etag"] == tag
                assert kept.headers["stream-next-offset"] == found.headers["stream-next-offset"]
                assert kept.headers["cache-control"] == found.headers["cache-control"]
            await post(client, "a", b"" if headers else b"y", headers)
        tags.append((await get(client, "a")).headers["etag"])
        assert len(set(tags)) == 4
        for tag in tags[:3]:
            assert (await get(client, "a", headers={"if-none-match": tag})).status == 200


async def test_10_1_cache_control(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"x")
        data = await get(client, "a")
        assert data.headers["cache-control"] == "public, max-age=60, stale-while-revalidate=300"
        assert "vary" not in data.headers
        tail = await get(client, "a", "offset=00000001")
        assert tail.headers["cache-control"] == "public, no-cache"
        await post(client, "a", b"", CLOSE)
        eof = await get(client, "a", "offset=00000001")
        assert eof.headers["cache-control"] == data.headers["cache-control"]


async def test_10_1_what_a_key_protects_is_private(tmp_path: Path) -> None:
    async with serving(tmp_path, keys=["k"]) as client:
        key = {"authorization": "Bearer k"}
        await put(client, "a", b"x", key)
        found = await get(client, "a", headers=key)
        assert found.headers["cache-control"] == "private, max-age=60, stale-while-revalidate=300"
        assert found.headers["vary"] == "Authorization, x-api-key"


async def test_5_6_before_what_is_kept_is_410(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"one")
        await post(client, "a", b"two")
        client.store.trim(("flat", "a"), 1)
        for query in ("offset=00000000", "offset=-1&live=sse", "offset=-1&live=long-poll"):
            found = await get(client, "a", query)
            assert found.status == 410 and found.error[0] == "trimmed", query
        assert (await get(client, "a", "offset=00000001")).body == b"two"


async def test_bytes_come_back_as_sent(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        every_byte = bytes(range(256))
        await put(client, "a", every_byte, {"content-type": "application/octet-stream"})
        found = await get(client, "a")
        assert found.body == every_byte
        assert found.headers["content-type"] == "application/octet-stream"
