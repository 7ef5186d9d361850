"""Making, reading, changing and deleting subscriptions (protocol section 6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace_server.keys import Key, Right
from tests.server.service_support import QUICK, serving
from tests.server.subscriptions.api import (
    JSON,
    ROOT,
    append,
    at,
    claim,
    code,
    pull_wake,
    settle,
    webhook,
)

URL = "https://worker.example/hooks"


async def test_6_2_created_confirmed_and_refused_with_another_configuration(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as client:
        body = webhook(URL, streams=["b", "/a/", "a"], description="d")
        made = await client("PUT", at("sub"), body, {"host": "127.0.0.1:99"})
        assert made.status == 201
        assert (await client("GET", at("sub"))).json == made.json
        same = webhook(URL, streams=["a", "b"], description="d", lease_ttl_ms=30_000)
        again = await client("PUT", at("sub"), same, {"host": "127.0.0.1:99"})
        assert (again.status, again.json) == (200, made.json)
        for other in (webhook(URL), pull_wake(), {**same, "lease_ttl_ms": 1000}):
            refused = await client("PUT", at("sub"), other)
            assert code(refused) == (409, "SUBSCRIPTION_ALREADY_EXISTS")
        assert (await client("GET", at("sub"))).json == made.json


async def test_6_3_a_subscription_as_it_is_read(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await append(client, "events/old", 2)
        await client("PUT", at("a%2Fb%20c"), webhook(URL), {"host": "localhost:1"})
        found = (await client("GET", at("a%2Fb%20c"))).json
        signing = found["webhook"].pop("signing")
        assert found.pop("created_at").endswith("Z")
        assert found == {
            "id": "a/b c",
            "subscription_id": "a/b c",
            "type": "webhook",
            "pattern": "events/*",
            "streams": [{"path": "events/old", "link_type": "glob", "acked_offset": "00000002"}],
            "webhook": {"url": URL},
            "wake_stream": None,
            "lease_ttl_ms": 30_000,
            "status": "active",
            "description": None,
        }
        assert signing["alg"] == "ed25519"
        assert signing["jwks_url"] == "http://localhost:1/v1/stream/__ds/jwks.json"
        jwks = await client("GET", f"{ROOT}/jwks.json")
        assert jwks.headers["content-type"] == "application/jwk-set+json"
        assert jwks.headers["cache-control"] == "public, max-age=300"
        (key,) = jwks.json["keys"]
        assert key["kid"] == signing["kid"]
        assert "d" not in key


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        {},
        {"type": "email", "pattern": "a"},
        {"type": "webhook", "webhook": {"url": URL}},
        {"type": "webhook", "streams": [], "webhook": {"url": URL}},
        {"type": "webhook", "pattern": "a"},
        {"type": "webhook", "pattern": "a", "webhook": {}},
        {"type": "pull-wake", "pattern": "a"},
        webhook(URL, lease_ttl_ms=999),
        webhook(URL, lease_ttl_ms=600_001),
        webhook(URL, lease_ttl_ms=1000.5),
        webhook(URL, lease_ttl_ms="1000"),
        webhook(URL, streams=[1]),
        webhook(URL, streams=["../x"]),
        webhook(URL, streams=["__ds/subscriptions/x"]),
        webhook(URL, streams=["a" * 1025]),
        webhook(URL, pattern="/".join("*" * 65)),
        pull_wake(wake_stream="a\nb"),
    ],
)
async def test_6_2_configurations_that_are_none(tmp_path: Path, body: object) -> None:
    async with serving(tmp_path) as client:
        assert code(await client("PUT", at("sub"), body, JSON)) == (400, "INVALID_REQUEST")
        assert (await client("GET", at("sub"))).status == 404


async def test_6_2_webhooks_on_this_machine_are_for_development(tmp_path: Path) -> None:
    local = webhook("http://localhost:1/")
    async with serving(tmp_path / "a") as client:
        assert (await client("PUT", at("sub"), local)).status == 201
        private = await client("PUT", at("x"), webhook("http://10.0.0.1/"))
        assert code(private) == (400, "WEBHOOK_URL_REJECTED")
    key = {"x-api-key": "k"}
    async with serving(tmp_path / "b", keys=["k"]) as client:
        refused = await client("PUT", at("sub"), local, key)
        assert code(refused) == (400, "WEBHOOK_URL_REJECTED")


async def test_6_3_deleting_ends_it_for_those_who_work_on_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("PUT", at("sub"), pull_wake())
        await append(client, "events/a")
        held = await claim(client, "sub")
        assert (await client("DELETE", at("sub"))).status == 204
        assert (await client("DELETE", at("sub"))).status == 204
        for action in ("ack", "release"):
            found = await settle(client, "sub", action, held, done=True)
            assert code(found) == (404, "SUBSCRIPTION_NOT_FOUND")
        # Made again it is another one: the old token is not its own.
        assert (await client("PUT", at("sub"), pull_wake())).status == 201
        assert code(await settle(client, "sub", "ack", held)) == (401, "TOKEN_INVALID")


async def test_6_4_explicit_links_come_and_go_beside_the_pattern(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await append(client, "events/a", 3)
        await append(client, "other", 2)
        await client("PUT", at("sub"), pull_wake())

        async def links() -> list[tuple[str, str, str]]:
            found = (await client("GET", at("sub"))).json["streams"]
            return [(s["path"], s["link_type"], s["acked_offset"]) for s in found]

        body = {"streams": ["other", "events/a", "not/there"]}
        for _ in range(2):
            assert (await client("POST", at("sub", "streams"), body)).status == 204
            assert await links() == [
                ("events/a", "explicit", "00000003"),
                ("not/there", "explicit", "00000000"),
                ("other", "explicit", "00000002"),
            ]
        for path in ("other", "events%2Fa", "not/there", "not/there"):
            assert (await client("DELETE", at("sub", f"streams/{path}"))).status == 204
        assert await links() == [("events/a", "glob", "00000003")]
        assert code(await client("POST", at("sub", "streams"), {"streams": []}))[0] == 400
        assert (await client("POST", at("none", "streams"), body)).status == 404


async def test_6_control_paths_are_no_streams(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for path in ("__ds", "__ds/x", "__ds/subscriptions", "__ds/keys"):
            assert (await client("PUT", f"/v1/stream/{path}", b"x")).status == 404
            assert (await client("GET", f"/v1/stream/{path}")).status == 404
        assert (await client("PATCH", at("x"))).status == 405
        assert (await client("PUT", f"{ROOT}/jwks.json")).status == 405


async def test_12_the_secret_keys_cannot_be_read_through_a_fork(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("GET", f"{ROOT}/jwks.json")
        for source in ("/ds/__ds/keys", "/ds/%5F%5Fds/keys"):
            forked = await client("PUT", "/v1/stream/mine", b"", {"stream-forked-from": source})
            assert forked.status == 404


async def test_12_1_what_keys_may_do(tmp_path: Path) -> None:
    keys = [
        Key("all"),
        Key("reads", frozenset({Right.READ})),
        Key("appends", frozenset({Right.APPEND})),
        Key("one", sessions=("s",)),
    ]

    def by(key: str) -> dict[str, str]:
        return {"x-api-key": key}

    async with serving(tmp_path, keys=keys, config=QUICK) as client:
        for key in ("reads", "appends", "one"):
            assert (await client("PUT", at("sub"), pull_wake(), by(key))).status == 404
        assert (await client("PUT", at("sub"), pull_wake())).status == 401
        assert (await client("PUT", at("sub"), pull_wake(), by("all"))).status == 201
        assert (await client("GET", at("sub"), b"", by("reads"))).status == 200
        assert (await client("GET", at("sub"), b"", by("one"))).status == 404
        assert (await client("DELETE", at("sub"), b"", by("reads"))).status == 404
        assert (await client("GET", f"{ROOT}/jwks.json")).status == 200
        for key, status in (("reads", 404), ("one", 404), ("appends", 409)):
            found = await client("POST", at("sub", "claim"), {"worker": "w"}, by(key))
            assert found.status == status
        await client("PUT", "/v1/stream/events/a", b"[1]", JSON | by("all"))
        held = (await client("POST", at("sub", "claim"), {"worker": "w"}, by("appends"))).json
        # The wake's token is all that an ack takes.
        assert (await settle(client, "sub", "ack", held, done=True)).status == 200
        bad = held | {"token": "x.y"}
        assert code(await settle(client, "sub", "ack", bad)) == (401, "TOKEN_INVALID")
