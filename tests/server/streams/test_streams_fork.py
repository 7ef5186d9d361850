"""Forks at ``/v1/stream/{path}`` (protocol section 4.2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.service_support import Client, Got, serving
from tests.server.streams.stream_support import CLOSE, JSON, at, get, post, put


async def fork(
    client: Client,
    path: str,
    source: str,
    offset: str | None = None,
    sub: int | None = None,
    body: bytes = b"",
    content_type: str = "",
) -> Got:
    sent = {"stream-forked-from": source, "content-type": content_type}
    if offset is not None:
        sent["stream-fork-offset"] = offset
    if sub is not None:
        sent["stream-fork-sub-offset"] = str(sub)
    return await client("PUT", at(path), body, sent)


async def test_4_2_a_fork_goes_its_own_way(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"one ")
        await post(client, "a", b"two ")
        await post(client, "a", b"", CLOSE)
        made = await fork(client, "b", at("a"), "00000001")
        assert made.status == 201 and "stream-closed" not in made.headers
        assert made.headers["content-type"] == "text/plain"
        assert made.headers["stream-next-offset"] == "00000001"
        assert (await post(client, "b", b"2 ")).status == 204
        assert (await get(client, "b")).body == b"one 2 "
        assert (await get(client, "b", "offset=00000001")).body == b"2 "
        assert (await get(client, "a")).body == b"one two "
        assert (await fork(client, "b", at("a"), "00000001")).status == 200
        assert (await fork(client, "b", at("a"), "00000001", 0)).status == 200
        assert (await fork(client, "b", at("a"), "00000000")).status == 409
        assert (await put(client, "b")).status == 409


async def test_4_2_a_fork_starts_at_the_tail_if_not_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"[1,2]", JSON)
        assert (await fork(client, "b", at("a"), body=b"[3]")).status == 201
        assert (await fork(client, "c", at("a"), "now", body=b"3")).status == 201
        assert (await fork(client, "d", at("a"), "-1", body=b"3")).status == 201
        assert (await get(client, "b")).body == b"[1,2,3]"
        assert (await get(client, "c")).body == b"[1,2,3]"
        assert (await get(client, "d")).body == b"[3]"


async def test_4_2_a_fork_without_a_type_reads_its_body_by_its_sources_type(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"", JSON)
        assert (await fork(client, "b", at("a"), body=b"{")).status == 400
        assert (await fork(client, "b", at("a"), body=b"[[1],2]")).status == 201
        assert (await get(client, "b")).body == b"[[1],2]"


@pytest.mark.parametrize(
    ("sub", "body"), [(0, b"one 3"), (1, b"one t3"), (3, b"one two3"), (4, b"one two 3")]
)
async def test_4_2_byte_sub_offsets(tmp_path: Path, sub: int, body: bytes) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"one ")
        await post(client, "a", b"two ")
        assert (await fork(client, "b", at("a"), "00000001", sub, b"3")).status == 201
        assert (await get(client, "b")).body == body


async def test_4_2_json_sub_offsets_count_messages(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"[1,2,3]", JSON)
        assert (await fork(client, "b", at("a"), "00000001", 1)).status == 201
        assert (await get(client, "b")).body == b"[1,2]"
        assert (await fork(client, "c", at("a"), "00000001", 3)).status == 400


async def test_4_2_refusals(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"one")
        await put(client, "taken")
        beyond = "9999999999999999_9999999999999999"
        for expected, made in (
            (404, await fork(client, "b", at("none"))),
            (404, await fork(client, "b", "/v1/other/a")),
            (404, await fork(client, "b", at("__ds/a"))),
            (404, await fork(client, "b", "/ds/none/a")),
            (400, await fork(client, "b", "a")),
            (400, await fork(client, "b", at("%zz"))),
            (400, await fork(client, "b", "/ds/NO/a")),
            (400, await fork(client, "b", at("a"), "00000002")),
            (400, await fork(client, "b", at("a"), beyond)),
            (400, await fork(client, "b", at("a"), "x")),
            (400, await fork(client, "b", at("a"), "00000000", 4)),
            (400, await fork(client, "b", at("a"), None, 1)),
            (409, await fork(client, "b", at("a"), content_type="application/json")),
            (409, await fork(client, "taken", at("a"))),
        ):
            assert made.status == expected, made.body
            assert made.error
        assert (await get(client, "b")).status == 404
        # None of them left a reference: the source goes for good.
        assert (await client("DELETE", at("a"))).status == 204
        assert (await get(client, "a")).status == 404


async def test_4_2_soft_delete(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"one")
        await fork(client, "b", at("a"))
        await fork(client, "c", at("b"))
        assert (await client("DELETE", at("a"))).status == 204
        for method in ("GET", "HEAD", "POST", "DELETE"):
            gone = await client(
                method, at("a"), b"x" if method == "POST" else b"", {"content-type": "text/plain"}
            )
            assert gone.status == 410, method
        for live in ("sse", "long-poll"):
            assert (await get(client, "a", f"offset=-1&live={live}")).status == 410
        assert (await put(client, "a")).status == 409
        assert (await fork(client, "d", at("a"))).status == 409
        assert (await client("DELETE", at("b"))).status == 204
        assert (await get(client, "c")).body == b"one"
        assert (await client("DELETE", at("c"))).status == 204
        for path in "abc":
            assert (await get(client, path)).status == 404
        assert (await put(client, "a")).status == 201


async def test_4_2_a_session_can_be_forked_from(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        event = {"type": "user.message"}
        assert (await client("POST", "/v1/sessions/s%201/events", event)).status == 204
        assert (await fork(client, "b", "/ds/sessions/s%201")).status == 201
        found = await get(client, "b")
        assert [e["type"] for e in found.json] == ["user.message"]


async def test_4_2_the_source_is_a_path_as_it_is_sent(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "%C3%A9/a%2Fb", b"x")
        assert (await fork(client, "b", at("%c3%a9/a%2fb"))).status == 201
        assert (await fork(client, "c", at("é/a%2Fb").encode().decode("latin-1"))).status == 201
        assert (await fork(client, "d", at("%C3%A9/a/b"))).status == 404
        assert (await get(client, "b")).body == b"x"
