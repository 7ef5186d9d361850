"""Webhooks over TLS, on an internet of the test's own (protocol sections 7.1 and 12.8)."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace_server.metrics import WebhookFailure
from tailrace_server.protocol.subscription_url import webhook_url
from tailrace_server.subscriptions import webhook as calling
from tailrace_server.subscriptions.webhook import DeliveryFailed, post
from tests.server.service_support import Client, serving
from tests.server.subscriptions import ed25519
from tests.server.subscriptions.api import ROOT, append, at, delivery, until, webhook
from tests.server.subscriptions.internet import HTTPS, Authority, Internet
from tests.server.subscriptions.receiver import Delivery, Receiver, decode

HOOK = "https://hooks.example/hook"
PLACE = "93.184.216.34"
OTHER = "93.184.216.35"
DONE = (200, b'{"done":true}')


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Authority]:
    """One that this process trusts, as an operator's own would be."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    calling._tls.cache_clear()
    yield made
    calling._tls.cache_clear()


async def signed(client: Client, found: Delivery) -> bool:
    """Whether the delivery is signed as section 7.1 says, by nothing of ours but the JWK Set."""
    keys = (await client("GET", f"{ROOT}/jwks.json")).json["keys"]
    match = re.fullmatch(
        r"t=([0-9]+),kid=([^,]+),ed25519=([^,]+)", found.headers["webhook-signature"]
    )
    assert match is not None
    (public,) = [decode(key["x"]) for key in keys if key["kid"] == match[2]]
    whole = match[1].encode() + b"." + found.body
    assert not ed25519.verify(public, whole + b" ", decode(match[3]))
    return ed25519.verify(public, whole, decode(match[3]))


async def metrics(client: Client) -> dict[str, float]:
    lines = (await client("GET", "/metrics")).body.decode().splitlines()
    return {
        name.removeprefix("tailrace_webhook_"): float(value)
        for name, _, value in (line.rpartition(" ") for line in lines)
        if name.startswith("tailrace_webhook_")
    }


def test_the_verifier_holds_to_rfc_8032() -> None:
    """Section 7.1, TEST 2, and each of its bytes changed."""
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert ed25519.verify(public, b"\x72", signature)
    for number in range(0, 64, 7):
        bad = bytearray(signature)
        bad[number] ^= 1
        assert not ed25519.verify(public, b"\x72", bytes(bad))


async def test_7_1_a_webhook_over_tls_is_signed(tmp_path: Path, authority: Authority) -> None:
    with Receiver(DONE, tls=authority.serve("hooks.example")) as receiver:
        internet = Internet({PLACE: receiver.port}, [PLACE])
        async with serving(tmp_path / "data") as client:
            internet.install()
            assert (await client("PUT", at("sub"), webhook(HOOK))).status == 201
            await append(client, "events/a")
            found = await delivery(receiver)
            assert found.headers["host"] == "hooks.example"
            assert await signed(client, found)
            await until(client, "sub", lambda state: state.wake is None)
            told = await metrics(client)
    assert internet.connected == [(PLACE, HTTPS)]
    assert told["deliveries_total"] == told["seconds_count"] == 1
    assert told["backlog"] == told["retries_total"] == 0


@pytest.mark.parametrize("wrong", ["authority", "host", "address", "time"])
async def test_7_1_a_certificate_that_does_not_hold_is_a_failed_delivery(
    tmp_path: Path, authority: Authority, wrong: str
) -> None:
    shown: dict[str, ssl.SSLContext] = {
        "authority": Authority(tmp_path, "unknown").serve("hooks.example"),
        "host": authority.serve("hooks.example.net"),
        "address": authority.serve(PLACE),
        "time": authority.serve("hooks.example", age_days=20),
    }
    with Receiver(DONE, tls=shown[wrong]) as receiver:
        internet = Internet({PLACE: receiver.port}, [PLACE])
        internet.install()
        url = webhook_url(HOOK, local_allowed=False)
        with pytest.raises(DeliveryFailed, match="certificate") as caught:
            await post(url, b"{}", "signature", timeout_s=10)
        assert caught.value.kind is WebhookFailure.TLS
        assert receiver.deliveries.empty()


async def test_7_1_a_failed_certificate_is_tried_again_until_it_holds(
    tmp_path: Path, authority: Authority
) -> None:
    unknown = Authority(tmp_path, "unknown").serve("hooks.example")
    with (
        Receiver(DONE, tls=unknown) as bad,
        Receiver(DONE, tls=authority.serve("hooks.example")) as good,
    ):
        good.gate = threading.Event()
        internet = Internet({PLACE: bad.port, OTHER: good.port}, [PLACE], [OTHER])
        async with serving(tmp_path / "data") as client:
            internet.install()
            await client("PUT", at("sub"), webhook(HOOK))
            await append(client, "events/a")
            await until(client, "sub", lambda state: state.retries == 1)
            waiting = await metrics(client)
            assert waiting["backlog"] == waiting['failures_total{kind="tls"}'] == 1
            assert (await client("GET", at("sub"))).json["status"] == "failed"
            good.gate.set()
            assert await signed(client, await delivery(good))
            await until(client, "sub", lambda state: state.wake is None)
            told = await metrics(client)
        assert bad.deliveries.empty()
    assert internet.connected == [(PLACE, HTTPS), (OTHER, HTTPS)]
    assert told["deliveries_total"] == told["retries_total"] == 1
    assert told['failures_total{kind="tls"}'] == 1
    assert told["seconds_count"] == 2 and told["backlog"] == 0


async def test_7_3_a_call_that_outlasts_its_lease_is_counted_once(
    tmp_path: Path, authority: Authority
) -> None:
    with Receiver(DONE, tls=authority.serve("hooks.example")) as receiver:
        receiver.gate = threading.Event()
        internet = Internet({PLACE: receiver.port}, [PLACE])
        async with serving(tmp_path / "data") as client:
            internet.install()
            await client("PUT", at("sub"), webhook(HOOK, lease_ttl_ms=1000))
            await append(client, "events/a")
            first, second = (await delivery(receiver)).json, (await delivery(receiver)).json
            assert second["generation"] == first["generation"] + 1
            told = await metrics(client)
            assert told['failures_total{kind="superseded"}'] == told["seconds_count"] >= 1
            receiver.gate.set()
            await until(client, "sub", lambda state: state.wake is None and state.retries == 0)
            told = await metrics(client)
            superseded = 1 + receiver.deliveries.qsize()  # more if it took a lease to set a gate
            assert told['failures_total{kind="superseded"}'] == superseded
            assert told["deliveries_total"] == 1
            assert told["retries_total"] == superseded
            assert told["seconds_count"] == superseded + 1


async def test_12_8_a_redirect_is_a_failed_delivery_and_not_followed(
    tmp_path: Path, authority: Authority
) -> None:
    with Receiver((307, b""), DONE, tls=authority.serve("hooks.example")) as receiver:
        internet = Internet({PLACE: receiver.port}, [PLACE])
        async with serving(tmp_path / "data") as client:
            internet.install()
            await client("PUT", at("sub"), webhook(HOOK))
            await append(client, "events/a")
            first = await delivery(receiver)
            again = await delivery(receiver)
            assert (first.path, again.path) == ("/hook", "/hook")
            await until(client, "sub", lambda state: state.wake is None)
            told = await metrics(client)
    assert internet.connected == [(PLACE, HTTPS)] * 2
    assert told['failures_total{kind="status"}'] == told["deliveries_total"] == 1


@pytest.mark.parametrize("inside", ["127.0.0.1", "10.0.0.1", "169.254.169.254"])
async def test_12_8_a_name_that_turns_inside_later_is_not_followed_there(
    tmp_path: Path, authority: Authority, inside: str
) -> None:
    """DNS rebinding: the name was public when the webhook was made and first called."""
    with Receiver(DONE, tls=authority.serve("hooks.example")) as receiver:
        routes = {PLACE: receiver.port, inside: receiver.port}
        internet = Internet(routes, [PLACE], [PLACE, inside], [inside], [PLACE])
        async with serving(tmp_path / "data") as client:
            internet.install()
            await client("PUT", at("sub"), webhook(HOOK))
            await append(client, "events/a")
            await delivery(receiver)
            await until(client, "sub", lambda state: state.wake is None)
            await append(client, "events/a")
            await delivery(receiver)
            await until(client, "sub", lambda state: state.wake is None)
            told = await metrics(client)
    assert internet.connected == [(PLACE, HTTPS)] * 2, "elsewhere nobody even tried"
    assert told['failures_total{kind="refused"}'] == told["deliveries_total"] == 2
