"""The part of an event's text that shows why it was found, as HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from tailrace.limits import KIB
from tailrace.search.analyzer import analyze, analyze_query, raw_runs
from tailrace.search.document import display_values
from tailrace.search.query import parse_query

_SPACES: Final = re.compile(r"\s+")
# Of a longer text only so much is looked through, from just before the first match.
_SCAN_CHARS_MAX: Final = 64 * KIB
_BEFORE_CHARS: Final = 1024
_CUT: Final = "…"


class _Match(NamedTuple):
    start: int
    end: int
    terms: frozenset[str]


def _matches(text: str, wanted: frozenset[str]) -> Iterator[_Match]:
    """The words of ``text`` that gave a wanted term."""
    for run in raw_runs(text):
        if run.text.isascii():
            # Its terms are parts of it, and most words hold none that is wanted.
            lowered = run.text.lower()
            if not any(term in lowered for term in wanted):
                continue
        found = wanted.intersection(analyze(run.text))
        if not found:
            continue
        if run.classes[0] == "c":
            yield from _unspaced_matches(run.text, run.start, wanted)
        elif found.intersection(analyze(run.text)[-1:]):
            yield _Match(run.start, run.start + len(run.text), frozenset(found))
        else:
            start = run.start
            for classes in run.classes.split("j"):
                end = start + len(classes)
                inside = wanted.intersection(analyze(text[start:end]))
                if inside:
                    yield _Match(start, end, frozenset(inside))
                start = end + 1


def _unspaced_matches(text: str, start: int, wanted: frozenset[str]) -> Iterator[_Match]:
    begin = None
    end = 0
    terms: set[str] = set()
    for i in range(len(text)):
        for length in (2, 1):
            found = wanted.intersection(analyze_query(text[i : i + length]))
            if not found or i + length > len(text):
                continue
            if begin is not None and i > end:
                yield _Match(start + begin, start + end, frozenset(terms))
                begin = None
            if begin is None:
                begin, terms = i, set()
            end = max(end, i + length)
            terms |= found
            break
    if begin is not None:
        yield _Match(start + begin, start + end, frozenset(terms))


def _best_window(matches: list[_Match], max_chars: int) -> tuple[int, int]:
    """First and last match of the range of ``max_chars`` that holds most different terms."""
    best, best_value = (0, 0), (0, 0)
    for first in range(len(matches)):
        terms: set[str] = set()
        last = first
        for i in range(first, len(matches)):
            if i > first and matches[i].end - matches[first].start > max_chars:
                break
            terms |= matches[i].terms
            last = i
        value = len(terms), last - first
        if value > best_value:
            best, best_value = (first, last), value
    return best


def _bounds(text: str, start: int, end: int, max_chars: int) -> tuple[int, int]:
    """The window around [start, end), at word boundaries where there are some near."""
    room = max(0, max_chars - (end - start))
    low = max(0, start - room // 2)
    high = min(len(text), low + max_chars)
    low = max(0, min(low, high - max_chars))
    if low > 0:
        space = text.find(" ", low, start)
        low = space + 1 if space >= 0 else low
    if high < len(text):
        space = text.rfind(" ", end, high)
        high = space if space >= 0 else high
    return low, high


def _region(text: str, wanted: frozenset[str]) -> str:
    if len(text) <= _SCAN_CHARS_MAX or not wanted:
        return text[:_SCAN_CHARS_MAX]
    first = re.search("|".join(map(re.escape, sorted(wanted))), text, re.IGNORECASE)
    start = max(0, first.start() - _BEFORE_CHARS) if first else 0
    return text[start : start + _SCAN_CHARS_MAX]


def snippet(body: bytes | memoryview, query: str, *, max_chars: int = 160) -> str:
    """At most about ``max_chars`` characters of the event's text around the words of ``query``.

    Those words stand between ``<em>`` and ``</em>``; all else is escaped. Where the text goes
    on there is an ellipsis. Without a match it is the beginning of the text.
    """
    wanted = frozenset(parse_query(query))
    whole = "\n".join(display_values(body))
    text = _SPACES.sub(" ", _region(whole, wanted)).strip()
    matches = list(_matches(text, wanted))
    start = end = 0
    if matches:
        first, last = _best_window(matches, max_chars)
        start, end = matches[first].start, matches[last].end
    low, high = _bounds(text, start, end, max_chars)
    out = [_CUT] if low > 0 else []
    at = low
    for match in matches:
        if match.end <= low or match.start >= high:
            continue
        match_start, match_end = max(match.start, low), min(match.end, high)
        out.append(html.escape(text[at:match_start]))
        out.append(f"<em>{html.escape(text[match_start:match_end])}</em>")
        at = match_end
    out.append(html.escape(text[at:high]))
    if high < len(text):
        out.append(_CUT)
    return "".join(out)
