"""Event ids: ``evt_`` and a ULID that grows with the session.

A ULID's 128 bits are filled with 48 bits of the event's time in milliseconds, 40 bits of
its ordinal and 40 random bits. Time never goes back within a session and ordinals grow, so
ids sort as events do; the random bits keep ids of different sessions apart.
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import Final

from ulid import base32

PREFIX: Final = b"evt_"
_ORDINAL_MASK: Final = (1 << 40) - 1
_PAIRS: Final = tuple(
    (high + low).encode("ascii") for high in base32.ENCODE for low in base32.ENCODE
)


def encode_40_bits(number: int) -> bytes:
    """Forty bits as eight characters of the ULID alphabet."""
    return (
        _PAIRS[number >> 30 & 1023]
        + _PAIRS[number >> 20 & 1023]
        + _PAIRS[number >> 10 & 1023]
        + _PAIRS[number & 1023]
    )


def random_parts(count: int) -> list[bytes]:
    """The random eight characters of ``count`` ids, made before the store's lock is held.

    They keep ids apart; they are no secret. The kernel's own source would cost a system call,
    in which other threads take the interpreter, for every append.
    """
    return [encode_40_bits(random.getrandbits(40)) for _ in range(count)]


@lru_cache(maxsize=256)
def time_part(at_ms: int) -> bytes:
    """The prefix and the ten characters that ids of one commit share."""
    return PREFIX + base32.encode_timestamp(at_ms.to_bytes(6)).encode("ascii")


def ordinal_part(ordinal: int) -> bytes:
    return encode_40_bits(ordinal & _ORDINAL_MASK)
