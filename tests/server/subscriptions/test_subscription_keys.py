"""Signatures, the JWK Set and tokens (protocol sections 6.5, 7.1 and 12.9)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_server.protocol.subscription_error import SubscriptionError
from tailrace_server.protocol.subscription_keys import Keys
from tailrace_server.protocol.subscription_token import LIFETIME_S, bearer, make_token, read_token
from tests.server.subscriptions.receiver import Delivery, verify

KEY = b"k" * 32


def test_7_1_the_signature_covers_the_time_and_the_exact_body() -> None:
    keys = Keys.generate()
    body = b'{"a": 1}'
    signature = keys.signature(body, 1_700_000_000)
    assert signature.startswith(f"t=1700000000,kid={keys.kid},ed25519=")
    assert verify(Delivery("/", {"webhook-signature": signature}, body), keys.jwks())
    assert not verify(Delivery("/", {"webhook-signature": signature}, body + b" "), keys.jwks())
    later = signature.replace("t=1700000000", "t=1700000001")
    assert not verify(Delivery("/", {"webhook-signature": later}, body), keys.jwks())


def test_6_5_the_kid_is_the_key_s_thumbprint() -> None:
    # RFC 8037 appendix A: its private key, public key and thumbprint.
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    keys = Keys(seed, KEY)
    (key,) = keys.jwks()["keys"]
    assert key["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert key["kid"] == "ds_kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_6_5_keys_are_the_same_after_they_were_kept() -> None:
    keys = Keys.generate()
    again = Keys.decode(keys.encode())
    assert (again.jwks(), again.token_key) == (keys.jwks(), keys.token_key)
    secret = json.loads(keys.encode())["ed25519_seed"]
    assert secret not in json.dumps(keys.jwks())


def test_12_9_a_token_is_for_one_subscription_and_generation() -> None:
    token = make_token(KEY, "sub", "nonce", 7, 0)
    assert read_token(KEY, token, "sub", "nonce", 0) == 7
    for key, name, nonce in ((b"x" * 32, "sub", "nonce"), (KEY, "s", "nonce"), (KEY, "sub", "m")):
        with pytest.raises(SubscriptionError) as refused:
            read_token(key, token, name, nonce, 0)
        assert (refused.value.status, refused.value.type) == (401, "TOKEN_INVALID")


def test_12_9_a_token_expires() -> None:
    token = make_token(KEY, "sub", "nonce", 7, 0)
    with pytest.raises(SubscriptionError) as refused:
        read_token(KEY, token, "sub", "nonce", (LIFETIME_S + 1) * 1000)
    assert (refused.value.status, refused.value.type) == (401, "TOKEN_EXPIRED")


@given(st.text(), st.integers(0, 200), st.characters())
def test_12_9_no_forged_token_is_taken(text: str, place: int, character: str) -> None:
    token = make_token(KEY, "sub", "nonce", 7, 0)
    changed = token[:place] + character + token[place + 1 :]
    for forged in (text, changed, text + "." + text):
        if forged != token:
            with pytest.raises(SubscriptionError):
                read_token(KEY, forged, "sub", "nonce", 0)


@pytest.mark.parametrize("value", [None, "", "Bearer", "Bearer ", "Basic abc", "abc"])
def test_12_9_tokens_come_in_the_authorization_header(value: str | None) -> None:
    with pytest.raises(SubscriptionError):
        bearer(value)
    assert bearer("bearer abc ") == "abc"
