"""SIGKILL between any two steps: no wake is lost (protocol section 7)."""

from __future__ import annotations

import random
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server_process import FRONTS, ServerProcess, wait_until
from tests.e2e.wire import JSON, Client
from tests.server.subscriptions.receiver import Receiver

ROOT = "/v1/stream/__ds/subscriptions"
ROUNDS = 8
KILL_AFTER_S_MAX = 0.02


def put(client: Client, name: str, body: bytes) -> None:
    found = client.request("PUT", f"{ROOT}/{name}", body, JSON)
    assert found.status == 201, found


def webhook(url: str) -> bytes:
    return b'{"type":"webhook","pattern":"events/*","webhook":{"url":"%s"}}' % url.encode("ascii")


PULL_WAKE = b'{"type":"pull-wake","pattern":"events/*","wake_stream":"wake","lease_ttl_ms":60000}'


def links(server: ServerProcess, name: str) -> dict[str, str]:
    """The acknowledged offset of each of a subscription's streams."""
    with Client(server) as client:
        streams = client.get(f"{ROOT}/{name}").json()["streams"]
        return {stream["path"]: stream["acked_offset"] for stream in streams}


@pytest.mark.parametrize("front", FRONTS)
def test_7_1_killed_at_any_moment_every_append_reaches_the_webhook(
    tmp_path: Path, front: str
) -> None:
    moments = random.Random(7)
    server = ServerProcess(tmp_path / "data", front=front)
    with Receiver((200, b'{"done":true}')) as receiver, server:
        with Client(server) as client:
            put(client, "sub", webhook(receiver.url))
        for number in range(ROUNDS):
            with Client(server) as client:
                # Made and written in one step, so nothing but this tells of it.
                made = client.request("PUT", f"/v1/stream/events/{number}", b"[1,2]", JSON)
                assert made.status == 201
                assert client.post("/v1/stream/events/0", 3).status == 204
            time.sleep(moments.uniform(0, KILL_AFTER_S_MAX))
            server.kill()
            server.start()
        expected = {f"events/{number}": "00000002" for number in range(1, ROUNDS)}
        expected["events/0"] = f"{2 + ROUNDS:08d}"
        wait_until(lambda: links(server, "sub") == expected, "every append to be acknowledged")
        told = [receiver.next().json for _ in range(receiver.deliveries.qsize())]
        for earlier, later in pairwise(told):
            assert later["generation"] >= earlier["generation"]
            same = later["wake_id"] == earlier["wake_id"]
            assert same == (later["generation"] == earlier["generation"])
        last: dict[str, Any] = {}
        for delivery in told:
            last |= {info["path"]: info["tail_offset"] for info in delivery["streams"]}
        assert last == expected


def test_7_1_killed_while_the_webhook_works_it_is_called_again_for_the_same_wake(
    tmp_path: Path,
) -> None:
    server = ServerProcess(tmp_path / "data")
    gate = threading.Event()
    with Receiver((200, b'{"done":true}')) as receiver, server:
        receiver.gate = gate
        with Client(server) as client:
            put(client, "sub", webhook(receiver.url))
            client.request("PUT", "/v1/stream/events/a", b"[1]", JSON)
        first = receiver.next()
        server.kill()
        gate.set()
        server.start()
        second = receiver.next()
        assert second.json["wake_id"] == first.json["wake_id"]
        assert second.json["generation"] == first.json["generation"]
        wait_until(lambda: links(server, "sub") == {"events/a": "00000001"}, "the ack")


def test_7_2_killed_at_any_moment_each_wake_is_in_the_wake_stream_once(tmp_path: Path) -> None:
    moments = random.Random(11)
    server = ServerProcess(tmp_path / "data")
    with server:
        with Client(server) as client:
            assert client.request("PUT", "/v1/stream/wake", b"", JSON).status == 201
            put(client, "sub", PULL_WAKE)
            client.request("PUT", "/v1/stream/events/a", b"", JSON)
        for number in range(ROUNDS):
            generation = number + 1
            with Client(server) as client:
                assert client.post("/v1/stream/events/a", {"n": number}).status == 204
            time.sleep(moments.uniform(0, KILL_AFTER_S_MAX))
            server.kill()
            server.start()

            def woken(generation: int = generation) -> bool:
                with Client(server) as client:
                    found = [wake["generation"] for wake in client.get("/v1/stream/wake").json()]
                assert found == sorted(set(found))
                return found == list(range(1, generation + 1))

            wait_until(woken, f"wake {generation}")
            with Client(server) as client:
                held = client.post(f"{ROOT}/sub/claim", {"worker": "me"}).json()
                assert held["generation"] == generation
            server.kill()  # the lease, its token and the claim outlive the process
            server.start()
            with Client(server) as client:
                busy = client.post(f"{ROOT}/sub/claim", {"worker": "you"})
                acked = client.post(
                    f"{ROOT}/sub/ack",
                    {
                        "wake_id": held["wake_id"],
                        "generation": generation,
                        "acks": [{"stream": "events/a", "offset": f"{generation:08d}"}],
                        "done": True,
                    },
                    {"Authorization": f"Bearer {held['token']}"},
                )
            assert busy.json()["error"]["code"] == "ALREADY_CLAIMED"
            assert (acked.status, acked.json()) == (200, {"ok": True, "next_wake": False})
