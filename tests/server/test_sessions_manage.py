"""Sessions themselves: list, look at, describe, delete, fork."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.server.service_support import Client, serving

EVENTS = "/v1/sessions/s/events"


async def create(client: Client, name: str, count: int = 1) -> None:
    events = [{"type": "x", "n": n} for n in range(count)]
    assert (await client("POST", f"/v1/sessions/{name}/events", events)).status == 204


async def names(client: Client, query: str = "") -> list[str]:
    """Every session of a listing, over all its pages."""
    found: list[str] = []
    token = ""
    while True:
        page = await client("GET", f"/v1/sessions?{query}{token}")
        assert page.status == 200, page.body
        found += [session["id"] for session in page.json["data"]]
        if page.json["next_page"] is None:
            return found
        token = f"&page={page.json['next_page']}"


async def test_a_session_tells_what_it_holds(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client, "s", 3)
        events = (await client("GET", EVENTS)).json["data"]
        found = (await client("GET", "/v1/sessions/s")).json
        assert found == {
            "id": "s",
            "type": "session",
            "created_at": events[0]["created_at"],
            "last_event_at": events[-1]["created_at"],
            "event_count": 3,
            "next_offset": "00000003",
            "closed": False,
            "title": None,
            "metadata": {},
            "forked_from": None,
        }
        await client("POST", EVENTS, b"", {"Stream-Closed": "true"})
        assert (await client("GET", "/v1/sessions/s")).json["closed"] is True


async def test_unknown_sessions_are_404_with_one_text(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        bodies = set()
        for method, target, body in (
            ("GET", "/v1/sessions/s", b""),
            ("POST", "/v1/sessions/s", b'{"title":"t"}'),
            ("DELETE", "/v1/sessions/s", b""),
            ("POST", "/v1/sessions/s/fork", b'{"id":"f"}'),
            ("GET", EVENTS, b""),
            ("POST", EVENTS, b""),
        ):
            headers = {"Stream-Closed": "true"} if not body else {}
            found = await client(method, target, body, headers)
            assert found.status == 404, (method, target)
            bodies.add(found.body)
        assert len(bodies) == 1


async def test_listing_by_id_in_both_directions(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for name in ("b", "d", "a", "e", "c"):
            await create(client, name)
        for limit in (1, 2, 3, 5, 100):
            assert await names(client, f"limit={limit}") == ["a", "b", "c", "d", "e"]
            down = await names(client, f"limit={limit}&sort=id&order=desc")
            assert down == ["e", "d", "c", "b", "a"]
        assert await names(client, "prefix=c") == ["c"]


async def test_listing_newest_first(tmp_path: Path) -> None:
    clock = [1_000_000]
    async with serving(tmp_path, now_ms=lambda: clock[0]) as client:
        for name in ("b", "d", "a", "e", "c"):
            clock[0] += 1000
            await create(client, name)
        for limit in (1, 2, 3, 5, 100):
            assert await names(client, f"limit={limit}&order=desc") == ["c", "e", "a", "d", "b"]
            up = await names(client, f"limit={limit}&sort=created_at&order=asc")
            assert up == ["b", "d", "a", "e", "c"]
        since = (await client("GET", "/v1/sessions/a")).json["created_at"]
        assert await names(client, f"created_at[gte]={since}") == ["a", "c", "e"]
        assert await names(client, f"order=desc&created_at[lt]={since}") == ["d", "b"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("order=x", "order"),
        ("sort=x", "sort"),
        ("page=x", "page"),
        ("created_at[gt]=x", "created_at"),
    ],
)
async def test_bad_listing_parameters_are_400(tmp_path: Path, query: str, field: str) -> None:
    async with serving(tmp_path) as client:
        found = await client("GET", f"/v1/sessions?{query}")
        assert found.status == 400 and found.error[1].startswith(field)


async def test_a_listing_token_fits_one_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for name in "abc":
            await create(client, name)
        token = (await client("GET", "/v1/sessions?limit=1")).json["next_page"]
        found = await client("GET", f"/v1/sessions?limit=1&order=desc&page={token}")
        assert found.status == 400 and found.error[1].startswith("page: ")


async def test_title_and_metadata_are_merged_and_survive(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client, "s")
        sent = b'{"title":"T","metadata":{"a":1,"b":{"c":[]}}}'
        first = await client("POST", "/v1/sessions/s", sent)
        assert first.status == 200
        assert (first.json["title"], first.json["metadata"]) == ("T", {"a": 1, "b": {"c": []}})
        second = await client(
            "POST", "/v1/sessions/s", b'{"metadata":{"a":null,"n":12345678901234567890123}}'
        )
        assert second.json["title"] == "T"
        assert second.json["metadata"] == {"b": {"c": []}, "n": 12345678901234567890123}
        third = await client("POST", "/v1/sessions/s", {"title": None})
        assert third.json["title"] is None and third.json["metadata"]["b"] == {"c": []}
        assert third.json["event_count"] == 1
    async with serving(tmp_path) as client:
        found = (await client("GET", "/v1/sessions/s")).json
        assert found["metadata"] == second.json["metadata"]
        cleared = await client("POST", "/v1/sessions/s", {"metadata": None})
        assert cleared.json["metadata"] == {}


async def test_concurrent_updates_all_count(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client, "s")
        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(client, "POST", "/v1/sessions/s", {"metadata": {f"k{n}": n}})
        found = (await client("GET", "/v1/sessions/s")).json
        assert found["metadata"] == {f"k{n}": n for n in range(20)}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"title":5}', 400),
        (b'{"metadata":[]}', 400),
        (b'{"metadata":"x"}', 400),
        (b'{"title":"\xff"}', 400),
        (b'{"metadata":' + b'{"a":' * 500 + b"1" + b"}" * 501, 400),
        (b'{"title":"' + b"x" * 2000 + b'"}', 400),
        (b'{"metadata":{"a":"' + b"x" * 20_000 + b'"}}', 413),
    ],
)
async def test_bad_updates_change_nothing(tmp_path: Path, body: bytes, status: int) -> None:
    async with serving(tmp_path) as client:
        await create(client, "s")
        before = (await client("GET", "/v1/sessions/s")).json
        assert (await client("POST", "/v1/sessions/s", body)).status == status
        assert (await client("GET", "/v1/sessions/s")).json == before


async def test_deleting(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client, "s", 3)
        gone = await client("DELETE", "/v1/sessions/s")
        assert (gone.status, gone.body) == (204, b"")
        assert (await client("GET", EVENTS)).status == 404
        assert (await client("DELETE", "/v1/sessions/s")).status == 404
        await create(client, "s")
        assert (await client("GET", "/v1/sessions/s")).json["event_count"] == 1
        managed = await client("DELETE", "/v1/sessions/s?beta=true")
        assert managed.status == 200
        assert managed.json == {"id": "s", "type": "session_deleted"}


# --- forks (protocol section 4.2)


async def test_4_2_a_fork_shares_what_is_before_its_offset(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client, "s", 5)
        made = await client("POST", "/v1/sessions/s/fork", {"id": "f/1", "offset": "00000003"})
        assert made.status == 201
        assert made.headers["location"] == "/v1/sessions/f%2F1"
        assert made.headers["stream-next-offset"] == "00000003"
        assert made.json["forked_from"] == {"id": "s", "offset": "00000003"}
        target = "/v1/sessions/f%2F1/events"
        await client("POST", target, {"type": "x", "n": 99})
        await client("POST", EVENTS, {"type": "x", "n": 5})
        forked = (await client("GET", target)).json["data"]
        source = (await client("GET", EVENTS)).json["data"]
        assert [event["n"] for event in forked] == [0, 1, 2, 99]
        assert forked[:3] == source[:3] and forked[3]["offset"] == "00000003"
        again = await client("POST", "/v1/sessions/s/fork", {"id": "f/1", "offset": "00000003"})
        assert again.status == 200


@pytest.mark.parametrize("body", [b"", b"{}", b'{"offset":"now"}', b'{"offset":null}'])
async def test_4_2_a_fork_is_named_and_placed_by_default(tmp_path: Path, body: bytes) -> None:
    async with serving(tmp_path) as client:
        await create(client, "s", 5)
        made = await client("POST", "/v1/sessions/s/fork", body)
        assert made.status == 201 and made.json["event_count"] == 5
        assert made.json["id"] and made.json["id"] != "s"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "f", "offset": "00000009"}, 400),
        ({"id": "f", "offset": "x"}, 400),
        ({"id": ""}, 400),
        ({"id": "x" * 123}, 400),
        ({"id": "a\n"}, 400),
        ({"id": 5}, 400),
        ({"offset": 3}, 400),
        ({"id": "f", "title": 5}, 400),
        ({"id": "f", "title": "x" * 1001}, 400),
        ({"id": "f", "metadata": []}, 400),
        ({"id": "f", "metadata": {"k": "x" * 20_000}}, 413),
        ({"idd": "f"}, 400),
        ([], 400),
        ({"id": "taken"}, 409),
        ({"id": "s"}, 409),
    ],
)
async def test_4_2_a_refused_fork_leaves_nothing(tmp_path: Path, body: object, status: int) -> None:
    async with serving(tmp_path) as client:
        await create(client, "s", 5)
        await create(client, "taken", 1)
        assert (await client("POST", "/v1/sessions/s/fork", body)).status == status
        assert await names(client) == ["s", "taken"]
        # No reference is left behind either: the source goes for good.
        await client("DELETE", "/v1/sessions/s")
        assert (await client("GET", "/v1/sessions/s")).status == 404


async def test_a_fork_has_the_title_and_metadata_it_is_given(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client, "s", 2)
        await client("POST", "/v1/sessions/s", {"title": "source", "metadata": {"a": 1}})
        about = {"id": "f", "title": "try again", "metadata": {"b": [1], "gone": None}}
        made = await client("POST", "/v1/sessions/s/fork", about)
        assert made.status == 201
        assert (made.json["title"], made.json["metadata"]) == ("try again", {"b": [1]})
        bare = await client("POST", "/v1/sessions/s/fork", {})
        assert (bare.json["title"], bare.json["metadata"]) == (None, {})
        again = await client("POST", "/v1/sessions/s/fork", {"id": "f", "title": "other"})
        assert again.status == 200 and again.json["title"] == "try again"


@pytest.mark.parametrize(
    ("route", "body", "field"),
    [
        ("/fork", {"title": 5}, "title"),
        ("/fork", {"metadata": []}, "metadata"),
        ("/fork", {"id": 7}, "id"),
        ("/fork", {"idd": "x"}, "body"),
        ("", {"title": 5}, "title"),
        ("", {"metadata": "x"}, "metadata"),
    ],
)
async def test_a_value_of_the_wrong_type_is_named(
    tmp_path: Path, route: str, body: object, field: str
) -> None:
    async with serving(tmp_path) as client:
        await create(client, "s", 1)
        found = await client("POST", "/v1/sessions/s" + route, body)
        assert found.status == 400 and found.error[1].startswith(f"{field}: ")


async def test_4_2_an_id_in_use_is_named(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client, "s", 1)
        await create(client, "taken", 1)
        found = await client("POST", "/v1/sessions/s/fork", {"id": "taken"})
        assert found.status == 409 and found.error[1].startswith("id: ")
        beyond = await client("POST", "/v1/sessions/s/fork", {"offset": "00000009"})
        assert "00000009" in beyond.error[1] and "00000001" in beyond.error[1]


async def test_4_2_a_deleted_source_is_gone_but_its_fork_reads_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await create(client, "s", 5)
        await client("POST", "/v1/sessions/s/fork", {"id": "f"})
        assert (await client("DELETE", "/v1/sessions/s")).status == 204
        for method, target, body in (
            ("GET", EVENTS, b""),
            ("HEAD", EVENTS, b""),
            ("GET", EVENTS + "?live=sse", b""),
            ("POST", EVENTS, b'{"type":"x"}'),
            ("DELETE", "/v1/sessions/s", b""),
            ("GET", "/v1/sessions/s", b""),
        ):
            assert (await client(method, target, body)).status == 410, (method, target)
        assert len((await client("GET", "/v1/sessions/f/events")).json["data"]) == 5
        assert await names(client) == ["f"]
        assert (await client("DELETE", "/v1/sessions/f")).status == 204
        assert (await client("GET", EVENTS)).status == 404
