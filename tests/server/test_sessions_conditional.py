"""Optimistic concurrency on a session: ``If-Match`` and ``Stream-Expected-Offset``."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.server.service_support import Client, Got, serving
from tests.server.streams.stream_support import CLOSE, producer

EVENTS = "/v1/sessions/s1/events"
EVENT = {"type": "user.message"}


async def post(
    client: Client, tag: str, headers: dict[str, str] | None = None, *, empty: bool = False
) -> Got:
    body: object = b"" if empty else EVENT
    return await client("POST", EVENTS, body, {"if-match": tag} | (headers or {}))


async def count(client: Client) -> int:
    return len((await client("GET", EVENTS)).json["data"])


async def test_if_match_appends_to_the_tail_it_names_only(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        first = await client("POST", EVENTS, EVENT)
        tag = first.headers["etag"]
        second = await post(client, tag)
        assert second.status == 204 and second.headers["etag"] != tag
        late = await post(client, tag)
        assert late.status == 412 and late.error[0] == "precondition_failed"
        assert late.error[1].startswith("If-Match: ")
        assert late.headers["stream-next-offset"] == "00000002"
        assert (await post(client, second.headers["etag"])).status == 204
        assert await count(client) == 3


async def test_every_tag_of_the_whole_session_will_do(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("POST", EVENTS, [EVENT, EVENT])
        for method, target in (
            ("GET", EVENTS),
            ("GET", EVENTS + "?offset=00000001"),
            ("HEAD", "/ds/sessions/s1"),
            ("GET", "/ds/sessions/s1"),
        ):
            tag = (await client(method, target)).headers["etag"]
            assert (await post(client, tag)).status == 204
            assert (await post(client, tag)).status == 412


@pytest.mark.parametrize("query", ["?limit=1", "?type=user.message", "?order=desc"])
async def test_a_tag_of_less_than_the_session_matches_nothing(tmp_path: Path, query: str) -> None:
    async with serving(tmp_path) as client:
        await client("POST", EVENTS, [EVENT, EVENT])
        tag = (await client("GET", EVENTS + query)).headers["etag"]
        assert (await post(client, tag)).status == 412


async def test_with_if_match_no_session_is_made(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for tag in ("*", '"1:0:0"', '"x"'):
            assert (await post(client, tag)).status == 404
        assert (await client("GET", EVENTS)).status == 404
        await client("POST", EVENTS, EVENT)
        assert (await post(client, "*")).status == 204


async def test_if_match_is_of_one_incarnation(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        old = (await client("POST", EVENTS, EVENT)).headers["etag"]
        assert (await client("DELETE", "/v1/sessions/s1")).status == 204
        new = (await client("POST", EVENTS, EVENT)).headers["etag"]
        assert (await post(client, old)).status == 412
        assert (await post(client, f"{new}, {old}")).status == 204
        assert await count(client) == 2


async def test_a_repetition_and_a_closed_session_speak_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        tag = (await client("POST", EVENTS, EVENT)).headers["etag"]
        first = producer("p", 0, 0)
        assert (await post(client, tag, first)).status == 200
        assert (await post(client, tag, first)).status == 204
        assert (await post(client, tag, CLOSE, empty=True)).status == 412
        closed = await post(client, "*", CLOSE, empty=True)
        assert closed.status == 204 and closed.headers["etag"].endswith(':c"')
        assert (await post(client, tag)).status == 409
        assert await count(client) == 2


async def test_if_match_and_expected_offset_exclude_each_other(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        refused = await post(client, "*", {"stream-expected-offset": "-1"})
        assert refused.status == 400 and refused.error[1].startswith("If-Match: ")


async def test_managed_agents_clients_get_the_tag_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        managed = {"anthropic-beta": "managed-agents-2025-01-01"}
        first = await client("POST", EVENTS, EVENT, managed)
        again = await post(client, first.headers["etag"], managed)
        assert again.status == 200 and len(again.json["data"]) == 1
        assert (await post(client, first.headers["etag"], managed)).status == 412


async def test_of_writers_with_one_tag_one_wins(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        tag = (await client("POST", EVENTS, EVENT)).headers["etag"]
        found: list[int] = []

        async def write() -> None:
            found.append((await post(client, tag)).status)

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(write)
        assert sorted(found) == [204] + [412] * 7
        assert await count(client) == 2
