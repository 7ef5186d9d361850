"""PUT, POST and DELETE at ``/v1/stream/{path}`` (protocol sections 4.1 and 5.1 to 5.4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace_server.config import ServiceConfig
from tailrace_server.keys import Key, Right
from tests.server.service_support import serving
from tests.server.streams.stream_support import CLOSE, JSON, at, get, post, producer, put


async def test_5_1_create_then_confirm_then_conflict(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        made = await put(client, "a/b", b"hello", {"host": "example.test:4437"})
        assert made.status == 201 and made.body == b""
        assert made.headers["location"] == "http://example.test:4437/v1/stream/a/b"
        assert made.headers["content-type"] == "text/plain"
        assert made.headers["stream-next-offset"] == "00000001"
        assert "stream-closed" not in made.headers
        again = await put(client, "a/b", b"ignored", {"content-type": "Text/Plain; charset=utf-8"})
        assert again.status == 200 and "location" not in again.headers
        assert again.headers["content-type"] == "text/plain"
        assert again.headers["stream-next-offset"] == "00000001"
        assert (await get(client, "a/b")).body == b"hello"
        for other in (JSON, {"stream-ttl": "60"}, {"stream-expires-at": "2999-01-01T00:00:00Z"}):
            refused = await put(client, "a/b", b"", other)
            assert refused.status == 409 and refused.error[0] == "config_mismatch"


async def test_5_1_location_is_the_url_the_client_knows(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        proxied = {"host": "s.example", "x-forwarded-proto": "https"}
        made = await put(client, "%C3%A9%2F1", b"", proxied)
        assert made.headers["location"] == "https://s.example/v1/stream/%C3%A9%2F1"
        odd = await put(client, "b", b"", {"host": "s.example", "x-forwarded-proto": "gopher"})
        assert odd.headers["location"] == "http://s.example/v1/stream/b"
        assert (await put(client, "c")).headers["location"] == "/v1/stream/c"


async def test_5_1_closure_is_part_of_the_configuration(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        closed = await put(client, "closed", b"all of it", CLOSE)
        assert closed.status == 201 and closed.headers["stream-closed"] == "true"
        assert (await put(client, "closed", b"", CLOSE)).status == 200
        assert (await put(client, "closed")).status == 409
        assert (await put(client, "open")).status == 201
        assert (await put(client, "open", b"", CLOSE)).status == 409
        assert (await get(client, "closed")).body == b"all of it"


async def test_5_1_a_stream_without_a_type_is_bytes(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        made = await client("PUT", at("a"), b"")
        assert made.status == 201
        assert made.headers["content-type"] == "application/octet-stream"


async def test_9_1_3_an_empty_array_creates_but_does_not_append(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        assert (await put(client, "a", b" [ ] ", JSON)).status == 201
        refused = await post(client, "a", b"[]", JSON)
        assert refused.status == 400 and refused.error[1].startswith("body: ")
        assert (await post(client, "a", b"[]", JSON | CLOSE)).status == 400
        assert (await get(client, "a")).body == b"[]"


@pytest.mark.parametrize("body", [b"{", b"[1,]", b"nul", b"\xff", b" ", b'{"a":1}{"b":2}'])
async def test_9_1_4_what_is_no_json_is_400_and_changes_nothing(
    tmp_path: Path, body: bytes
) -> None:
    async with serving(tmp_path) as client:
        assert (await put(client, "a", body, JSON)).status == 400
        assert (await get(client, "a")).status == 404
        await put(client, "a", b"[0]", JSON)
        assert (await post(client, "a", body, JSON | producer("p", 0, 0))).status == 400
        assert (await get(client, "a")).body == b"[0]"
        # The sequence number was not used up.
        assert (await post(client, "a", b"1", JSON | producer("p", 0, 0))).status == 200


async def test_9_1_numbers_beyond_2_to_the_64_come_back_as_sent(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        body = b"[9007199254740993,18446744073709551617,1e400,0.10]"
        await put(client, "a", body, JSON)
        assert (await get(client, "a")).body == body


async def test_5_2_append(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a")
        found = await post(client, "a", b"one")
        assert found.status == 204
        assert found.headers["stream-next-offset"] == "00000001"
        assert "content-type" not in found.headers and "stream-closed" not in found.headers
        assert (await get(client, "a")).body == b"one"


async def test_5_2_append_needs_a_stream_a_body_and_its_type(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for body in (b"x", b""):
            missing = await post(client, "a", body)
            assert missing.status == 404 and missing.error[0] == "not_found_error"
        await put(client, "a")
        assert (await post(client, "a")).status == 400
        untyped = await post(client, "a", b"x", {"content-type": ""})
        assert untyped.status == 400 and untyped.error[1].startswith("Content-Type: ")
        other = await post(client, "a", b"{", JSON)
        assert other.status == 409 and other.error[0] == "content_type_mismatch"
        assert (await get(client, "a")).body == b""


async def test_5_2_stream_seq_only_grows(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a")
        for seq, status in (("09", 204), ("10", 204), ("10", 409), ("1", 409), ("2", 204)):
            found = await post(client, "a", b"x", {"stream-seq": seq})
            assert found.status == status, seq
        assert found.headers["stream-next-offset"] == "00000003"


async def test_5_3_close_is_idempotent_and_final(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"x")
        for content_type in ("text/plain", "application/json", ""):
            found = await post(client, "a", b"", CLOSE | {"content-type": content_type})
            assert found.status == 204 and found.headers["stream-closed"] == "true"
            assert found.headers["stream-next-offset"] == "00000001"
        for headers in ({}, CLOSE, JSON, {"stream-seq": "1"}, {"stream-expected-offset": "-1"}):
            late = await post(client, "a", b"y", headers)
            assert late.status == 409 and late.error[0] == "stream_closed"
            assert late.headers["stream-closed"] == "true"
            assert late.headers["stream-next-offset"] == "00000001"
        assert (await get(client, "a")).body == b"x"


async def test_5_2_closed_is_told_before_what_is_wrong_with_the_body(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"[1]", JSON | CLOSE)
        for body in (b"{", b"[]"):
            found = await post(client, "a", body, JSON)
            assert found.status == 409 and found.headers["stream-closed"] == "true"


async def test_4_1_only_true_closes(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a")
        for value in ("false", "yes", "1", ""):
            found = await post(client, "a", b"x", {"stream-closed": value})
            assert found.status == 204 and "stream-closed" not in found.headers
        found = await post(client, "a", b"x", {"stream-closed": "TRUE"})
        assert found.status == 204 and found.headers["stream-closed"] == "true"


async def test_5_2_1_producers(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a")

        async def send(epoch: int, seq: int) -> tuple[int, dict[str, str]]:
            found = await post(client, "a", b"%d.%d " % (epoch, seq), producer("p", epoch, seq))
            kept = {k: v for k, v in found.headers.items() if k.startswith("producer-")}
            return found.status, kept

        assert await send(0, 0) == (200, {"producer-epoch": "0", "producer-seq": "0"})
        assert await send(0, 1) == (200, {"producer-epoch": "0", "producer-seq": "1"})
        assert await send(0, 0) == (204, {"producer-epoch": "0", "producer-seq": "1"})
        gap = {"producer-expected-seq": "2", "producer-received-seq": "5"}
        assert await send(0, 5) == (409, gap)
        assert (await send(1, 1))[0] == 400
        assert await send(1, 0) == (200, {"producer-epoch": "1", "producer-seq": "0"})
        assert await send(0, 2) == (403, {"producer-epoch": "1"})
        assert (await get(client, "a")).body == b"0.0 0.1 1.0 "


@pytest.mark.parametrize(
    "change",
    [
        {"producer-id": ""},
        {"producer-id": None},
        {"producer-epoch": None},
        {"producer-seq": None},
        {"producer-epoch": "-1"},
        {"producer-epoch": "1.0"},
        {"producer-seq": "1e3"},
        {"producer-seq": "01"},
        {"producer-seq": "9007199254740992"},
        {"producer-seq": "18446744073709551617"},
    ],
)
async def test_5_2_1_producer_headers_come_together_and_are_whole_numbers(
    tmp_path: Path, change: dict[str, str | None]
) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a")
        sent = {k: v for k, v in (producer("p", 0, 0) | change).items() if v is not None}
        found = await post(client, "a", b"x", sent)
        (name,) = change
        assert found.status == 400 and found.error[1].lower().startswith(name)
        assert (await get(client, "a")).body == b""


async def test_5_2_1_the_closing_append_may_be_repeated(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a")
        first = await post(client, "a", b"x", producer("p", 0, 0) | CLOSE)
        again = await post(client, "a", b"x", producer("p", 0, 0) | CLOSE)
        assert (first.status, again.status) == (200, 204)
        assert first.headers["stream-closed"] == again.headers["stream-closed"] == "true"
        later = await post(client, "a", b"y", producer("p", 0, 1))
        assert later.status == 409 and later.headers["stream-closed"] == "true"


async def test_5_2_1_a_close_without_data_is_204(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a")
        for _ in range(2):
            found = await post(client, "a", b"", producer("p", 0, 0) | CLOSE)
            assert found.status == 204
            assert found.headers["producer-seq"] == "0"
            assert found.headers["stream-closed"] == "true"


async def test_expected_offset_is_compare_and_append(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a")
        first = producer("p", 0, 0) | {"stream-expected-offset": "-1"}
        assert (await post(client, "a", b"one", first)).status == 200
        behind = await post(client, "a", b"two", {"stream-expected-offset": "00000000"})
        assert behind.status == 409 and behind.error[0] == "expected_ordinal_mismatch"
        assert behind.headers["stream-next-offset"] == "00000001"
        # A retry of what was accepted is a duplicate, not a conflict.
        assert (await post(client, "a", b"one", first)).status == 204
        assert (await post(client, "a", b"two", {"stream-expected-offset": "x"})).status == 400
        found = await post(client, "a", b"two", {"stream-expected-offset": "00000001"})
        assert found.status == 204
        assert (await get(client, "a")).body == b"onetwo"


async def test_5_4_delete(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"old")
        old = await get(client, "a")
        assert (await client("DELETE", at("a"))).status == 204
        assert (await client("DELETE", at("a"))).status == 404
        for method in ("GET", "HEAD", "POST"):
            assert (await client(method, at("a"))).status == 404
        assert (await put(client, "a", b"new")).status == 201
        match = {"if-none-match": old.headers["etag"]}
        found = await get(client, "a", headers=match)
        assert found.status == 200 and found.body == b"new"


async def test_5_1_an_expired_stream_is_gone_and_does_not_block_its_name(tmp_path: Path) -> None:
    now_ms = 1_000_000
    async with serving(tmp_path, now_ms=lambda: now_ms) as client:
        await put(client, "a", b"old", {"stream-ttl": "10"})
        await put(client, "b", b"old", {"stream-expires-at": "1970-01-01T00:16:45Z"})
        now_ms += 4_999
        assert (await get(client, "b")).body == b"old"
        now_ms += 1
        assert (await get(client, "b")).status == 404
        assert (await get(client, "a", "offset=now")).status == 200
        await put(client, "c")  # the renewal is in the log before it
        now_ms += 9_000
        assert (await client("HEAD", at("a"))).headers["stream-ttl"] == "10"
        now_ms += 1_000  # HEAD did not renew it
        assert (await get(client, "a")).status == 404
        assert (await post(client, "a", b"x")).status == 404
        assert (await put(client, "a", b"new")).status == 201
        assert (await get(client, "a")).body == b"new"


async def test_too_much_is_413(tmp_path: Path) -> None:
    config = ServiceConfig(body_bytes_max=100, events_per_request_max=3)
    async with serving(tmp_path, config=config) as client:
        await put(client, "a", b"", JSON)
        assert (await post(client, "a", b"[1,2,3,4]", JSON)).status == 413
        assert (await post(client, "a", b"1" * 101, JSON)).status == 413
        assert (await post(client, "a", b"[1,2,3]", JSON)).status == 204


async def test_6_1_the_reserved_segment_holds_no_streams(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for path in ("__ds", "__ds/subscriptions", "%5F_ds/a"):
            found = await put(client, path)
            assert found.status == 404 and found.error[0] == "not_found_error"
        assert (await put(client, "__dsx")).status == 201


async def test_the_surface_takes_a_key_for_every_session(tmp_path: Path) -> None:
    keys = [
        Key("all"),
        Key("reader", rights=frozenset({Right.READ})),
        Key("writer", rights=frozenset({Right.APPEND})),
        Key("one", sessions=("s*",)),
    ]
    async with serving(tmp_path, keys=keys) as client:

        async def status(key: str | None, method: str, path: str = "a", **headers: str) -> int:
            sent = {"content-type": "text/plain"}
            if key is not None:
                sent["x-api-key"] = key
            body = b"x" if method in ("PUT", "POST") else b""
            return (await client(method, at(path), body, sent | headers)).status

        assert await status(None, "PUT") == 401
        assert await status("reader", "PUT") == await status("one", "PUT") == 404
        assert await status("writer", "PUT") == 201
        assert await status("writer", "POST") == 204
        assert [await status("writer", m) for m in ("GET", "HEAD", "DELETE")] == [404] * 3
        assert [await status("reader", m) for m in ("GET", "HEAD")] == [200] * 2
        assert [await status("reader", m) for m in ("POST", "DELETE")] == [404] * 2
        fork = {"stream-forked-from": at("a")}
        assert await status("writer", "PUT", "b", **fork) == 404
        assert await status("all", "PUT", "b", **fork) == 201
        assert await status("one", "GET") == 404
        hidden = await client("GET", at("a"), b"", {"x-api-key": "one"})
        missing = await client("GET", at("a2"), b"", {"x-api-key": "all"})
        assert hidden.error[1] == missing.error[1].replace("a2", "a")
        assert await status("all", "DELETE", "b") == 204


async def test_other_methods_are_405_with_allow(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        found = await client("PATCH", at("a"))
        assert found.status == 405
        assert found.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, POST, PUT"
        assert (await client("PUT", "/v1/stream")).status == 404
        assert (await client("PUT", "/v1/stream/")).status == 400
        assert (await client("PUT", "/v1/stream/%zz")).status == 400


async def test_12_7_preflight_allows_every_header_of_the_protocol(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        found = await client("OPTIONS", at("a"))
        assert found.status == 204
        assert found.headers["access-control-allow-methods"].count(",") == 5
        allowed = found.headers["access-control-allow-headers"].lower().split(", ")
        exposed = found.headers["access-control-expose-headers"].lower().split(", ")
        assert {
            *("content-type", "if-none-match", "stream-seq", "stream-closed", "stream-ttl"),
            *("stream-expires-at", "stream-forked-from", "stream-fork-offset"),
            *("stream-fork-sub-offset", "stream-expected-offset", "last-event-id"),
            *("producer-id", "producer-epoch", "producer-seq"),
        } <= set(allowed)
        assert {
            *("etag", "location", "stream-next-offset", "stream-up-to-date", "stream-closed"),
            *("stream-cursor", "stream-ttl", "stream-expires-at", "stream-sse-data-encoding"),
            *("producer-epoch", "producer-seq", "producer-expected-seq"),
            "producer-received-seq",
        } <= set(exposed)
