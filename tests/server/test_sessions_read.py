"""GET of a session's events: pages, filters, orders, caching, long-poll."""

from __future__ import annotations

import itertools
from pathlib import Path
from urllib.parse import quote

import pytest
import trio
import trio.testing

from tailrace_server.service import ServiceConfig
from tests.server.service_support import QUICK, Client, Got, serving

EVENTS = "/v1/sessions/s/events"


async def fill(client: Client, count: int, target: str = EVENTS, size: int = 0) -> None:
    """``count`` events numbered ``n``; every tenth has type ``rare``."""
    events = [
        {"type": "rare" if n % 10 == 0 else "common", "n": n, "pad": "x" * size}
        for n in range(count)
    ]
    assert (await client("POST", target, events)).status == 204


def numbers(found: Got) -> list[int]:
    assert found.status == 200, found.body
    return [event["n"] for event in found.json["data"]]


async def pages(client: Client, target: str, headers: dict[str, str] | None = None) -> list[Got]:
    """Every page of a listing."""
    found = [await client("GET", target, headers=headers or {})]
    while (token := found[-1].json["next_page"]) is not None:
        assert len(found) < 1000
        joint = "&" if "?" in target else "?"
        found.append(await client("GET", f"{target}{joint}page={token}", headers=headers or {}))
    return found


async def test_unknown_sessions_are_404(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for query in ("", "?q=a", "?order=desc", "?live=long-poll", "?live=sse", "?offset=now"):
            found = await client("GET", EVENTS + query)
            assert found.status == 404 and found.error[0] == "not_found_error", query
        assert (await client("GET", EVENTS + "/stream")).status == 404
        assert (await client("HEAD", EVENTS)).status == 404


async def test_5_6_headers_of_a_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 5)
        found = await client("GET", EVENTS)
        assert numbers(found) == [0, 1, 2, 3, 4]
        assert found.json["next_page"] is None
        assert found.headers["stream-next-offset"] == "00000005"
        assert found.headers["stream-up-to-date"] == "true"
        assert "stream-closed" not in found.headers
        assert found.headers["content-type"] == "application/json"
        assert found.headers["cache-control"].startswith("private")


@pytest.mark.parametrize(
    ("offset", "wanted"),
    [("-1", 0), ("00000000", 0), ("00000002", 2), ("00000005", 5), ("00000099", 5), ("now", 5)],
)
async def test_8_reads_start_at_the_offset(tmp_path: Path, offset: str, wanted: int) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 5)
        found = await client("GET", f"{EVENTS}?offset={offset}")
        assert numbers(found) == list(range(wanted, 5))
        assert found.headers["stream-next-offset"] == "00000005"
        assert found.headers["stream-up-to-date"] == "true"


async def test_8_now_is_not_cached_and_has_no_tag(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 5)
        found = await client("GET", EVENTS + "?offset=now")
        assert found.headers["cache-control"] == "no-store" and "etag" not in found.headers


async def test_5_6_closure_shows_only_at_the_end(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 5)
        await client("POST", EVENTS, b"", {"Stream-Closed": "true"})
        part = await client("GET", EVENTS + "?limit=2")
        assert "stream-closed" not in part.headers and "stream-up-to-date" not in part.headers
        for query in ("", "?offset=00000005", "?offset=now", "?order=desc"):
            found = await client("GET", EVENTS + query)
            assert found.headers["stream-closed"] == "true", query
            assert found.headers["stream-up-to-date"] == "true", query


async def test_5_5_head_tells_the_tail(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 5)
        found = await client("HEAD", EVENTS)
        assert found.status == 200 and found.body == b""
        assert found.headers["stream-next-offset"] == "00000005"
        assert found.headers["cache-control"] == "no-store"
        await client("POST", EVENTS, b"", {"Stream-Closed": "true"})
        assert (await client("HEAD", EVENTS)).headers["stream-closed"] == "true"


# --- pages


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("types", ["", "&type=rare", "&types[]=rare&types[]=common"])
async def test_pages_hold_every_event_once_in_order(
    tmp_path: Path, limit: int, order: str, types: str
) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 23)
        found = await pages(client, f"{EVENTS}?limit={limit}&order={order}{types}")
        wanted = [n for n in range(23) if types != "&type=rare" or n % 10 == 0]
        if order == "desc":
            wanted.reverse()
        assert list(itertools.chain.from_iterable(map(numbers, found))) == wanted
        assert all(len(numbers(page)) <= limit for page in found)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("types", ["", "&type=rare", "&type=none"])
async def test_pages_are_bounded_in_bytes_and_make_progress(
    tmp_path: Path, order: str, types: str
) -> None:
    config = ServiceConfig(read_bytes_max=2000)
    async with serving(tmp_path, config=config) as client:
        await fill(client, 300, size=100)
        found = await pages(client, f"{EVENTS}?order={order}{types}")
        wanted = [n for n in range(300) if not types or (types == "&type=rare" and n % 10 == 0)]
        if order == "desc":
            wanted.reverse()
        assert list(itertools.chain.from_iterable(map(numbers, found))) == wanted
        assert len(found) > 2
        assert all(len(page.body) < 2 * 2000 + 500 for page in found)


async def test_events_larger_than_a_page_are_still_read(tmp_path: Path) -> None:
    config = ServiceConfig(read_bytes_max=100)
    async with serving(tmp_path, config=config) as client:
        await fill(client, 5, size=1000)
        for order in ("asc", "desc"):
            found = await pages(client, f"{EVENTS}?order={order}")
            assert sorted(itertools.chain.from_iterable(map(numbers, found))) == [0, 1, 2, 3, 4]


async def test_the_last_events_cost_what_they_are(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for _ in range(10):
            await fill(client, 1000)
        reads = []
        read = client.store.read

        def counted(*args: object, **kwargs: object) -> object:
            result = read(*args, **kwargs)  # type: ignore[arg-type]
            reads.append(result.count)
            return result

        client.store.read = counted  # type: ignore[assignment]
        found = await client("GET", EVENTS + "?order=desc&limit=3")
        assert numbers(found) == [999, 998, 997]
        assert sum(reads) == 3


async def test_a_newest_first_page_says_where_to_go_on_live(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 10)
        first = await client("GET", EVENTS + "?order=desc&limit=4")
        assert first.headers["stream-next-offset"] == "00000010"
        assert first.headers["stream-up-to-date"] == "true"
        await fill(client, 1)
        token = first.json["next_page"]
        second = await client("GET", f"{EVENTS}?order=desc&limit=4&page={token}")
        # What came in between was on no page: the place to go on stays before it.
        assert numbers(second) == [5, 4, 3, 2]
        assert second.headers["stream-next-offset"] == "00000010"
        assert "stream-up-to-date" not in second.headers


async def test_offset_is_the_oldest_event_in_either_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 10)
        found = await client("GET", EVENTS + "?offset=00000006&order=desc")
        assert numbers(found) == [9, 8, 7, 6]


async def test_a_page_token_is_bound_to_its_session(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 10)
        await fill(client, 10, "/v1/sessions/other/events")
        token = (await client("GET", EVENTS + "?limit=2")).json["next_page"]
        down = (await client("GET", EVENTS + "?limit=2&order=desc")).json["next_page"]
        for target in (
            f"/v1/sessions/other/events?page={token}",
            f"{EVENTS}?page={token[:-1]}",
            f"{EVENTS}?page={down}",
            f"{EVENTS}?order=desc&page={token}",
        ):
            found = await client("GET", target)
            assert found.status == 400 and found.error[1].startswith("page: "), target
        await client("DELETE", "/v1/sessions/s")
        await fill(client, 10)
        assert (await client("GET", f"{EVENTS}?page={token}")).status == 400


async def test_created_at_selects_a_run_of_events(tmp_path: Path) -> None:
    clock = [1_000_000]
    async with serving(tmp_path, now_ms=lambda: clock[0]) as client:
        for n in range(40):
            clock[0] = 1_000_000 + 1000 * (n // 2)
            await client("POST", EVENTS, {"type": "x", "n": n})
        clock[0] += 10_000_000
        at = {n: e["created_at"] for n, e in enumerate((await client("GET", EVENTS)).json["data"])}
        for name, wanted in (
            ("gt", range(22, 40)),
            ("gte", range(20, 40)),
            ("lt", range(20)),
            ("lte", range(22)),
        ):
            query = f"?created_at[{name}]={at[20]}"
            assert numbers(await client("GET", EVENTS + query)) == list(wanted)
            down = await pages(client, f"{EVENTS}{query}&order=desc&limit=7")
            assert list(itertools.chain.from_iterable(map(numbers, down))) == [*reversed(wanted)]
            up = await pages(client, f"{EVENTS}{query}&limit=7")
            assert list(itertools.chain.from_iterable(map(numbers, up))) == list(wanted)
        both = f"?created_at[gte]={at[10]}&created_at[lt]={at[30]}"
        found = await client("GET", EVENTS + both)
        assert numbers(found) == list(range(10, 30))
        assert found.headers["stream-next-offset"] == "00000030"
        assert "stream-up-to-date" not in found.headers
        nothing = f"?created_at[gt]={at[10]}&created_at[lt]={at[10]}"
        assert numbers(await client("GET", EVENTS + nothing)) == []


# --- caching (protocol section 10.1)


async def test_10_1_an_unchanged_page_is_304(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 5)
        for query in ("", "?limit=2", "?order=desc", "?type=rare", "?offset=00000005"):
            first = await client("GET", EVENTS + query)
            tag = {"If-None-Match": first.headers["etag"]}
            again = await client("GET", EVENTS + query, headers=tag)
            assert again.status == 304, query
            for name in ("etag", "cache-control", "vary", "stream-next-offset"):
                assert again.headers[name] == first.headers[name]
            assert "content-type" not in again.headers
        assert (await client("GET", EVENTS, headers={"If-None-Match": '"x"'})).status == 200


async def test_10_1_data_closure_and_incarnation_change_the_tag(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 5)
        tags = [(await client("GET", EVENTS)).headers["etag"]]
        await fill(client, 1)
        tags.append((await client("GET", EVENTS)).headers["etag"])
        await client("POST", EVENTS, b"", {"Stream-Closed": "true"})
        tags.append((await client("GET", EVENTS)).headers["etag"])
        await client("DELETE", "/v1/sessions/s")
        await fill(client, 5)
        tags.append((await client("GET", EVENTS)).headers["etag"])
        assert len(set(tags)) == 4


async def test_10_1_a_full_page_at_the_tail_changes_when_more_follows(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 5)
        before = await client("GET", EVENTS + "?limit=5")
        await fill(client, 1)
        tag = {"If-None-Match": before.headers["etag"]}
        after = await client("GET", EVENTS + "?limit=5", headers=tag)
        assert after.status == 200 and after.json["next_page"] is not None


async def test_10_1_only_what_can_never_change_is_kept_unchecked(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 9)
        first = await client("GET", EVENTS + "?limit=3")
        second = await client("GET", f"{EVENTS}?limit=3&page={first.json['next_page']}")
        third = await client("GET", f"{EVENTS}?limit=3&page={second.json['next_page']}")
        assert "max-age=60" in second.headers["cache-control"]
        for page in (first, third):
            assert page.headers["cache-control"] == "private, no-cache"


# --- long-poll (protocol section 5.7)


async def test_5_7_data_that_is_there_comes_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 5)
        found = await client("GET", EVENTS + "?live=long-poll&offset=00000003")
        assert numbers(found) == [3, 4]
        assert int(found.headers["stream-cursor"]) > 0 and "etag" in found.headers
        part = await client("GET", EVENTS + "?live=long-poll&offset=-1&limit=2")
        assert numbers(part) == [0, 1] and "stream-up-to-date" not in part.headers


async def test_5_7_nothing_in_time_is_204(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 5)
        for offset in ("00000005", "now", "00000099"):
            found = await client("GET", f"{EVENTS}?live=long-poll&offset={offset}")
            assert found.status == 204
            assert found.headers["stream-next-offset"] == "00000005"
            assert found.headers["stream-up-to-date"] == "true"
            assert found.headers["cache-control"] == "no-store"
            assert int(found.headers["stream-cursor"]) > 0


async def test_10_1_the_live_cursor_always_advances(tmp_path: Path) -> None:
    config = ServiceConfig(long_poll_timeout_s=0.01)
    async with serving(tmp_path, config=config) as client:
        await fill(client, 1)
        cursor = 0
        for _ in range(4):
            found = await client("GET", f"{EVENTS}?live=long-poll&offset=now&cursor={cursor}")
            assert int(found.headers["stream-cursor"]) > cursor
            cursor = int(found.headers["stream-cursor"])


@pytest.mark.parametrize("query", ["offset=now", "offset=00000005", "offset=now&type=late"])
async def test_5_7_data_that_comes_ends_the_wait(tmp_path: Path, query: str) -> None:
    config = ServiceConfig(long_poll_timeout_s=30)
    async with serving(tmp_path, config=config) as client:
        await fill(client, 5)
        answers: list[Got] = []

        async def poll() -> None:
            answers.append(await client("GET", f"{EVENTS}?live=long-poll&{query}"))

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poll)
                await trio.testing.wait_all_tasks_blocked()
                await client("POST", EVENTS, {"type": "late", "n": 5})
        (found,) = answers
        assert numbers(found) == [5]
        assert found.headers["stream-next-offset"] == "00000006"


async def test_5_7_a_filtered_wait_advances_past_other_events(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await fill(client, 5)

        async def poll() -> None:
            offset = "now"
            while offset != "00000007":  # whose wait is over before a slow disk has both goes on
                query = f"live=long-poll&offset={offset}&type=none"
                found = await client("GET", f"{EVENTS}?{query}")
                assert found.status == 204
                offset = found.headers["stream-next-offset"]

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poll)
                await trio.testing.wait_all_tasks_blocked()
                await fill(client, 2)


async def test_5_7_a_closed_stream_answers_at_once(tmp_path: Path) -> None:
    config = ServiceConfig(long_poll_timeout_s=30)
    async with serving(tmp_path, config=config) as client:
        await fill(client, 5)
        answers: list[Got] = []

        async def poll() -> None:
            answers.append(await client("GET", f"{EVENTS}?live=long-poll&offset=now"))

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poll)
                await trio.testing.wait_all_tasks_blocked()
                await client("POST", EVENTS, b"", {"Stream-Closed": "true"})
            await poll()
            data = await client("GET", f"{EVENTS}?live=long-poll&offset=00000004")
        assert data.status == 200 and data.headers["stream-closed"] == "true"
        for found in answers:
            assert found.status == 204
            assert found.headers["stream-closed"] == "true"
            assert found.headers["stream-up-to-date"] == "true"
            assert found.headers["stream-next-offset"] == "00000005"
            assert "stream-cursor" not in found.headers


async def test_a_deleted_session_ends_the_wait_with_404(tmp_path: Path) -> None:
    config = ServiceConfig(long_poll_timeout_s=30)
    async with serving(tmp_path, config=config) as client:
        await fill(client, 5)
        answers: list[Got] = []

        async def poll() -> None:
            answers.append(await client("GET", f"{EVENTS}?live=long-poll&offset=now"))

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poll)
                await trio.testing.wait_all_tasks_blocked()
                await client("DELETE", "/v1/sessions/s")
        assert answers[0].status == 404


async def test_session_ids_of_every_kind(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        names = ["a/b", "ü😀", "a b", "100%", "..", "x" * 122, "a?b#c", "events"]
        for name in names:
            target = f"/v1/sessions/{quote(name, safe='')}/events"
            await fill(client, 1, target)
            assert numbers(await client("GET", target)) == [0], name
        listed = await client("GET", "/v1/sessions")
        assert {session["id"] for session in listed.json["data"]} == set(names)
        for raw in ("%", "%zz", "%ff", "a%00b", "%0a", "x" * 123, "%C3%BC" * 62):
            for method in ("GET", "POST"):
                found = await client(method, f"/v1/sessions/{raw}/events", b"{}")
                assert found.status == 400, raw
                assert found.error[1].startswith("session id: ")
        # An encoded slash and a real one are different paths.
        assert (await client("GET", "/v1/sessions/a/b/events")).status == 404


async def test_event_that_are_no_objects_pass_unfiltered(tmp_path: Path) -> None:
    """A session is a stream: another surface may write any JSON into it."""
    async with serving(tmp_path, config=QUICK) as client:
        await fill(client, 1)
        client.store.append(("sessions", "s"), [b"17", b'"x"', b'{"type":"rare","n":9}'])
        found = await client("GET", EVENTS)
        assert found.json["data"][1:3] == [17, "x"]
        managed = await client("GET", EVENTS + "?beta=true")
        assert managed.json["data"][1:3] == [17, "x"]
        assert numbers(await client("GET", EVENTS + "?type=rare")) == [0, 9]


async def test_a_stream_of_another_type_is_no_session(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        client.store.create(("sessions", "s"), content_type="text/plain", records=[b"x"])
        for query in ("", "?q=x", "?live=sse", "?live=long-poll", "?order=desc"):
            found = await client("GET", EVENTS + query)
            assert found.status == 409
            assert "text/plain" in found.error[1]
        assert (await client("POST", EVENTS, {"type": "x"})).status == 409
        assert (await client("GET", "/v1/sessions")).json["data"] == []
