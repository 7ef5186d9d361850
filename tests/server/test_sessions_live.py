"""SSE of a session's events (protocol section 5.8), on a real store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
import trio.testing

from tailrace_server.keys import Key
from tailrace_server.live import LiveResponse
from tailrace_server.protocol.message import Response
from tailrace_server.service import ServiceConfig
from tests.server.service_support import Client, StoreTime, Tail, got, request, serving

EVENTS = "/v1/sessions/s/events"
LIVE = EVENTS + "?live=sse"
STREAM = EVENTS + "/stream"
EVENT = {"type": "user.message", "n": 0}
SLOW = ServiceConfig(sse_heartbeat_s=100, sse_lifetime_s=100, long_poll_timeout_s=100)


async def append(client: Client, *numbers: int, kind: str = "x") -> None:
    events = [{"type": kind, "n": n} for n in numbers]
    assert (await client("POST", EVENTS, events)).status == 204


def data_numbers(tail: Tail) -> list[int]:
    """Every ``n`` that came in ``data`` events."""
    return [e["n"] for event in tail.events() if event.name == "data" for e in event.json]


def next_offset(tail: Tail) -> str:
    controls = [event.json for event in tail.events() if event.name == "control"]
    return str(controls[-1]["streamNextOffset"]) if controls else ""


async def test_5_8_step_4_of_the_quickstart(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, 0)
        tail = await client.tail(LIVE + "&offset=now")
        first = await tail.next()
        assert first.name == "control"
        assert first.json["streamNextOffset"] == "00000001" and first.json["upToDate"] is True
        assert int(first.json["streamCursor"]) > 0
        await append(client, 1)
        data, control = await tail.next(), await tail.next()
        stored = (await client("GET", EVENTS + "?offset=00000001")).json["data"]
        assert data.name == "data" and data.json == stored
        assert (
            data.data
            == "[\n"
            + json.dumps(stored[0], separators=(",", ":")).replace(
                ',"type":"x","n":1', ',"type": "x", "n": 1'
            )
            + "\n]"
        )
        assert control.json["streamNextOffset"] == "00000002"
        assert control.json["upToDate"] is True and "streamClosed" not in control.json


async def test_5_8_headers(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, 0)
        for target in (LIVE, STREAM):
            tail = await client.tail(target)
            assert tail.headers["content-type"] == "text/event-stream"
            assert tail.headers["cache-control"] == "no-cache, no-transform"
            assert tail.headers["x-accel-buffering"] == "no"
            assert tail.headers["x-content-type-options"] == "nosniff"
            assert "Stream-Next-Offset" in tail.headers["access-control-expose-headers"]


async def test_5_8_history_then_news(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, *range(5))
        for query, first in (("", 0), ("&offset=-1", 0), ("&offset=00000003", 3)):
            tail = await client.tail(LIVE + query)
            await tail.until(lambda t: next_offset(t) >= "00000005")
            assert data_numbers(tail) == list(range(first, 5))
        await append(client, 5)
        await tail.until(lambda t: next_offset(t) == "00000006")
        assert data_numbers(tail) == [3, 4, 5]


async def test_5_8_long_history_comes_in_batches(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        events = [{"type": "x", "n": n, "pad": "x" * 1000} for n in range(1000)]
        assert (await client("POST", EVENTS, events)).status == 204
        tail = await client.tail(LIVE)
        await tail.until(lambda t: next_offset(t) == "00001000")
        assert data_numbers(tail) == list(range(1000))
        controls = [e.json for e in tail.events() if e.name == "control"]
        assert len(controls) > 2
        assert [c.get("upToDate") for c in controls] == [None] * (len(controls) - 1) + [True]


async def test_5_8_last_event_id_resumes_right_after(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, *range(5))
        for target in (LIVE + "&offset=now", LIVE, STREAM, STREAM + "?offset=-1"):
            tail = await client.tail(target, {"Last-Event-ID": "00000002"})
            await tail.until(lambda t: b"00000004" in t.raw)
            found = [
                e
                for event in tail.events()
                if event.name != "control"
                for e in (event.json if isinstance(event.json, list) else [event.json])
            ]
            assert [e["n"] for e in found] == [3, 4], target
            start = await client.tail(target, {"Last-Event-ID": "-1"})
            await start.until(lambda t: b"00000000" in t.raw)
        for bad in ("x", "5", "now"):
            answer = await client.service.handle(request("GET", LIVE, b"", {"Last-Event-ID": bad}))
            assert isinstance(answer, Response) and answer.status == 400


@pytest.mark.parametrize("target", [LIVE, STREAM + "?a=b"])
async def test_5_8_an_offset_is_checked_where_last_event_id_goes_first(
    tmp_path: Path, target: str
) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, *range(3))
        asked = request("GET", f"{target}&offset=x", b"", {"Last-Event-ID": "00000002"})
        answer = await client.service.handle(asked)
        assert isinstance(answer, Response)
        assert got(answer).error[1].startswith("offset: ")


async def test_5_8_ids_of_control_events_resume_without_loss(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, 0)
        tail = await client.tail(LIVE + "&offset=now")
        await append(client, 1)
        await tail.until(lambda t: next_offset(t) == "00000002")
        await append(client, 2)
        last_id = next(e.id for e in tail.events() if e.id is not None)
        again = await client.tail(LIVE + "&offset=now", {"Last-Event-ID": last_id})
        await again.until(lambda t: next_offset(t) == "00000003")
        assert data_numbers(again) == [1, 2]


@pytest.mark.parametrize("offset", ["now", "-1", "00000001"])
async def test_5_8_closing_ends_the_stream(tmp_path: Path, offset: str) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, 0)
        tail = await client.tail(f"{LIVE}&offset={offset}")
        await tail.next()
        await client("POST", EVENTS, {"type": "x", "n": 1}, {"Stream-Closed": "true"})
        await tail.end()
        last = tail.events()[-1].json
        assert last["streamClosed"] is True and last["upToDate"] is True
        assert last["streamNextOffset"] == "00000002" and "streamCursor" not in last
        assert data_numbers(tail)[-1] == 1
        # Already closed: one control event at once, then the end.
        late = await client.tail(LIVE + "&offset=now")
        await late.end()
        assert [e.json.get("streamClosed") for e in late.events()] == [True]


async def test_5_8_the_last_event_before_closure_is_never_lost(tmp_path: Path) -> None:
    """At every timing between a reader's start and the closing append."""
    async with serving(tmp_path, config=SLOW) as client:
        for turn in range(30):
            target = f"/v1/sessions/t{turn}/events"
            await client("POST", target, {"type": "x", "n": 0})
            tail = await client.tail(target + "?live=sse&offset=-1")

            async def write(target: str = target) -> None:
                await client("POST", target, {"type": "x", "n": 1})
                await client("POST", target, {"type": "x", "n": 2}, {"Stream-Closed": "true"})

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                for _ in range(turn % 7):
                    await trio.lowlevel.checkpoint()
            await tail.end()
            assert data_numbers(tail) == [0, 1, 2]


async def test_5_8_a_filter_works_live_and_the_offset_advances(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, 0)
        tail = await client.tail(LIVE + "&type=wanted")
        await append(client, 1, kind="wanted")
        await append(client, 2, 3)
        await tail.until(lambda t: next_offset(t) == "00000004")
        assert data_numbers(tail) == [1]
        stream = await client.tail(STREAM + "?type=wanted&offset=-1")
        await append(client, 4, kind="wanted")
        await stream.until(lambda t: b"00000004" in t.raw)
        assert [(e.name, e.id) for e in stream.events()] == [
            ("wanted", "00000001"),
            ("wanted", "00000004"),
        ]


async def test_stream_has_one_message_per_event(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, 0)
        tail = await client.tail(STREAM)
        await tail.until(lambda t: bool(t.raw))
        assert tail.raw.startswith(b":")
        await client("POST", EVENTS, [{"type": "a.b", "n": 1}, {"type": "c\nevent: d", "n": 2}])
        first, second = await tail.next(), await tail.next()
        assert (first.name, first.id, first.json["n"]) == ("a.b", "00000001", 1)
        assert (second.name, second.id, second.json["n"]) == ("c event: d", "00000002", 2)
        assert second.json["type"] == "c\nevent: d"
        assert "processed_at" not in first.json
        managed = await client.tail(STREAM + "?beta=true&offset=00000001")
        event = await managed.next()
        assert event.json["processed_at"] == event.json["created_at"]


async def test_no_text_breaks_a_frame(tmp_path: Path) -> None:
    text = "a\r\nb\rc\n\nd\u2028e\u2029f\u0085g\x0b\x0c\x1c"
    async with serving(tmp_path, config=SLOW) as client:
        body = json.dumps({"type": "x", "n": 1, "t": text}, ensure_ascii=False, indent=2)
        await client("POST", EVENTS, body.replace("\n", "\r\n").encode())
        tail = await client.tail(LIVE)
        event = await tail.next()
        assert event.json[0]["t"] == text
        assert len(event.data.splitlines()) == 3
        stream = await client.tail(STREAM + "?offset=-1")
        assert (await stream.next()).json["t"] == text


# --- lifetime


async def test_silence_is_filled_with_comments(tmp_path: Path) -> None:
    config = ServiceConfig(sse_heartbeat_s=0.02, sse_lifetime_s=100)
    async with serving(tmp_path, config=config) as client:
        await append(client, 0)
        for target in (LIVE + "&offset=now", STREAM, STREAM + "?type=none"):
            tail = await client.tail(target)
            await tail.until(lambda t: t.raw.count(b": heartbeat\n\n") >= 3)
            assert len(tail.events()) == (1 if target.startswith(LIVE) else 0)


async def test_filtered_traffic_does_not_starve_the_heartbeat(tmp_path: Path) -> None:
    config = ServiceConfig(sse_heartbeat_s=0.05, sse_lifetime_s=100)
    async with serving(tmp_path, config=config) as client:
        await append(client, 0)
        tail = await client.tail(STREAM + "?type=none")
        with trio.fail_after(20):
            while b": heartbeat" not in tail.raw:
                await append(client, 1)


async def test_10_2_connections_end_after_their_lifetime(tmp_path: Path) -> None:
    config = ServiceConfig(sse_heartbeat_s=100, sse_lifetime_s=0.1)
    async with serving(tmp_path, config=config) as client:
        await append(client, 0)
        for target in (LIVE, STREAM):
            tail = await client.tail(target)
            await tail.end()
            assert tail.frames()[-1].startswith("retry: ")
        assert client.service.context.hub.readers == 0


async def test_a_reader_that_left_is_freed(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, 0)
        readers = [await client.tail_and_scope(LIVE) for _ in range(5)]
        await trio.testing.wait_all_tasks_blocked()
        context = client.service.context
        assert context.hub.readers == 5
        for tail, scope in readers:
            scope.cancel()
            await tail.end()
        assert context.hub.readers == 0 and not context.bridge.subscribers


async def test_a_response_that_is_never_run_holds_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, 0)
        answer = await client.service.handle(request("GET", LIVE))
        assert isinstance(answer, LiveResponse)
        del answer
        assert client.service.context.hub.readers == 0


async def test_a_client_that_breaks_frees_its_reader(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, 0)
        answer = await client.service.handle(request("GET", LIVE))
        assert isinstance(answer, LiveResponse)

        async def send(chunk: bytes) -> None:
            raise trio.BrokenResourceError

        with pytest.raises(trio.BrokenResourceError):
            await answer.run(send)
        assert client.service.context.hub.readers == 0


async def test_deleting_the_session_ends_its_readers(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, 0)
        tails = [await client.tail(target) for target in (LIVE, STREAM)]
        await trio.testing.wait_all_tasks_blocked()
        await client("DELETE", "/v1/sessions/s")
        for tail in tails:
            await tail.end()


async def test_a_new_session_of_the_same_name_is_another(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, 0)
        answer = await client.service.handle(request("GET", LIVE))
        assert isinstance(answer, LiveResponse)
        await client("DELETE", "/v1/sessions/s")
        await append(client, 7, 8)
        sent: list[bytes] = []

        async def send(chunk: bytes) -> None:
            sent.append(chunk)

        with trio.fail_after(5):
            await answer.run(send)
        assert sent == []


async def test_a_revoked_key_ends_its_readers(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW, keys=["a", "b"]) as client:
        key = {"x-api-key": "a"}
        await client("POST", EVENTS, EVENT, key)
        gone = [await client.tail(target, key) for target in (LIVE, STREAM)]
        stays = await client.tail(LIVE, {"x-api-key": "b"})
        await trio.testing.wait_all_tasks_blocked()
        client.service.context.keys.replace([Key("b")])
        for tail in gone:
            await tail.end()
        assert not stays.ended


async def test_capacity_is_503_and_those_served_stay(tmp_path: Path) -> None:
    config = ServiceConfig(live_readers_max=2, sse_lifetime_s=100, long_poll_timeout_s=0.1)
    async with serving(tmp_path, config=config) as client:
        await append(client, 0)
        tails = [await client.tail(LIVE), await client.tail(STREAM)]
        await trio.testing.wait_all_tasks_blocked()
        for target in (LIVE, STREAM, EVENTS + "?live=long-poll&offset=now"):
            answer = await client.service.handle(request("GET", target))
            assert isinstance(answer, Response) and answer.status == 503
            assert int(got(answer).headers["retry-after"]) >= 1
        await append(client, 1)
        await tails[0].until(lambda t: next_offset(t) == "00000002")
        await tails[1].until(lambda t: b"00000001" in t.raw)


async def test_draining_ends_readers_with_a_last_word(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, 0)
        tail, stream = await client.tail(LIVE), await client.tail(STREAM)
        polled: list[int] = []

        async def poll() -> None:
            polled.append((await client("GET", EVENTS + "?live=long-poll&offset=now")).status)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(5):
                await client.service.drain()
        await tail.end()
        await stream.end()
        assert polled == [204]
        assert next_offset(tail) == "00000001"
        assert tail.frames()[-1].startswith("retry: ")
        answer = await client.service.handle(request("GET", LIVE))
        assert answer.status == 503
        assert (await client("POST", EVENTS, EVENT)).status == 204
        assert (await client("GET", "/readyz")).status == 503


async def test_5_1_a_live_reader_keeps_a_sliding_ttl_alive(tmp_path: Path) -> None:
    now_ms = StoreTime()
    async with serving(tmp_path, config=SLOW, now_ms=now_ms) as client:
        for name in ("s", "unread"):
            client.store.create(("sessions", name), content_type="application/json", ttl_ms=600)
        tail, scope = await client.tail_and_scope(LIVE + "&offset=now")
        await now_ms.outlives(client.store, ("sessions", "s"))
        assert (await client("GET", "/v1/sessions/unread")).status == 404
        assert (await client("GET", "/v1/sessions/s")).status == 200
        scope.cancel()
        await tail.end()


# --- many readers


async def test_many_readers_of_one_session_all_get_everything(tmp_path: Path) -> None:
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, 0)
        encoded = []
        encode = client.service.context.bridge.read

        async def counted(*args: object, **kwargs: object) -> object:
            encoded.append(args)
            return await encode(*args, **kwargs)  # type: ignore[arg-type]

        tails = [await client.tail(LIVE + "&offset=now") for _ in range(50)]
        for tail in tails:
            await tail.next()
        client.service.context.bridge.read = counted  # type: ignore[assignment]
        for n in range(1, 21):
            await append(client, n)
        for tail in tails:
            await tail.until(lambda t: next_offset(t) == "00000021")
            assert data_numbers(tail) == list(range(1, 21))
        # One read and one encoding served many.
        assert len(encoded) < 200


async def test_writers_and_a_slow_reader(tmp_path: Path) -> None:
    """A reader that takes its time misses nothing and repeats nothing."""
    async with serving(tmp_path, config=SLOW) as client:
        await append(client, 0)
        answer = await client.service.handle(request("GET", LIVE))
        assert isinstance(answer, LiveResponse)
        tail = Tail({})

        async def send(chunk: bytes) -> None:
            await trio.sleep(0.01)
            tail.raw += chunk

        async def write() -> None:
            for n in range(1, 200):
                await append(client, n)
            await client("POST", EVENTS, b"", {"Stream-Closed": "true"})

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer.run, send)
                nursery.start_soon(write)
        assert data_numbers(tail) == list(range(200))
