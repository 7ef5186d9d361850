"""Subscriptions as a client of the service uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from tailrace_server.protocol.subscription_state import State
from tests.server.service_support import Client, Got
from tests.server.subscriptions.receiver import PATIENCE_S, Delivery, Receiver

ROOT = "/v1/stream/__ds"
JSON = {"content-type": "application/json"}


def at(name: str, action: str = "") -> str:
    return f"{ROOT}/subscriptions/{name}" + (f"/{action}" if action else "")


def webhook(url: str, **more: object) -> dict[str, object]:
    return {"type": "webhook", "pattern": "events/*", "webhook": {"url": url}} | more


def pull_wake(**more: object) -> dict[str, object]:
    return {"type": "pull-wake", "pattern": "events/*", "wake_stream": "wake/pool"} | more


async def append(client: Client, path: str, count: int = 1) -> None:
    """Append to a stream, which is made if it is missing."""
    await client("PUT", f"/v1/stream/{path}", b"", JSON)
    for number in range(count):
        found = await client("POST", f"/v1/stream/{path}", {"n": number}, JSON)
        assert found.status == 204


async def delivery(receiver: Receiver) -> Delivery:
    return await trio.to_thread.run_sync(receiver.next)


async def wakes(client: Client, count: int, path: str = "wake/pool") -> list[Any]:
    """The events of a wake stream, once there are ``count``."""
    with trio.fail_after(PATIENCE_S):
        while True:
            found = await client("GET", f"/v1/stream/{path}")
            assert found.status == 200
            if len(found.json) >= count:
                assert len(found.json) == count
                return list(found.json)
            await trio.sleep(0.01)


async def until_acked(client: Client, name: str, path: str, offset: str) -> None:
    with trio.fail_after(PATIENCE_S):
        while True:
            streams = (await client("GET", at(name))).json["streams"]
            if any(s["path"] == path and s["acked_offset"] == offset for s in streams):
                return
            await trio.sleep(0.01)


async def until(client: Client, name: str, holds: Callable[[State], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while True:
            if holds(client.service.context.subscriptions.get(name).state):
                return
            await trio.sleep(0.005)


async def claim(client: Client, name: str, worker: str = "me") -> Any:
    found = await client("POST", at(name, "claim"), {"worker": worker})
    assert found.status == 200, found
    return found.json


async def settle(client: Client, name: str, action: str, held: Any, **more: object) -> Got:
    """A callback, ack or release of a wake: what a claim or a webhook was told of it."""
    token = held.get("token") or held["callback_token"]
    body = {"wake_id": held["wake_id"], "generation": held["generation"]} | more
    return await client(
        "POST", at(name, action), body, {**JSON, "authorization": f"Bearer {token}"}
    )


def code(found: Got) -> tuple[int, str]:
    return found.status, found.json["error"]["code"]
