"""The key that signs webhooks, and its public face (protocol sections 6.5 and 7.1)."""

from __future__ import annotations

import hashlib
import secrets
from functools import cached_property
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tailrace_server.protocol.subscription_token import base64url

SEED_BYTES: Final = 32


class _Stored(msgspec.Struct, frozen=True):
    """Both secrets, as kept: base64 by msgspec."""

    ed25519_seed: bytes
    token_key: bytes


class Keys:
    """The server's two secrets: an Ed25519 key for webhooks, an HMAC key for tokens."""

    def __init__(self, ed25519_seed: bytes, token_key: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(ed25519_seed)
        self._seed = ed25519_seed
        self.token_key: Final = token_key

    @classmethod
    def generate(cls) -> Keys:
        return cls(secrets.token_bytes(SEED_BYTES), secrets.token_bytes(SEED_BYTES))

    @classmethod
    def decode(cls, record: bytes | memoryview) -> Keys:
        stored = msgspec.json.decode(record, type=_Stored)
        return cls(stored.ed25519_seed, stored.token_key)

    def encode(self) -> bytes:
        return msgspec.json.encode(_Stored(self._seed, self.token_key))

    @cached_property
    def _x(self) -> str:
        raw = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base64url(raw)

    @cached_property
    def kid(self) -> str:
        """``ds_`` and the key's thumbprint (RFC 7638, RFC 8037): the same as long as the key."""
        members = f'{{"crv":"Ed25519","kty":"OKP","x":"{self._x}"}}'
        return "ds_" + base64url(hashlib.sha256(members.encode("ascii")).digest())

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The JSON Web Key Set that receivers verify with."""
        key = {"kty": "OKP", "crv": "Ed25519", "x": self._x, "kid": self.kid}
        return {"keys": [key | {"use": "sig", "alg": "EdDSA"}]}

    def signature(self, body: bytes, now_s: int) -> str:
        """The header value for ``body``, the exact bytes that are sent."""
        signed = self._private.sign(f"{now_s}.".encode("ascii") + body)
        return f"t={now_s},kid={self.kid},ed25519={base64url(signed)}"
