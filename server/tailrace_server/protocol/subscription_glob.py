"""Patterns over stream names (protocol section 6.2).

``*`` stands for one path segment, ``**`` for any number of them, none included; every other
segment for itself. Matching takes time in proportion to segments × pattern, never more,
whatever the pattern: there is no backtracking.
"""

from __future__ import annotations

from typing import Final

ONE: Final = "*"
ANY: Final = "**"
SEGMENTS_MAX: Final = 64


def glob_match(pattern: str, name: str) -> bool:
    """Whether ``pattern`` matches the whole stream name."""
    parts = pattern.split("/")
    places = _skip_any(parts, {0})
    for segment in name.split("/"):
        reached = set()
        for place in places:
            if place == len(parts):
                continue
            part = parts[place]
            if part == ANY:
                reached.add(place)
            elif part in (ONE, segment):
                reached.add(place + 1)
        places = _skip_any(parts, reached)
        if not places:
            return False
    return len(parts) in places


def literal_prefix(pattern: str) -> str:
    """What every name that ``pattern`` matches begins with; it narrows a listing."""
    parts = pattern.split("/")
    for index, part in enumerate(parts):
        if part == ANY:
            # a/** matches "a" itself too, so the slash before it is no part of the prefix.
            return "/".join(parts[:index])
        if part == ONE:
            return "".join(f"{fixed}/" for fixed in parts[:index])
    return pattern


def _skip_any(parts: list[str], places: set[int]) -> set[int]:
    """``places`` and those that ``**`` reaches by standing for nothing."""
    found = set(places)
    for place in places:
        while place < len(parts) and parts[place] == ANY:
            place += 1
            found.add(place)
    return found
