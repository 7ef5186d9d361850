"""What the command is told about webhooks.

``--public-url``, ``--webhook-timeout`` and ``--webhooks-to-localhost``, with the real command as a
process, and a receiver beside it.
"""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest

from tests.server.cli_support import Server, run, serving
from tests.server.subscriptions.api import at, webhook
from tests.server.subscriptions.receiver import Delivery, Receiver, verify

KEY = {"x-api-key": "k"}
WITH_KEY = ["--api-key", "k"]
DONE = (200, b'{"done":true}')


def subscribe(server: Server, receiver: Receiver) -> httpx.Response:
    return httpx.put(server.url + at("sub"), json=webhook(receiver.url), headers=KEY)


def woken(server: Server, receiver: Receiver) -> Delivery:
    """What the webhook gets for one more event."""
    url = f"{server.url}/v1/stream/events/a"
    sent = KEY | {"content-type": "application/json"}
    assert httpx.put(url, headers=sent).status_code in (200, 201)
    assert httpx.post(url, json={"n": 1}, headers=sent).status_code == 204
    return receiver.next()


def test_webhooks_to_localhost_must_be_allowed_once_there_are_keys(tmp_path: Path) -> None:
    with Receiver(DONE) as receiver:
        with serving(tmp_path / "data", *WITH_KEY) as server:
            refused = subscribe(server, receiver)
            assert refused.status_code == 400
            assert refused.json()["error"]["code"] == "WEBHOOK_URL_REJECTED"
        with serving(tmp_path / "data", *WITH_KEY, "--webhooks-to-localhost") as server:
            assert subscribe(server, receiver).status_code == 201
            assert woken(server, receiver).json["callback_url"].startswith(server.url)


@pytest.mark.parametrize("given", ["https://events.example/base", "https://events.example/base/"])
def test_webhooks_are_told_the_public_url(tmp_path: Path, given: str) -> None:
    options = [*WITH_KEY, "--webhooks-to-localhost"]
    public = {"TAILRACE_PUBLIC_URL": given}
    told = "https://events.example/base"
    with Receiver(DONE) as receiver:
        with serving(tmp_path / "data", *options) as server:
            assert subscribe(server, receiver).status_code == 201
            assert woken(server, receiver).json["callback_url"].startswith(server.url)
        # It holds for subscriptions that were made before it was said, too.
        with serving(tmp_path / "data", *options, variables=public) as server:
            found = woken(server, receiver)
            assert found.json["callback_url"] == told + at("sub", "callback")
            seen = httpx.get(server.url + at("sub"), headers=KEY).json()
            assert seen["webhook"]["signing"]["jwks_url"].startswith(told + "/v1/stream/__ds/")
            jwks = httpx.get(f"{server.url}/v1/stream/__ds/jwks.json").json()
            assert verify(found, jwks)


def test_a_webhook_that_takes_longer_than_told_is_called_again(tmp_path: Path) -> None:
    options = [*WITH_KEY, "--webhooks-to-localhost", "--webhook-timeout", "0.2"]
    with Receiver(DONE) as receiver, serving(tmp_path / "data", *options) as server:
        receiver.gate = threading.Event()
        assert subscribe(server, receiver).status_code == 201
        first = woken(server, receiver)
        again = receiver.next()
        receiver.gate.set()
        assert again.json["wake_id"] == first.json["wake_id"]


def test_6_5_the_signing_key_is_rotated_while_the_server_is_down(tmp_path: Path) -> None:
    data = tmp_path / "data"
    rotate = ("rotate-webhook-key", "--data-dir", str(data))

    def kids(server: Server) -> list[str]:
        found = httpx.get(f"{server.url}/v1/stream/__ds/jwks.json").json()
        return [key["kid"] for key in found["keys"]]

    assert "is not a directory" in run(*rotate).stderr
    with Receiver(DONE) as receiver:
        with serving(data) as server:
            assert server.stop() == 0
        none = run(*rotate)
        assert none.returncode == 1 and "no webhook key yet" in none.stderr
        with serving(data) as server:
            assert subscribe(server, receiver).status_code == 201
            (old,) = kids(server)
            busy = run(*rotate)
            assert busy.returncode == 1 and "Traceback" not in busy.stderr
            assert server.stop() == 0
        done = run(*rotate)
        assert done.returncode == 0 and f"signing now: {old}" in done.stdout
        with serving(data) as server:
            assert len(kids(server)) == 2 and kids(server)[0] == old
            assert kids(server)[1] in done.stdout
            found = woken(server, receiver)
            assert verify(found, httpx.get(f"{server.url}/v1/stream/__ds/jwks.json").json())
            seen = httpx.get(server.url + at("sub")).json()
            assert seen["webhook"]["signing"]["kid"] == old
