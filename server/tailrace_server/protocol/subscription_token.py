"""Callback and claim tokens (protocol sections 7.1 to 7.3 and 12.9).

``base64url(payload).base64url(HMAC-SHA256(payload))``. The payload names one subscription
(and, by its nonce, no later one with the same id), one generation, and when it expires.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

import msgspec

from tailrace_server.protocol.subscription_error import (
    TOKEN_EXPIRED,
    TOKEN_INVALID,
    SubscriptionError,
)

LIFETIME_S: Final = 24 * 3600
"""Leases and generations end a token's use much earlier; this ends what they might miss."""
TOKEN_CHARS_MAX: Final = 4096


class _Payload(msgspec.Struct, frozen=True):
    sub: str
    nonce: str
    generation: int
    exp: int


def base64url(raw: bytes) -> str:
    """Without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def make_token(key: bytes, subscription: str, nonce: str, generation: int, now_ms: int) -> str:
    payload = _Payload(subscription, nonce, generation, now_ms // 1000 + LIFETIME_S)
    body = base64url(msgspec.json.encode(payload))
    return f"{body}.{_seal(key, body)}"


def read_token(key: bytes, token: str, subscription: str, nonce: str, now_ms: int) -> int:
    """The generation of a token that this server made for this subscription.

    Raises TOKEN_INVALID or TOKEN_EXPIRED.
    """
    body, _, seal = token.partition(".")
    if len(token) > TOKEN_CHARS_MAX or not hmac.compare_digest(
        _seal(key, body).encode("ascii"), seal.encode("utf-8", "surrogatepass")
    ):
        raise _invalid()
    try:
        raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        payload = msgspec.json.decode(raw, type=_Payload)
    except (binascii.Error, msgspec.MsgspecError):
        raise _invalid() from None
    if (payload.sub, payload.nonce) != (subscription, nonce):
        raise _invalid()
    if now_ms // 1000 > payload.exp:
        raise SubscriptionError(TOKEN_EXPIRED, "the token has expired")
    return payload.generation


def bearer(value: str | None) -> str:
    """The token of an Authorization header."""
    scheme, _, token = (value or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise SubscriptionError(TOKEN_INVALID, "send the wake's token as 'Authorization: Bearer'")
    return token


def _seal(key: bytes, body: str) -> str:
    raw = body.encode("utf-8", "surrogatepass")
    return base64url(hmac.new(key, raw, hashlib.sha256).digest())


def _invalid() -> SubscriptionError:
    return SubscriptionError(TOKEN_INVALID, "the token is not one of this subscription")
