"""Verifying Ed25519 signatures by RFC 8032 section 5.1 alone: nothing of the library that signs.

Slow and not for secrets: it only ever sees what is public.
"""

from __future__ import annotations

import hashlib
from typing import Final

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ROOT: Final = pow(2, (_P - 1) // 4, _P)

Point = tuple[int, int]
_ZERO: Final[Point] = (0, 1)


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is one of ``message`` by the key ``public``."""
    key, r = _decode(public), _decode(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if key is None or r is None or len(signature) != 64 or s >= _ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    k = int.from_bytes(digest, "little") % _ORDER
    return _times(s, _BASE) == _add(r, _times(k, key))


def _add(a: Point, b: Point) -> Point:
    cross = _D * a[0] * b[0] * a[1] * b[1]
    x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + cross, -1, _P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - cross, -1, _P)
    return x % _P, y % _P


def _times(scalar: int, point: Point) -> Point:
    total = _ZERO
    while scalar:
        if scalar & 1:
            total = _add(total, point)
        point = _add(point, point)
        scalar >>= 1
    return total


def _decode(encoded: bytes) -> Point | None:
    """Section 5.1.3: y, and the lowest bit of x."""
    y = int.from_bytes(encoded, "little")
    odd, y = y >> 255, y & (2**255 - 1)
    if len(encoded) != 32 or y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if x * x % _P != square:
        x = x * _ROOT % _P
    if x * x % _P != square or (x == 0 and odd):
        return None
    return (x if x & 1 == odd else _P - x), y


def _base() -> Point:
    found = _decode((4 * pow(5, -1, _P) % _P).to_bytes(32, "little"))
    assert found is not None
    return found


_BASE: Final = _base()
