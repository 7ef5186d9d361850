"""Signatures, the JWK Set and tokens (protocol sections 6.5, 7.1 and 12.9)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_server.protocol.subscription_error import SubscriptionError
from tailrace_server.protocol.subscription_keys import (
    JWKS_FRESH_S,
    PUBLISHED_AFTER_S,
    PUBLISHED_BEFORE_S,
    Keys,
    SigningKey,
)
from tailrace_server.protocol.subscription_token import LIFETIME_S, bearer, make_token, read_token
from tests.server.subscriptions.receiver import Delivery, verify

KEY = b"k" * 32


def shown(keys: Keys, now_s: int) -> list[str]:
    return [key["kid"] for key in keys.jwks(now_s)["keys"]]


def test_7_1_the_signature_covers_the_time_and_the_exact_body() -> None:
    keys = Keys([Keys.first(0)])
    body, jwks = b'{"a": 1}', keys.jwks(0)
    signature = keys.signature(body, 1_700_000_000)
    assert signature.startswith(f"t=1700000000,kid={keys.newest.kid},ed25519=")
    assert verify(Delivery("/", {"webhook-signature": signature}, body), jwks)
    assert not verify(Delivery("/", {"webhook-signature": signature}, body + b" "), jwks)
    later = signature.replace("t=1700000000", "t=1700000001")
    assert not verify(Delivery("/", {"webhook-signature": later}, body), jwks)


def test_6_5_the_kid_is_the_key_s_thumbprint() -> None:
    # RFC 8037 appendix A: its private key, public key and thumbprint.
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = SigningKey(seed, 0).jwk()
    assert key["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert key["kid"] == "ds_kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_6_5_no_secret_is_shown() -> None:
    record = Keys.first(0)
    stored = json.loads(record)
    told = json.dumps(Keys([record]).jwks(0))
    assert stored["ed25519_seed"] not in told and stored["token_key"] not in told


def test_6_5_a_record_without_a_time_is_a_first_key() -> None:
    stored = json.loads(Keys.first(1_000))
    del stored["made_at_s"]
    assert len(shown(Keys([json.dumps(stored).encode()]), 0)) == 1


def test_6_5_a_new_key_is_published_before_it_signs_and_the_old_one_after() -> None:
    first = Keys.first(1_000)
    old = Keys([first]).newest.kid
    keys = Keys([first, Keys([first]).next(2_000)])
    new = keys.newest.kid
    begins = 2_000 + PUBLISHED_BEFORE_S
    ends = begins + PUBLISHED_AFTER_S
    for now_s, signs, published in (
        (2_000, old, [old, new]),
        (begins - 1, old, [old, new]),
        (begins, new, [old, new]),
        (ends - 1, new, [old, new]),
        (ends, new, [new]),
    ):
        assert f"kid={signs}," in keys.signature(b"", now_s)
        assert shown(keys, now_s) == published
        assert keys.active(now_s).kid == signs
    assert keys.token_key == Keys([first]).token_key, "tokens in use stay good"


@given(st.lists(st.integers(0, 3 * PUBLISHED_AFTER_S), min_size=1, max_size=6))
def test_6_5_what_signs_is_published_until_nobody_looks_at_it(pauses: list[int]) -> None:
    records, now_s = [Keys.first(0)], 0
    signed: list[tuple[int, str]] = []
    known: list[tuple[int, list[str]]] = []
    for pause in pauses:
        for step in range(0, pause + 1, JWKS_FRESH_S):
            keys = Keys(records)
            at_s = now_s + step
            kid = keys.active(at_s).kid
            signed.append((at_s, kid))
            known.append((at_s, shown(keys, at_s)))
            assert kid in shown(keys, at_s)
            for before_s, kids in known:
                assert at_s - before_s > JWKS_FRESH_S or kid in kids, "a cached set lacks it"
            for before_s, used in signed:
                if at_s - before_s < PUBLISHED_AFTER_S:
                    assert used in shown(keys, at_s), "signed lately, and not published"
        now_s += pause
        keys = Keys(records)
        records.append(keys.next(now_s))
        records = records[keys.unpublished(now_s) :]


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
