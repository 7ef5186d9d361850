"""The keys that sign webhooks, and their public face (protocol sections 6.5 and 7.1).

Each is one record, the newest last. A new key is published at once but signs only once every
copy of the JWK Set that a cache may keep has it; the one before stays published after that for
as long as a receiver may look at what it signed. All of it follows from the records and the
time, so nothing has to be done at those moments, and none is missed.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from functools import cached_property
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tailrace_server.protocol.subscription_token import base64url

SEED_BYTES: Final = 32
JWKS_FRESH_S: Final = 300
"""How long caches may keep the JWK Set."""
PUBLISHED_BEFORE_S: Final = 2 * JWKS_FRESH_S
"""How long a new key is published before it signs."""
PUBLISHED_AFTER_S: Final = 3600
"""How long a key is published after its last signature: receivers refuse those of more than
some minutes ago (section 7.1)."""


class _Stored(msgspec.Struct, frozen=True):
    """A record: secrets in base64 by msgspec. ``token_key`` is the same in all of them."""

    ed25519_seed: bytes
    token_key: bytes
    made_at_s: int = 0


class SigningKey:
    """One Ed25519 key, that signs from ``begins_s`` on until a newer one does."""

    def __init__(self, seed: bytes, begins_s: int) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.begins_s: Final = begins_s

    @cached_property
    def _x(self) -> str:
        raw = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64url(raw)

    @cached_property
    def kid(self) -> str:
        """``ds_`` and the key's thumbprint (RFC 7638, RFC 8037): the same as long as the key."""
        members = f'{{"crv":"Ed25519","kty":"OKP","x":"{self._x}"}}'
        return "ds_" + base64url(hashlib.sha256(members.encode("ascii")).digest())

    def jwk(self) -> dict[str, str]:
        key = {"kty": "OKP", "crv": "Ed25519", "x": self._x, "kid": self.kid}
        return key | {"use": "sig", "alg": "EdDSA"}

    def sign(self, message: bytes) -> str:
        return base64url(self._private.sign(message))


class Keys:
    """The server's secrets: Ed25519 keys for webhooks, one HMAC key for tokens."""

    def __init__(self, records: Sequence[bytes | memoryview]) -> None:
        """``records`` are what :meth:`first` and :meth:`next` made, one at least."""
        stored = [msgspec.json.decode(record, type=_Stored) for record in records]
        self.token_key: Final = stored[-1].token_key
        self._signing = [
            SigningKey(one.ed25519_seed, one.made_at_s + PUBLISHED_BEFORE_S if number else 0)
            for number, one in enumerate(stored)
        ]

    @staticmethod
    def first(now_s: int) -> bytes:
        """The record of a new server's secrets."""
        return _record(secrets.token_bytes(SEED_BYTES), now_s)

    def next(self, now_s: int) -> bytes:
        """The record of a new key for webhooks."""
        return _record(self.token_key, now_s)

    def _active(self, now_s: int) -> int:
        begun = (n for n, key in enumerate(self._signing) if now_s >= key.begins_s)
        return max(begun, default=0)

    def active(self, now_s: int) -> SigningKey:
        """The key that signs now."""
        return self._signing[self._active(now_s)]

    @property
    def newest(self) -> SigningKey:
        return self._signing[-1]

    def unpublished(self, now_s: int) -> int:
        """How many of the oldest nobody needs any more."""
        ends = [key.begins_s + PUBLISHED_AFTER_S for key in self._signing[1:]]
        return sum(now_s >= end for end in ends[: self._active(now_s)])

    def jwks(self, now_s: int) -> dict[str, list[dict[str, str]]]:
        """The JSON Web Key Set that receivers verify with."""
        return {"keys": [key.jwk() for key in self._signing[self.unpublished(now_s) :]]}

    def signature(self, body: bytes, now_s: int) -> str:
        """The header value for ``body``, the exact bytes that are sent."""
        key = self.active(now_s)
        signed = key.sign(f"{now_s}.".encode("ascii") + body)
        return f"t={now_s},kid={key.kid},ed25519={signed}"


def _record(token_key: bytes, now_s: int) -> bytes:
    return msgspec.json.encode(_Stored(secrets.token_bytes(SEED_BYTES), token_key, now_s))
