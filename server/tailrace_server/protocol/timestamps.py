"""RFC 3339 times ↔ numbers since the Unix epoch."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from tailrace_server.protocol.errors import bad_request

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+\- ]\d\d:\d\d)", re.ASCII
)
NS_PER_MS: Final = 1_000_000
_YEAR_9999_MS: Final = 253_402_300_799_999


def format_ms(at_ms: int) -> str:
    """``at_ms`` as RFC 3339 in UTC with milliseconds: ``2026-04-15T14:32:19.421Z``."""
    seconds, milliseconds = divmod(min(max(at_ms, 0), _YEAR_9999_MS), 1000)
    return f"{_to_the_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=256)
def _to_the_second(seconds: int) -> str:
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}"


def parse_ns(text: str, field: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time; finer digits are dropped."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise bad_request(
            field, f"{text[:64]!r} is not an RFC 3339 time such as 2026-04-15T14:32:19.421Z"
        )
    year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
    leap = second == 60  # RFC 3339 allows the leap second; it counts as the second after :59
    try:
        at = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC)
    except ValueError as error:
        raise bad_request(field, f"{text[:64]!r} is not a real time: {error}") from None
    seconds = (at - _EPOCH) // timedelta(seconds=1) + leap
    zone = match[8]
    if zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[4:6])
        if hours > 23 or minutes > 59:
            raise bad_request(field, f"{text[:64]!r} has a time zone that does not exist")
        shift = hours * 3600 + minutes * 60
        # In a query string an unescaped "+" arrives as a space.
        seconds += shift if zone[0] == "-" else -shift
    fraction = (match[7] or "")[:9].ljust(9, "0")
    return seconds * 1_000_000_000 + int(fraction)
