"""Cursors that make a cache ask again (protocol section 10.1)."""

from __future__ import annotations

import re
from typing import Final

EPOCH_S: Final = 1_728_432_000  # 2024-10-09T00:00:00Z
INTERVAL_S: Final = 20
JITTER_S_MAX: Final = 3600
_COMPANY_INTERVALS: Final = 1024
_DIGITS: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


def parse_cursor(text: str | None) -> int | None:
    """The client's echo of a cursor; None for anything this server cannot have minted."""
    if text is None or not _DIGITS.fullmatch(text):
        return None
    return int(text)


def company(client: int | None, present: int) -> int | None:
    """Equal for clients that can be answered with one cursor: that of the foremost of them.

    Who is behind the ``present`` interval gets that one, and so is one company. The others have
    been given jitter before, perhaps not the same, and none of them loses by going as far as
    the next; bounded, so that one who makes cursors up does not carry all others with it.
    """
    if client is None or client < present:
        return None
    return client // _COMPANY_INTERVALS


def next_cursor(now_s: float, client: int | None, jitter_s: int) -> int:
    """The cursor to answer with: this interval's number, always beyond the client's own.

    ``jitter_s`` is a random number of 1 to :data:`JITTER_S_MAX` seconds.
    """
    current = max(0, int((now_s - EPOCH_S) // INTERVAL_S))
    if client is None or client < current:
        return current
    return client + max(1, jitter_s // INTERVAL_S)
