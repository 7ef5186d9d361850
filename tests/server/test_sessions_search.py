"""Search through HTTP: within one session, over all, and by rights."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

import pytest

import tailrace
from tailrace_server.keys import Key, Right
from tests.server.service_support import Client, Got, serving


async def say(
    client: Client, session: str, *texts: str, kind: str = "user.message", key: str = "root"
) -> None:
    events = [{"type": kind, "content": [{"type": "text", "text": text}]} for text in texts]
    sent = await client(
        "POST", f"/v1/sessions/{quote(session, safe='')}/events", events, {"x-api-key": key}
    )
    assert sent.status == 204


def texts(found: Got) -> list[str]:
    assert found.status == 200, found.body
    return [event["content"][0]["text"] for event in found.json["data"]]


async def test_step_5_of_the_quickstart(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await say(client, "s", "Generate 20 fibonacci numbers and save to fib.txt")
        await say(client, "s", "writing fibonacci numbers", "unrelated", kind="agent.tool_use")
        found = await client("GET", "/v1/sessions/s/events?q=fibonacci")
        assert len(texts(found)) == 2
        scores = [event["score"] for event in found.json["data"]]
        assert scores == sorted(scores, reverse=True) and scores[-1] > 0
        assert found.headers["stream-next-offset"] == "00000003"
        found = await client("GET", "/v1/sessions/s/events?q=fibonacci&type=agent.tool_use")
        assert texts(found) == ["writing fibonacci numbers"]
        assert {"id", "offset", "created_at", "type", "score"} <= set(found.json["data"][0])


async def test_an_event_is_found_as_soon_as_it_is_acknowledged(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for n in range(30):
            await say(client, "s", f"needle{n} in the hay")
            assert len(texts(await client("GET", f"/v1/sessions/s/events?q=needle{n}"))) == 1
    async with serving(tmp_path) as client:
        for n in range(30):
            assert len(texts(await client("GET", f"/v1/sessions/s/events?q=needle{n}"))) == 1


async def test_one_sessions_search_sees_no_other(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await say(client, "a", "shared word")
        await say(client, "b", "shared word", "shared again")
        assert len(texts(await client("GET", "/v1/sessions/a/events?q=shared"))) == 1
        alone = (await client("GET", "/v1/sessions/a/events?q=shared")).json["data"][0]["score"]
        for n in range(20):
            await say(client, "b", f"shared {n}")
        after = (await client("GET", "/v1/sessions/a/events?q=shared")).json["data"][0]["score"]
        assert after == alone


@pytest.mark.parametrize(
    "query",
    [
        "",
        "%22",
        "%22unbalanced",
        "a'b",
        "POL-358",
        "example.com",
        "*",
        "(",
        "AND",
        "%00",
        "%0A",
        "a%20-b",
        "%F0%9F%98%80",
        "[[",
        "~",
        "%5C",
        "fib.txt",
    ],
)
async def test_no_query_is_an_error(tmp_path: Path, query: str) -> None:
    async with serving(tmp_path) as client:
        await say(client, "s", "text")
        assert (await client("GET", f"/v1/sessions/s/events?q={query}")).status == 200
        assert (await client("GET", f"/v1/search?q={query}")).status == 200


async def test_limit_and_times_compose_with_search(tmp_path: Path) -> None:
    clock = [1_000_000]
    async with serving(tmp_path, now_ms=lambda: clock[0]) as client:
        for n in range(10):
            clock[0] += 1000
            await say(client, "s", f"word {n}")
        events = (await client("GET", "/v1/sessions/s/events")).json["data"]
        target = "/v1/sessions/s/events?q=word"
        assert len(texts(await client("GET", target + "&limit=3"))) == 3
        since = events[7]["created_at"]
        found = await client("GET", f"{target}&created_at[gte]={since}")
        assert sorted(texts(found)) == ["word 7", "word 8", "word 9"]
        found = await client("GET", f"{target}&created_at[lte]={since}&limit=100")
        assert len(texts(found)) == 8
        found = await client("GET", f"/v1/search?q=word&created_at[gt]={since}")
        assert sorted(texts(found)) == ["word 8", "word 9"]


async def test_search_over_sessions(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await say(client, "a/1", "fibonacci numbers", "other")
        await say(client, "a/2", "the fibonacci numbers of fibonacci")
        await say(client, "b", "fibonacci", kind="agent.message")
        found = await client("GET", "/v1/search?q=fibonacci")
        assert {event["session_id"] for event in found.json["data"]} == {"a/1", "a/2", "b"}
        assert found.json["total"] == 3
        for event in found.json["data"]:
            assert event["score"] > 0 and "fibonacci" in event["snippet"].lower()
            assert {"id", "offset", "created_at", "type"} <= set(event)
        hits = {entry["session_id"]: entry["hits"] for entry in found.json["sessions"]}
        assert hits == {"a/1": 1, "a/2": 1, "b": 1}
        for query, wanted in (
            ("&session=b", {"b"}),
            ("&session=a/*", {"a/1", "a/2"}),
            ("&session=b&session=a/1", {"b", "a/1"}),
            ("&session=*", {"a/1", "a/2", "b"}),
            ("&session=none", set()),
            ("&session=none*", set()),
            ("&type=agent.message", {"b"}),
        ):
            found = await client("GET", "/v1/search?q=fibonacci" + query)
            assert found.status == 200
            assert {event["session_id"] for event in found.json["data"]} == wanted, query
        limited = await client("GET", "/v1/search?q=fibonacci&limit=1")
        assert len(limited.json["data"]) == 1 and len(limited.json["sessions"]) == 3


async def test_deleted_sessions_are_not_found(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await say(client, "a", "secret word")
        await client("DELETE", "/v1/sessions/a")
        assert (await client("GET", "/v1/search?q=secret")).json["data"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "q"),
        ("q=a&q=b", "q"),
        ("q=a&limit=0", "limit"),
        ("q=a&session=", "session"),
        ("q=a&session=a%00", "session"),
        ("q=" + "x" * 5000, "q"),
    ],
)
async def test_bad_search_parameters_are_400(tmp_path: Path, query: str, field: str) -> None:
    async with serving(tmp_path) as client:
        found = await client("GET", f"/v1/search?{query}")
        assert found.status == 400 and found.error[1].startswith(field)


async def test_a_forks_search_covers_what_it_inherited(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await say(client, "s", "alpha one", "alpha two")
        await client("POST", "/v1/sessions/s/fork", {"id": "f", "offset": "00000001"})
        await say(client, "f", "alpha three")
        found = await client("GET", "/v1/sessions/f/events?q=alpha")
        assert sorted(texts(found)) == ["alpha one", "alpha three"]


KEYS = (
    Key("root"),
    Key("team", frozenset({Right.READ, Right.APPEND}), ("team-*", "shared")),
    Key("writer", frozenset({Right.APPEND})),
)


async def test_search_and_listing_show_what_the_key_may_read(tmp_path: Path) -> None:
    async with serving(tmp_path, keys=KEYS) as client:
        for name in ("team-1", "team-2", "shared", "other", "shared2"):
            await say(client, name, f"word in {name}")
        for key, wanted in (
            ("root", {"team-1", "team-2", "shared", "other", "shared2"}),
            ("team", {"team-1", "team-2", "shared"}),
            ("writer", set()),
        ):
            headers = {"x-api-key": key}
            found = await client("GET", "/v1/search?q=word", headers=headers)
            assert {event["session_id"] for event in found.json["data"]} == wanted
            assert {entry["session_id"] for entry in found.json["sessions"]} == wanted
            for query in ("", "?order=desc", "?limit=1"):
                listed = await client("GET", "/v1/sessions" + query, headers=headers)
                assert {s["id"] for s in listed.json["data"]} <= wanted
        for scope, wanted in (
            ("team-*", {"team-1", "team-2"}),
            ("team-1", {"team-1"}),
            ("t*", {"team-1", "team-2"}),
            ("shared*", {"shared"}),
            ("other", set()),
            ("*", {"team-1", "team-2", "shared"}),
        ):
            found = await client(
                "GET", f"/v1/search?q=word&session={scope}", headers={"x-api-key": "team"}
            )
            assert {event["session_id"] for event in found.json["data"]} == wanted, scope


@pytest.mark.parametrize("indexed", [True, False])
async def test_a_search_that_meets_damage_says_what_it_misses(
    tmp_path: Path, indexed: bool
) -> None:
    options = tailrace.Options(segment_bytes=64 * 1024)
    filler = "x" * 1000
    async with serving(tmp_path, options=options) as client:
        for n in range(150):
            await say(client, f"s{n % 3}", f"shared number{n} {filler}")
    segment = tmp_path / "log" / f"{1:016x}.segment"
    content = bytearray(segment.read_bytes())
    n = int(re.findall(rb"number(\d+) ", content)[20])
    content[content.find(b"number%d " % n)] ^= 1
    segment.write_bytes(content)
    if not indexed:
        for file in (tmp_path / "search").iterdir():
            file.unlink()
    missed = {
        "session_id": f"s{n % 3}",
        "offset": f"{n // 3:08}",
        "next_offset": f"{n // 3 + 1:08}",
    }
    async with serving(tmp_path, options=options) as client:
        found = await client("GET", "/v1/search?q=shared&limit=1000")
        assert found.status == 200
        assert found.json["damaged"] == [missed]
        assert len(found.json["data"]) == 149
        found = await client("GET", f"/v1/sessions/s{n % 3}/events?q=shared&limit=1000")
        assert found.json["damaged"] == [missed]
        assert len(texts(found)) == 49
        whole = await client("GET", f"/v1/sessions/s{(n + 1) % 3}/events?q=shared&limit=1000")
        assert len(texts(whole)) == 50
        assert "damaged" not in whole.json
        assert "damaged" not in (await client("GET", "/v1/search?q=shared&session=t*")).json
