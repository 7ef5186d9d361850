"""The request target: percent-decoding, path segments and query parameters.

Strict on purpose: what two programs may read differently (a stray ``%``, a parameter given
twice, bytes that are no UTF-8) is refused by name instead of guessed.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from tailrace_server.protocol.errors import bad_request

PARAMETERS_MAX: Final = 1000
_KNOWN_MAX: Final = 1024
_KNOWN_CHARS_MAX: Final = 64
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~!$'()*,:@/;-]*")


def percent_decode(text: str, field: str) -> str:
    """``text`` with its ``%XX`` decoded as UTF-8; 400 for a stray ``%`` or bytes that are none."""
    if _PLAIN.fullmatch(text):
        return text
    if (bad := _BAD_ESCAPE.search(text)) is not None:
        shown = text[bad.start() : bad.start() + 3]
        raise bad_request(field, f"{shown!r} is not percent-encoding; write a literal % as %25")
    try:
        return unquote_to_bytes(text.encode("latin-1")).decode("utf-8")
    except UnicodeError:
        raise bad_request(field, "is not UTF-8 once percent-decoded") from None


def path_segments(path: str) -> tuple[str, ...]:
    """The raw segments of an absolute path, still encoded, so that ``%2F`` stays in its segment."""
    return tuple(path[1:].split("/"))


def has_control(text: str) -> bool:
    """Whether ``text`` holds a control character (Unicode category Cc)."""
    return _CONTROL.search(text) is not None


class Query:
    """The parameters of a query string, decoded, duplicates kept."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, list[str]]) -> None:
        self._values = values

    def single(self, name: str) -> str | None:
        """The value of a parameter that may be given once; None when it was not given."""
        values = self._values.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise bad_request(name, f"was given {len(values)} times; give it once")
        return values[0]

    def many(self, *names: str) -> list[str]:
        """Every value of a repeatable parameter, under any of its names."""
        return [value for name in names for value in self._values.get(name, ())]

    def __contains__(self, name: str) -> bool:
        return name in self._values


def parse_query(query: str) -> Query:
    """Split and decode a raw query string (``application/x-www-form-urlencoded``)."""
    # Clients say the same few things again and again.
    return _known_query(query) if len(query) <= _KNOWN_CHARS_MAX else _parse_query(query)


def _parse_query(query: str) -> Query:
    values: dict[str, list[str]] = {}
    if not query:
        return Query(values)
    pairs = query.split("&", PARAMETERS_MAX)
    if len(pairs) > PARAMETERS_MAX:
        raise bad_request("query", f"more than {PARAMETERS_MAX} parameters")
    for pair in pairs:
        if not pair:
            continue
        raw_name, _, raw_value = pair.partition("=")
        name = percent_decode(raw_name.replace("+", " "), "query")
        values.setdefault(name, []).append(percent_decode(raw_value.replace("+", " "), name))
    return Query(values)


_known_query: Final = lru_cache(_KNOWN_MAX)(_parse_query)
