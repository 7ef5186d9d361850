"""Wakes by webhook and by wake stream (protocol section 7)."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import trio

from tests.server.service_support import serving
from tests.server.subscriptions.api import (
    JSON,
    ROOT,
    append,
    at,
    claim,
    code,
    delivery,
    pull_wake,
    settle,
    until,
    until_acked,
    wakes,
    webhook,
)
from tests.server.subscriptions.receiver import Receiver, verify

DONE = (200, b'{"done":true}')
TAKEN = (202, b"")


# ---- webhooks --------------------------------------------------------------------------


async def test_7_1_a_webhook_is_signed_and_done_acknowledges(tmp_path: Path) -> None:
    with Receiver(DONE) as receiver:
        async with serving(tmp_path) as client:
            await append(client, "events/old", 2)
            made = await client("PUT", at("sub"), webhook(receiver.url), {"host": "localhost:9"})
            assert made.status == 201
            await append(client, "events/new", 1)
            got = await delivery(receiver)
            assert verify(got, (await client("GET", f"{ROOT}/jwks.json")).json)
            assert got.headers["content-type"] == "application/json"
            body = got.json
            assert set(body) == {
                *("subscription_id", "wake_id", "generation"),
                *("streams", "callback_url", "callback_token"),
            }
            assert (body["subscription_id"], body["generation"]) == ("sub", 1)
            assert body["callback_url"] == f"http://localhost:9{at('sub', 'callback')}"
            assert got.stream("events/new") == {
                "path": "events/new",
                "link_type": "glob",
                "acked_offset": "00000000",
                "tail_offset": "00000001",
                "has_pending": True,
            }
            assert got.stream("events/old")["has_pending"] is False
            await until_acked(client, "sub", "events/new", "00000001")
            await append(client, "events/new", 1)
            again = (await delivery(receiver)).json
            assert again["generation"] == 2
            assert again["wake_id"] != body["wake_id"]
            await until_acked(client, "sub", "events/new", "00000002")
            assert receiver.deliveries.empty()


async def test_7_1_callbacks_move_the_cursor_and_stale_ones_are_fenced(tmp_path: Path) -> None:
    with Receiver(TAKEN) as receiver:
        async with serving(tmp_path) as client:
            await client("PUT", at("sub"), webhook(receiver.url))
            await append(client, "events/a", 2)
            held = (await delivery(receiver)).json
            acks = [{"stream": "events/a", "offset": "00000001"}]
            found = await settle(client, "sub", "callback", held, acks=acks)
            assert (found.status, found.json) == (200, {"ok": True, "next_wake": False})
            for offset in ("00000000", "00000003", "-1", "x"):
                wrong = [{"stream": "events/a", "offset": offset}]
                found = await settle(client, "sub", "callback", held, acks=wrong)
                assert code(found) == (409, "INVALID_OFFSET")
            found = await settle(client, "sub", "callback", held, done=True)
            assert found.json == {"ok": True, "next_wake": True}
            assert code(await settle(client, "sub", "callback", held)) == (409, "FENCED")
            second = (await delivery(receiver)).json
            assert second["generation"] == 2
            mixed = held | {"callback_token": second["callback_token"]}
            assert code(await settle(client, "sub", "callback", mixed)) == (409, "FENCED")
            mixed = second | {"callback_token": held["callback_token"]}
            assert code(await settle(client, "sub", "callback", mixed)) == (409, "FENCED")
            acks = [{"path": "events/a", "offset": "00000002"}]
            found = await settle(client, "sub", "callback", second, acks=acks, done=True)
            assert found.json == {"ok": True, "next_wake": False}


async def test_7_1_a_webhook_that_fails_is_called_again_and_the_status_says_so(
    tmp_path: Path,
) -> None:
    with Receiver((500, b""), DONE) as receiver:
        fail, succeed = threading.Event(), threading.Event()
        receiver.gate = fail
        async with serving(tmp_path) as client:
            await client("PUT", at("sub"), webhook(receiver.url))
            await append(client, "events/a")
            first = (await delivery(receiver)).json
            receiver.gate = succeed
            fail.set()
            await until(client, "sub", lambda state: state.retry_at_ms is not None)
            assert (await client("GET", at("sub"))).json["status"] == "failed"
            succeed.set()
            second = (await delivery(receiver)).json
            assert second["wake_id"] == first["wake_id"]
            await until_acked(client, "sub", "events/a", "00000001")
            assert (await client("GET", at("sub"))).json["status"] == "active"


async def test_7_3_a_webhook_s_lease_runs_out_and_it_is_woken_again(tmp_path: Path) -> None:
    with Receiver(TAKEN) as receiver:
        async with serving(tmp_path) as client:
            await client("PUT", at("sub"), webhook(receiver.url, lease_ttl_ms=1000))
            await append(client, "events/a")
            first = (await delivery(receiver)).json
            second = (await delivery(receiver)).json
            assert second["generation"] == first["generation"] + 1
            assert code(await settle(client, "sub", "callback", first)) == (409, "FENCED")


async def test_7_1_every_append_while_a_webhook_works_is_told_in_the_end(tmp_path: Path) -> None:
    with Receiver(DONE) as receiver:
        async with serving(tmp_path) as client:
            await client("PUT", at("sub"), webhook(receiver.url, pattern="**"))
            async with trio.open_nursery() as nursery:
                for name in range(8):
                    nursery.start_soon(append, client, f"deep/er/{name}", 5)
            for name in range(8):
                await until_acked(client, "sub", f"deep/er/{name}", "00000005")


# ---- pull-wake -------------------------------------------------------------------------


async def test_7_2_wake_claim_ack(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("PUT", "/v1/stream/wake/pool", b"", JSON)
        await client("PUT", at("sub"), pull_wake())
        refused = await client("POST", at("sub", "claim"), {"worker": "early"})
        assert code(refused) == (409, "NO_PENDING_WORK")
        await append(client, "events/a", 2)
        (wake,) = await wakes(client, 1)
        assert isinstance(wake.pop("ts"), int)
        assert wake == {
            "type": "wake",
            "subscription_id": "sub",
            "stream": "events/a",
            "generation": 1,
        }
        held = await claim(client, "sub", "first")
        assert set(held) == {"wake_id", "generation", "token", "streams", "lease_ttl_ms"}
        assert (held["generation"], held["lease_ttl_ms"]) == (1, 30_000)
        busy = await client("POST", at("sub", "claim"), {"worker": "second"})
        error = busy.json["error"]
        error.pop("message")
        assert busy.status == 409
        assert error == {"code": "ALREADY_CLAIMED", "current_holder": "first", "generation": 1}
        acks = [{"stream": "events/a", "offset": "00000002"}]
        assert (await settle(client, "sub", "ack", held, acks=acks)).json["next_wake"] is False
        await append(client, "events/a", 1)
        found = await settle(client, "sub", "ack", held, done=True)
        assert found.json == {"ok": True, "next_wake": True}
        assert [wake["generation"] for wake in await wakes(client, 2)] == [1, 2]
        assert code(await settle(client, "sub", "ack", held)) == (409, "FENCED")


async def test_7_2_release_wakes_somebody_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("PUT", "/v1/stream/wake/pool", b"", JSON)
        await client("PUT", at("sub"), pull_wake())
        await append(client, "events/a")
        await wakes(client, 1)
        held = await claim(client, "sub")
        assert (await settle(client, "sub", "release", held)).status == 204
        assert code(await settle(client, "sub", "release", held)) == (409, "FENCED")
        found = await wakes(client, 2)
        assert [wake["generation"] for wake in found] == [1, 2]
        assert (await claim(client, "sub", "other"))["generation"] == 2


async def test_7_3_a_claim_that_runs_out_wakes_somebody_else(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("PUT", "/v1/stream/wake/pool", b"", JSON)
        await client("PUT", at("sub"), pull_wake(lease_ttl_ms=1000))
        await append(client, "events/a")
        await wakes(client, 1)
        held = await claim(client, "sub")
        await wakes(client, 2)
        assert code(await settle(client, "sub", "ack", held, done=True)) == (409, "FENCED")


async def test_7_2_a_wake_stream_made_late_gets_the_wake(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("PUT", at("sub"), pull_wake())
        await append(client, "events/a")
        await client("PUT", "/v1/stream/wake/pool", b"", JSON)
        await wakes(client, 1)
        await client("DELETE", "/v1/stream/wake/pool")
        await client("PUT", "/v1/stream/wake/pool", b"", JSON)
        (wake,) = await wakes(client, 1)
        assert wake["generation"] == 1


async def test_7_2_only_the_right_kind_of_wake_is_settled(tmp_path: Path) -> None:
    with Receiver(TAKEN) as receiver:
        async with serving(tmp_path) as client:
            await client("PUT", at("hook"), webhook(receiver.url))
            await append(client, "events/a")
            held = (await delivery(receiver)).json
            for action in ("ack", "release"):
                found = await settle(client, "hook", action, held)
                assert code(found) == (400, "INVALID_REQUEST")
            found = await client("POST", at("hook", "claim"), {"worker": "w"})
            assert code(found) == (400, "INVALID_REQUEST")


async def test_6_1_a_stream_deleted_and_made_again_is_new_work(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("PUT", at("sub"), pull_wake())
        await append(client, "events/a", 2)
        held = await claim(client, "sub")
        acks = [{"stream": "events/a", "offset": "00000002"}]
        await settle(client, "sub", "ack", held, acks=acks, done=True)
        await client("DELETE", "/v1/stream/events/a")
        await append(client, "events/a", 1)
        (stream,) = (await claim(client, "sub"))["streams"]
        assert (stream["acked_offset"], stream["tail_offset"]) == ("00000000", "00000001")


# ---- restarts --------------------------------------------------------------------------


async def test_7_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("PUT", "/v1/stream/wake/pool", b"", JSON)
        await client("PUT", at("sub"), pull_wake())
        jwks = (await client("GET", f"{ROOT}/jwks.json")).json
        await append(client, "events/a", 2)
        held = await claim(client, "sub")
        before = (await client("GET", at("sub"))).json
    async with serving(tmp_path) as client:
        assert (await client("GET", f"{ROOT}/jwks.json")).json == jwks
        assert (await client("GET", at("sub"))).json == before
        acks = [{"stream": "events/a", "offset": "00000002"}]
        found = await settle(client, "sub", "ack", held, acks=acks, done=True)
        assert found.json == {"ok": True, "next_wake": False}
        await wakes(client, 1)


async def test_7_long_histories_are_replaced_by_their_sum(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("PUT", at("sub"), pull_wake())
        await append(client, "events/a", 1)
        held = await claim(client, "sub")
        acks = [{"stream": "events/a", "offset": "00000001"}]
        for _ in range(700):
            assert (await settle(client, "sub", "ack", held, acks=acks)).status == 200
        head = client.store.head(("__ds", "subscription/sub"))
        assert head.start > 0
        assert head.tail - head.start < 600
        before = (await client("GET", at("sub"))).json
    async with serving(tmp_path) as client:
        assert (await client("GET", at("sub"))).json == before
        assert (await settle(client, "sub", "ack", held, done=True)).status == 200


async def test_7_1_a_retry_waits_for_its_time_over_a_restart(tmp_path: Path) -> None:
    with Receiver((500, b""), (500, b""), DONE) as receiver:
        async with serving(tmp_path) as client:
            await client("PUT", at("sub"), webhook(receiver.url))
            await append(client, "events/a")
            for _ in range(2):
                await delivery(receiver)
            await until(client, "sub", lambda state: state.retries == 2)
            again_at_ms = client.service.context.subscriptions.get("sub").state.retry_at_ms
            assert again_at_ms is not None
            receiver.gate = threading.Event()
        async with serving(tmp_path) as client:
            assert (await client("GET", at("sub"))).json["status"] == "failed"
            await delivery(receiver)
            assert time.time() * 1000 >= again_at_ms
            receiver.gate.set()
            await until_acked(client, "sub", "events/a", "00000001")
