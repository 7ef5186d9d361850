r"""Text → terms, for documents and for queries alike.

1. NFKC; invisible characters (category Cf, variation selectors) are dropped; ``’`` is ``'``.
2. A *run* is a maximal sequence of word characters (letters, digits, combining marks), which
   single joiners (``_ - . '``) between them do not end: ``write_file``, ``fib.txt``, ``a'b``.
   Its *pieces* stand between the joiners.
3. Terms: every piece; of a piece of letters in camelCase also its humps (``writeFile`` →
   ``writefile write file``); of several pieces also the whole run. So ``write_file`` is found
   by ``write_file``, by ``write`` and by ``file``, and best by the first.
4. Scripts that put no spaces between words (Chinese, Japanese, Korean, Thai, Lao, Khmer,
   Burmese) give every character and every pair of neighbours. In a query a pair says more than
   its characters, so there they stand only where a character has no neighbour.
5. Pictographs are terms of one character. All else separates.
6. Terms are case-folded, normalized once more, and cut to :data:`TERM_BYTES_MAX` bytes of UTF-8;
   a run longer than that gives its pieces only.

A document's length, in BM25, is the number of terms it gave, repetitions counted.

ASCII text goes through ``csrc/search_tokenize.c``, which follows the same rules.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

VERSION: Final = 1  # of these rules; a part made by others is made again
TERM_BYTES_MAX: Final = 64

# First and last code point, before the class is asked of the Unicode database.
_UNSPACED: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1100, 0x11FF),  # Hangul jamo
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # CJK radicals
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3031, 0x3035),
    (0x3038, 0x303C),
    (0x3041, 0x33FF),  # kana, bopomofo, enclosed
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA960, 0xA97F),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAA7F),
    (0xAC00, 0xD7FF),  # Hangul
    (0xF900, 0xFAFF),
    (0x1AFF0, 0x1B16F),
    (0x20000, 0x3FFFF),
)
_PICTOGRAPHS: Final = ((0x2600, 0x27BF), (0x1F000, 0x1FAFF))
_VARIATION: Final = ((0xFE00, 0xFE0F), (0x180B, 0x180F), (0xE0100, 0xE01EF))


def _within(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


def _class_of(code: int) -> str:
    """u capital, l small letter, o other word character, j joiner, c unspaced, e pictograph,
    i invisible, space for what separates.
    """
    char = chr(code)
    if char in "_-.'’":
        return "j"
    category = unicodedata.category(char)
    if category == "Cf" or _within(code, _VARIATION):
        return "i"
    is_word = char.isalnum() or category[0] == "M"
    if is_word and _within(code, _UNSPACED):
        return "c"
    if is_word:
        if char.isupper() and char.isalpha():
            return "u"
        return "l" if char.islower() and char.isalpha() else "o"
    if category in ("So", "Sk") and _within(code, _PICTOGRAPHS):
        return "e"
    return " "


class _Classes(dict[int, str]):
    """Code point → class, for ``str.translate``; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        found = _class_of(code)
        if code < 0x10000:  # a bound: all of Unicode would take a hundred megabytes
            self[code] = found
        return found


_classes: Final = _Classes()
_RUN: Final = re.compile(r"[ulo]+(?:j[ulo]+)*|c+|e")
_HUMP: Final = re.compile(r"u+(?!l)|u?l+")
_HUMPED: Final = re.compile(r"(?=[ul]*l)(?=[ul]*u)[ul]+")
_NON_ASCII_WORD: Final = re.compile(r"\S*[^\x00-\x7f\s]\S*")


class Run(NamedTuple):
    """A run of text and the classes of its characters."""

    text: str
    classes: str
    start: int


def raw_runs(text: str) -> Iterator[Run]:
    """The runs of ``text`` as it stands, not normalized. ``start`` counts in ``text``."""
    for match in _RUN.finditer(text.translate(_classes)):
        yield Run(text[match.start() : match.end()], match.group(), match.start())


def _normalized(text: str) -> str:
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text)
    classes = text.translate(_classes)
    if "i" in classes:
        kept = (c for c, kind in zip(text, classes, strict=True) if kind != "i")
        text = unicodedata.normalize("NFKC", "".join(kept))
    return text


def _fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", text.replace("’", "'").casefold())


def _cut(term: str) -> str:
    if len(term) * 4 <= TERM_BYTES_MAX:
        return term
    return term.encode("utf-8", "replace")[:TERM_BYTES_MAX].decode("utf-8", "ignore")


def _fits(term: str) -> bool:
    return len(term) * 4 <= TERM_BYTES_MAX or len(term.encode()) <= TERM_BYTES_MAX


def _terms_of_run(run: Run, *, is_query: bool) -> Iterator[str]:
    kind = run.classes[0]
    if kind == "e":
        yield run.text
        return
    if kind == "c":
        text = _fold(run.text)
        if not is_query or len(text) == 1:
            yield from text
        for first in range(len(text) - 1):
            yield text[first : first + 2]
        return
    start = 0
    for classes in run.classes.split("j"):
        end = start + len(classes)
        text = run.text[start:end]
        piece = _fold(text)
        yield _cut(piece)
        if _HUMPED.fullmatch(classes) and _fits(piece):
            humps = _HUMP.findall(classes)
            if len(humps) > 1:
                at = 0
                for hump in humps:
                    yield _cut(_fold(text[at : at + len(hump)]))
                    at += len(hump)
        start = end + 1
    if "j" in run.classes:
        whole = _fold(run.text)
        if _fits(whole):
            yield whole


def analyze(text: str) -> list[str]:
    """The terms of a document's text, as often as they stand in it."""
    return [t for run in raw_runs(_normalized(text)) for t in _terms_of_run(run, is_query=False)]


def analyze_query(text: str) -> list[str]:
    """The terms of a query. No text is an error; one without word characters gives none."""
    return [t for run in raw_runs(_normalized(text)) for t in _terms_of_run(run, is_query=True)]


def _terms_of_word(word: str) -> bytes:
    return "".join(f"{term}\0" for term in analyze(word)).encode("utf-8", "replace")


_terms_of_known_word: Final = lru_cache(maxsize=16384)(_terms_of_word)


def split_for_index(text: str) -> tuple[bytes, bytes]:
    """ASCII text that is still to be tokenized, and the terms of the rest, a NUL behind each.

    Terms never reach over white space, so the two together are what :func:`analyze` gives, in
    another order.
    """
    if text.isascii():
        return text.encode("ascii"), b""
    words = _NON_ASCII_WORD.findall(text)
    terms = [_terms_of_known_word(w) if len(w) <= 32 else _terms_of_word(w) for w in words]
    rest = _NON_ASCII_WORD.sub("", text)
    return rest.encode("ascii", "replace"), b"".join(terms)
