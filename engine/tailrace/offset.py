"""Ordinal ↔ offset token.

A token is the ordinal in decimal, zero padded to eight digits. Longer ordinals get
a leading letter that says how many digits follow (``a`` nine, ``b`` ten, ...), so
that tokens sort as strings exactly as their ordinals do as numbers
(protocol section 8: opaque, lexicographically sortable, strictly increasing).

The reference server's own form (``<16 digits>_<16 digits>``) is read, never minted:
clients and the official test suite send its two extremes in fork headers.
"""

from __future__ import annotations

import re
from typing import Final

from tailrace.errors import InvalidArgument
from tailrace.limits import ORDINAL_MAX

_SHORT_DIGITS: Final = 8
_SHORT_END: Final = 10**_SHORT_DIGITS
_LETTERS: Final = "abcdefghijkl"  # 9 to 20 digits; ORDINAL_MAX has 19
_TOKEN_FORM: Final = r"[0-9]{8}|[a-l][1-9][0-9]{8,19}"
_FORM_OF_REFERENCE: Final = r"[0-9]{16}_[0-9]{16}"
_TOKEN: Final = re.compile(_TOKEN_FORM)
_REFERENCE_FORM: Final = re.compile(_FORM_OF_REFERENCE)

TOKEN_PATTERN: Final = f"^({_TOKEN_FORM}|{_FORM_OF_REFERENCE})$"
"""What every token that is read matches."""

assert len(str(ORDINAL_MAX)) <= _SHORT_DIGITS + len(_LETTERS)


def encode_offset(ordinal: int) -> str:
    """The token of ``ordinal`` (0 to :data:`ORDINAL_MAX`)."""
    if ordinal < _SHORT_END:
        assert ordinal >= 0
        return f"{ordinal:08d}"
    digits = str(ordinal)
    return _LETTERS[len(digits) - _SHORT_DIGITS - 1] + digits


def decode_offset(token: str) -> int:
    """The ordinal of ``token``; :class:`InvalidArgument` (field ``offset``) if it is not one.

    The sentinels ``-1`` and ``now`` are not tokens: the caller resolves them first.
    """
    if _TOKEN.fullmatch(token):
        if token[0] not in _LETTERS:
            return int(token)
        digits = token[1:]
        if _LETTERS[len(digits) - _SHORT_DIGITS - 1] == token[0]:
            return min(int(digits), ORDINAL_MAX)
    elif _REFERENCE_FORM.fullmatch(token):
        high, _, low = token.partition("_")
        return min(int(high) * 10**16 + int(low), ORDINAL_MAX)
    raise InvalidArgument("offset", f"{token[:64]!r} is not an offset this server issued")
