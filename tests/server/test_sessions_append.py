"""POST of a session's events, on a real store."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import trio

import tailrace
from tailrace_server.service import ServiceConfig
from tests.server.service_support import QUICK, Client, Got, serving

EVENTS = "/v1/sessions/s/events"
EVENT = {"type": "user.message", "content": [{"type": "text", "text": "hello"}]}


def producer(epoch: int | str, seq: int | str, name: str = "p") -> dict[str, str]:
    return {"Producer-Id": name, "Producer-Epoch": str(epoch), "Producer-Seq": str(seq)}


async def data(client: Client, target: str = EVENTS) -> list[dict[str, object]]:
    found = await client("GET", target)
    assert found.status == 200
    events: list[dict[str, object]] = found.json["data"]
    return events


@pytest.mark.parametrize("body", [{"events": [EVENT]}, [EVENT], EVENT])
async def test_every_body_shape_is_stored_and_read_back(tmp_path: Path, body: object) -> None:
    async with serving(tmp_path) as client:
        sent = await client("POST", EVENTS, body)
        assert (sent.status, sent.headers["stream-next-offset"], sent.body) == (
            204,
            "00000001",
            b"",
        )
        assert "stream-closed" not in sent.headers
        (event,) = await data(client)
        assert event["offset"] == "00000000"
        assert str(event["id"]).startswith("evt_")
        assert {k: v for k, v in event.items() if k in EVENT} == EVENT
        assert list(event)[:3] == ["id", "offset", "created_at"]


async def test_events_survive_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("POST", EVENTS, [EVENT, EVENT])
        before = await client("GET", EVENTS)
    async with serving(tmp_path) as client:
        after = await client("GET", EVENTS)
        assert after.body == before.body and after.headers["etag"] == before.headers["etag"]


async def test_the_clients_bytes_are_stored_as_sent(tmp_path: Path) -> None:
    sent = b'{"type":"x", "n":123456789012345678901234567890,"d":1.10,"d":1e400}'
    async with serving(tmp_path) as client:
        await client("POST", EVENTS, sent)
        assert sent[1:] in (await client("GET", EVENTS)).body


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[" * 100_000, "body"),
        (b'{"a":"\xff"}', "body"),
        (b"[]", "events"),
        (b"[{}]", "events[0].type"),
        (b'[{"type":"a"},3]', "events[1]"),
        (b'[{"type":"a"},{"type":"b","x":NaN}]', "body"),
    ],
)
async def test_a_bad_body_is_400_and_stores_nothing(
    tmp_path: Path, body: bytes, field: str
) -> None:
    async with serving(tmp_path) as client:
        sent = await client("POST", EVENTS, body)
        assert sent.status == 400
        kind, message = sent.error
        assert kind == "invalid_request_error" and message.startswith(f"{field}: ")
        assert (await client("GET", EVENTS)).status == 404


async def test_other_content_types_are_415(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        body = json.dumps(EVENT).encode()
        for content_type in ("text/plain", "application/vnd.x+json", "application/jsonx", "x"):
            sent = await client("POST", EVENTS, body, {"Content-Type": content_type})
            assert sent.status == 415, content_type
            assert "application/json" in sent.error[1]
        for content_type in ("application/json; charset=utf-8", "Application/JSON"):
            sent = await client("POST", EVENTS, body, {"Content-Type": content_type})
            assert sent.status == 204, content_type


async def test_too_large_and_too_many_are_413(tmp_path: Path) -> None:
    config = ServiceConfig(body_bytes_max=1000, events_per_request_max=3)
    async with serving(tmp_path, config=config) as client:
        assert (await client("POST", EVENTS, [{"type": "x" * 2000}])).status == 413
        assert (await client("POST", EVENTS, [{"type": "x"}] * 4)).status == 413
        assert (await client("GET", EVENTS)).status == 404
        assert (await client("POST", EVENTS, [{"type": "x"}] * 3)).status == 204


async def test_fifty_racing_first_appends_all_succeed(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        answers: list[Got] = []

        async def append(number: int) -> None:
            answers.append(await client("POST", EVENTS, {"type": "x", "n": number}))

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(append, number)
        assert {answer.status for answer in answers} == {204}
        offsets = {answer.headers["stream-next-offset"] for answer in answers}
        assert offsets == {f"{n:08d}" for n in range(1, 51)}
        events = await data(client)
        assert [event["offset"] for event in events] == [f"{n:08d}" for n in range(50)]
        assert sorted(int(str(event["n"])) for event in events) == list(range(50))
        ids = [str(event["id"]) for event in events]
        assert ids == sorted(ids)


# --- producers (protocol section 5.2.1)


async def test_5_2_1_exactly_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        first = await client("POST", EVENTS, EVENT, producer(0, 0))
        again = await client("POST", EVENTS, EVENT, producer(0, 0))
        assert (first.status, again.status) == (200, 204)
        assert again.headers["stream-next-offset"] == "00000001"
        for answer in (first, again):
            assert answer.headers["producer-epoch"] == "0"
            assert answer.headers["producer-seq"] == "0"
        assert (await client("POST", EVENTS, EVENT, producer(0, 1))).status == 200
        assert len(await data(client)) == 2
    async with serving(tmp_path) as client:
        assert (await client("POST", EVENTS, EVENT, producer(0, 1))).status == 204
        assert len(await data(client)) == 2


async def test_5_2_1_gap_fence_and_epoch_start(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("POST", EVENTS, EVENT, producer(3, 0))
        gap = await client("POST", EVENTS, EVENT, producer(3, 2))
        assert gap.status == 409
        assert gap.headers["producer-expected-seq"] == "1"
        assert gap.headers["producer-received-seq"] == "2"
        fenced = await client("POST", EVENTS, EVENT, producer(2, 1))
        assert fenced.status == 403 and fenced.headers["producer-epoch"] == "3"
        assert (await client("POST", EVENTS, EVENT, producer(4, 1))).status == 400
        assert (await client("POST", EVENTS, EVENT, producer(4, 0))).status == 200
        assert len(await data(client)) == 2


async def test_5_2_1_a_rejected_append_does_not_advance_the_sequence(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("POST", EVENTS, EVENT, producer(0, 0))
        assert (await client("POST", EVENTS, b"[{]", producer(0, 1))).status == 400
        assert (await client("POST", EVENTS, EVENT, producer(0, 1))).status == 200


async def test_5_2_1_headers_come_together(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        sent = await client("POST", EVENTS, EVENT, {"Producer-Id": "p"})
        assert sent.status == 400 and "Producer-Epoch" in sent.error[1]
        sent = await client("POST", EVENTS, EVENT, producer("01", 0))
        assert sent.status == 400 and "Producer-Epoch" in sent.error[1]


async def test_5_2_stream_seq_must_grow(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        assert (await client("POST", EVENTS, EVENT, {"Stream-Seq": "02"})).status == 204
        for stale in ("02", "01"):
            assert (await client("POST", EVENTS, EVENT, {"Stream-Seq": stale})).status == 409
        assert (await client("POST", EVENTS, EVENT, {"Stream-Seq": "1"})).status == 204


async def test_expected_offset_is_compare_and_append(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("POST", EVENTS, EVENT)
        stale = await client("POST", EVENTS, EVENT, {"Stream-Expected-Offset": "00000000"})
        assert stale.status == 409 and stale.headers["stream-next-offset"] == "00000001"
        fits = await client("POST", EVENTS, EVENT, {"Stream-Expected-Offset": "00000001"})
        assert fits.status == 204


# --- closing (protocol sections 4.1, 5.2 and 5.3)


async def test_5_3_close_only_is_idempotent(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("POST", EVENTS, EVENT)
        for _ in range(2):
            closed = await client("POST", EVENTS, b"", {"Stream-Closed": "TRUE"})
            assert closed.status == 204
            assert closed.headers["stream-closed"] == "true"
            assert closed.headers["stream-next-offset"] == "00000001"


async def test_5_3_closing_an_unknown_session_is_404(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        assert (await client("POST", EVENTS, b"", {"Stream-Closed": "true"})).status == 404


async def test_5_2_last_event_and_close_in_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        sent = await client("POST", EVENTS, EVENT, {"Stream-Closed": "true"})
        assert sent.status == 204 and sent.headers["stream-closed"] == "true"
        late = await client("POST", EVENTS, EVENT)
        assert late.status == 409
        assert late.headers["stream-closed"] == "true"
        assert late.headers["stream-next-offset"] == "00000001"
        assert late.error[0] == "stream_closed"
        again = await client("POST", EVENTS, EVENT, {"Stream-Closed": "true"})
        assert again.status == 409


async def test_5_2_1_repeating_the_closing_append_is_a_duplicate(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        headers = producer(0, 0) | {"Stream-Closed": "true"}
        assert (await client("POST", EVENTS, EVENT, headers)).status == 200
        again = await client("POST", EVENTS, EVENT, headers)
        assert again.status == 204 and again.headers["stream-closed"] == "true"
        assert (await client("POST", EVENTS, EVENT, producer(0, 1))).status == 409


# --- the managed-agents client


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (EVENTS + "?beta=true", {}),
        (EVENTS, {"anthropic-beta": "managed-agents-2026-04-01"}),
    ],
)
async def test_managed_agents_clients_get_what_was_stored(
    tmp_path: Path, target: str, headers: dict[str, str]
) -> None:
    async with serving(tmp_path) as client:
        sent = await client("POST", target, {"events": [EVENT, EVENT]}, headers)
        assert sent.status == 200 and sent.headers["stream-next-offset"] == "00000002"
        listed = await client("GET", target, headers=headers)
        assert sent.json["data"] == listed.json["data"]
        for event in sent.json["data"]:
            assert event["processed_at"] == event["created_at"]
        plain = await client("GET", EVENTS)
        assert "processed_at" not in plain.json["data"][0]
        assert plain.headers["etag"] != listed.headers["etag"]


# --- the engine says no


async def test_overload_is_503_with_retry_after_and_nothing_stored(tmp_path: Path) -> None:
    options = tailrace.Options(segment_bytes=4 * 1024 * 1024, staged_bytes_max=2000)
    async with serving(tmp_path, options=options) as client:
        gate = threading.Event()
        on_group = client.store.on_group
        assert on_group is not None

        def held(group: tailrace.Group) -> None:
            gate.wait(10)
            on_group(group)

        client.store.on_group = held
        answers: list[Got] = []

        async def append() -> None:
            answers.append(await client("POST", EVENTS, {"type": "x" * 1500}))
            gate.set()  # by now something was refused, or all was stored

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(append)
        refused = [answer for answer in answers if answer.status != 204]
        assert refused
        for answer in refused:
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.error[0] == "overloaded_error"
        assert len(await data(client)) == len(answers) - len(refused)


async def test_a_cancelled_request_is_stored_all_the_same(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        with trio.CancelScope() as scope:
            scope.cancel()
            await client("POST", EVENTS, EVENT)
        assert scope.cancelled_caught
        await client("POST", EVENTS, EVENT)
        assert len(await data(client)) == 2


async def test_a_closed_store_is_503(tmp_path: Path) -> None:
    async with serving(tmp_path, config=QUICK) as client:
        await client("POST", EVENTS, EVENT)
        client.store.close()
        assert (await client("POST", EVENTS, EVENT)).status == 503
        assert (await client("GET", EVENTS)).status == 503
