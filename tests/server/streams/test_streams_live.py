"""Live reads at ``/v1/stream/{path}`` (protocol sections 5.7, 5.8, 8 and 10)."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import trio
import trio.testing

from tailrace_server.config import ServiceConfig
from tests.server.service_support import Client, Got, Tail, serving
from tests.server.streams.stream_support import CLOSE, JSON, at, get, post, put

PATIENT = ServiceConfig(long_poll_timeout_s=100, sse_heartbeat_s=100, sse_lifetime_s=100)


async def waiting(client: Client, readers: int = 1) -> None:
    """Until so many live readers sleep."""
    with trio.fail_after(10):
        while client.service.context.hub.readers < readers:
            await trio.testing.wait_all_tasks_blocked()
    await trio.testing.wait_all_tasks_blocked()


async def poll_then(
    client: Client, path: str, query: str, body: bytes, headers: dict[str, str]
) -> Got:
    """A long-poll that waits, while something is appended."""
    found: list[Got] = []

    async def poll() -> None:
        found.append(await get(client, path, f"{query}&live=long-poll"))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            await waiting(client)
            assert not found
            await post(client, path, body, headers)
    return found[0]


async def test_5_7_data_that_is_there_is_given_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, config=PATIENT) as client:
        await put(client, "a", b"one")
        found = await get(client, "a", "offset=-1&live=long-poll")
        assert found.status == 200 and found.body == b"one"
        assert found.headers["stream-next-offset"] == "00000001"
        assert found.headers["stream-up-to-date"] == "true"
        assert int(found.headers["stream-cursor"]) > 0
        assert found.headers["etag"]


@pytest.mark.parametrize("offset", ["now", "00000001"])
async def test_5_7_8_a_poll_at_the_tail_waits_for_data(tmp_path: Path, offset: str) -> None:
    async with serving(tmp_path, config=PATIENT) as client:
        await put(client, "a", b"[1]", JSON)
        found = await poll_then(client, "a", f"offset={offset}", b"2", JSON)
        assert found.status == 200 and found.body == b"[2]"
        assert found.headers["stream-next-offset"] == "00000002"


async def test_5_7_nothing_new_is_204(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await put(client, "a", b"one")
        found = await get(client, "a", "offset=now&live=long-poll&cursor=999999999")
        assert found.status == 204
        assert found.headers["stream-next-offset"] == "00000001"
        assert found.headers["stream-up-to-date"] == "true"
        assert found.headers["cache-control"] == "no-store"
        assert int(found.headers["stream-cursor"]) > 999999999


@pytest.mark.parametrize("offset", ["now", "00000001"])
async def test_5_7_the_end_of_a_closed_stream_is_not_waited_for(
    tmp_path: Path, offset: str
) -> None:
    async with serving(tmp_path, config=PATIENT) as client:
        await put(client, "a", b"one", CLOSE)
        with trio.fail_after(10):
            found = await get(client, "a", f"offset={offset}&live=long-poll")
        assert found.status == 204
        assert found.headers["stream-closed"] == found.headers["stream-up-to-date"] == "true"
        assert found.headers["stream-next-offset"] == "00000001"


async def test_5_7_a_close_ends_the_wait(tmp_path: Path) -> None:
    async with serving(tmp_path, config=PATIENT) as client:
        await put(client, "a")
        found = await poll_then(client, "a", "offset=now", b"", CLOSE)
        assert found.status == 204 and found.headers["stream-closed"] == "true"
        await put(client, "b")
        found = await poll_then(client, "b", "offset=now", b"last", CLOSE)
        assert found.status == 200 and found.body == b"last"
        assert found.headers["stream-closed"] == "true"


async def test_5_7_a_fork_waits_for_its_own_appends_only(tmp_path: Path) -> None:
    async with serving(tmp_path, config=PATIENT) as client:
        await put(client, "a", b"one")
        await put(client, "b", b"", {"stream-forked-from": at("a")})
        inherited = await get(client, "b", "offset=-1&live=long-poll")
        assert inherited.status == 200 and inherited.body == b"one"
        found: list[Got] = []

        async def poll() -> None:
            found.append(await get(client, "b", "offset=00000001&live=long-poll"))

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poll)
                await waiting(client)
                await post(client, "a", b"not this")
                await trio.testing.wait_all_tasks_blocked()
                assert not found
                await post(client, "b", b"this")
        assert found[0].body == b"this"


async def test_5_7_a_delete_ends_the_wait_with_404(tmp_path: Path) -> None:
    async with serving(tmp_path, config=PATIENT) as client:
        await put(client, "a")
        found: list[Got] = []

        async def poll() -> None:
            found.append(await get(client, "a", "offset=now&live=long-poll"))

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poll)
                await waiting(client)
                await client("DELETE", at("a"))
                # The stream that takes its name is another one.
                await put(client, "a", b"not yours")
        assert found[0].status == 404


async def test_5_1_a_waiting_reader_keeps_a_ttl_alive(tmp_path: Path) -> None:
    now_ms = 1_000_000
    async with serving(tmp_path, now_ms=lambda: now_ms) as client:
        await put(client, "a", b"", {"stream-ttl": "100"})
        for live in ("long-poll", "sse"):
            now_ms += 99_000
            if live == "sse":
                await (await client.tail(at("a") + "?offset=now&live=sse")).next()
            else:
                await get(client, "a", "offset=now&live=long-poll")
            await put(client, f"after-{live}")  # the renewal is in the log before it
        now_ms += 99_000
        assert (await client("HEAD", at("a"))).status == 200


async def opened(client: Client, path: str, query: str) -> Tail:
    return await client.tail(f"{at(path)}?{query}&live=sse")


async def test_5_8_data_then_control(tmp_path: Path) -> None:
    async with serving(tmp_path, config=PATIENT) as client:
        await put(client, "a", b"[1,2]", JSON)
        tail = await opened(client, "a", "offset=-1")
        assert tail.headers["content-type"] == "text/event-stream"
        assert tail.headers["cache-control"] == "no-cache, no-transform"
        assert "stream-sse-data-encoding" not in tail.headers
        data, control = await tail.next(), await tail.next()
        assert (data.name, data.json) == ("data", [1, 2])
        assert control.name == "control"
        assert control.json["streamNextOffset"] == "00000002"
        assert control.json["upToDate"] is True
        assert int(control.json["streamCursor"]) > 0
        await post(client, "a", b"3", JSON)
        assert (await tail.next()).json == [3]
        assert (await tail.next()).json["streamNextOffset"] == "00000003"
        await post(client, "a", b"", CLOSE)
        last = await tail.next()
        assert last.json == {
            "streamNextOffset": "00000003", "upToDate": True, "streamClosed": True
        }  # fmt: skip
        await tail.end()


@pytest.mark.parametrize("offset", ["now", "00000001"])
async def test_8_5_8_the_tail_is_told_at_once(tmp_path: Path, offset: str) -> None:
    async with serving(tmp_path, config=PATIENT) as client:
        await put(client, "a", b"one")
        tail = await opened(client, "a", f"offset={offset}")
        control = await tail.next()
        assert control.json["streamNextOffset"] == "00000001"
        assert control.json["upToDate"] is True
        await put(client, "closed", b"one", CLOSE)
        tail = await opened(client, "closed", f"offset={offset}")
        await tail.end()
        (control,) = tail.events()
        assert control.json == {
            "streamNextOffset": "00000001", "upToDate": True, "streamClosed": True
        }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["line1\nline2", " two  spaces\n three", "a\r\n\r\nevent: control\r\ndata: {}\r\n\r\nb",
     "\rid: 9\r", "\n\n", "é\u2028\u2029\u0085\ufeff"],
)  # fmt: skip
async def test_5_8_no_text_breaks_a_frame(tmp_path: Path, text: str) -> None:
    async with serving(tmp_path, config=PATIENT) as client:
        await put(client, "a", text.encode())
        tail = await opened(client, "a", "offset=-1")
        data, control = await tail.next(), await tail.next()
        assert data.name == "data"
        assert data.data == text.replace("\r\n", "\n").replace("\r", "\n")
        assert control.name == "control"


@pytest.mark.parametrize(
    ("content_type", "encoded"),
    [
        ("application/octet-stream", True),
        ("application/x-protobuf", True),
        ("application/vnd.x+json", True),
        ("image/png", True),
        ("text/event-stream", False),
        ("Text/HTML; charset=utf-8", False),
        ("application/json; charset=utf-8", False),
    ],
)
async def test_5_8_what_is_no_text_is_base64(
    tmp_path: Path, content_type: str, encoded: bool
) -> None:
    async with serving(tmp_path, config=PATIENT) as client:
        body = b"[7]" if "json;" in content_type else bytes(range(32, 127))
        await put(client, "a", body, {"content-type": content_type})
        tail = await opened(client, "a", "offset=-1")
        assert tail.headers.get("stream-sse-data-encoding") == ("base64" if encoded else None)
        data = await tail.next()
        if encoded:
            assert base64.b64decode(data.data, validate=True) == body
        elif "json;" in content_type:
            assert data.json == [7]
        else:
            assert data.data == body.decode()
        assert (await tail.next()).json["streamNextOffset"] == "00000001"


async def test_5_8_a_browser_goes_on_after_the_last_event_it_saw(tmp_path: Path) -> None:
    async with serving(tmp_path, config=PATIENT) as client:
        await put(client, "a", b"[1,2]", JSON)
        tail = await opened(client, "a", "offset=-1")
        assert (await tail.next()).json == [1, 2]
        last_id = (await tail.next()).id
        assert last_id is not None
        await post(client, "a", b"3", JSON)
        again = await client.tail(f"{at('a')}?offset=-1&live=sse", {"last-event-id": last_id})
        assert (await again.next()).json == [3]


async def test_10_1_the_cursor_of_an_event_stream_advances(tmp_path: Path) -> None:
    async with serving(tmp_path, config=PATIENT) as client:
        await put(client, "a")
        tail = await opened(client, "a", "offset=-1&cursor=999999999")
        assert int((await tail.next()).json["streamCursor"]) > 999999999


async def test_10_2_an_event_stream_is_ended_in_time(tmp_path: Path) -> None:
    config = ServiceConfig(sse_lifetime_s=0.1)
    async with serving(tmp_path, config=config) as client:
        await put(client, "a", b"one")
        tail = await opened(client, "a", "offset=-1")
        await tail.end()
        assert [event.name for event in tail.events()] == ["data", "control"]
        assert tail.frames()[-1].startswith("retry: ")


async def test_5_7_5_8_there_must_be_room_for_a_reader(tmp_path: Path) -> None:
    config = ServiceConfig(live_readers_max=0)
    async with serving(tmp_path, config=config) as client:
        await put(client, "a")
        for live in ("sse", "long-poll"):
            full = await get(client, "a", f"offset=now&live={live}")
            assert full.status == 503 and full.headers["retry-after"]
            assert (await get(client, "none", f"offset=now&live={live}")).status == 404


async def test_5_8_a_character_split_across_appends_arrives_whole(tmp_path: Path) -> None:
    async with serving(tmp_path, config=PATIENT) as client:
        euro = "€".encode()
        await put(client, "a", b"one")
        await post(client, "a", b"two" + euro[:1])
        tail = await opened(client, "a", "offset=-1")
        assert (await tail.next()).data == "one"
        assert (await tail.next()).json["streamNextOffset"] == "00000001"
        await post(client, "a", euro[1:2])
        await waiting(client)
        await post(client, "a", euro[2:] + b"!")
        assert (await tail.next()).data == "two€!"
        control = (await tail.next()).json
        assert control["streamNextOffset"] == "00000004" and control["upToDate"] is True


async def test_5_8_half_a_character_is_not_held_for_ever(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for path, closing in (("a", False), ("b", True)):
            await put(client, path)
            tail = await opened(client, path, "offset=-1")
            await tail.next()
            await post(client, path, b"x\xe2\x82")
            if closing:
                await post(client, path, b"", CLOSE)
            await tail.until(lambda tail: b"data:x\xe2\x82\n" in tail.raw)
