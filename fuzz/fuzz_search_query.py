"""Queries and events of arbitrary bytes: no input is an error, and both tokenizers agree."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from typing import Final

from fuzz.engine_driver import run
from tailrace.limits import QUERY_TERMS_MAX
from tailrace.search.analyzer import TERM_BYTES_MAX, analyze, split_for_index
from tailrace.search.document import Document
from tailrace.search.index import ScopeItem, SearchIndex
from tailrace.search.native_score import tokenize
from tailrace.search.query import parse_query
from tailrace.search.snippet import snippet
from tailrace.storage import OsStorage

_directory: Final = tempfile.TemporaryDirectory(prefix="fuzz_search_query")
_index: Final = SearchIndex.open(OsStorage(_directory.name))
_QUERY: Final = b"\xff"
_PIECES: Final = (
    "write_file fib.txt a'b don’t camelCase HTTPServer 日本語 テスト 한국어 ไทย naïve e\u0301 "
    '\u00ad \u200d 😀 ﬁ ａｂ ß İ ǆ \ud800 \0 " \' ( ) * : \\ {"type":"x"} [1,2] "str" 1e5 '
    "-7.25 null AAAA==== \u3000 \u2028 ़ ु ्"
).split(" ")


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name atheris calls
    """An event, and behind a byte that stands in no UTF-8 a query about it."""
    body, _, query = data.partition(_QUERY)
    _check(body, query.decode("utf-8", "surrogateescape"))


def _check(body: bytes, query: str) -> None:
    text = body.decode("utf-8", "replace")
    ascii_text, terms = split_for_index(text)
    found = Counter(tokenize(ascii_text)) + Counter(terms.split(b"\0")[:-1])
    assert found == Counter(term.encode("utf-8", "replace") for term in analyze(text)), text
    wanted = parse_query(query)
    assert sum(wanted.values()) <= QUERY_TERMS_MAX
    assert all(0 < len(term.encode()) <= TERM_BYTES_MAX for term in wanted)
    shown = snippet(body, query)
    assert shown.count("<em>") == shown.count("</em>")
    position = _index.indexed_position + 1
    _index.add([Document(position, 0, 0, body)], position)
    scope = [ScopeItem(position)]
    before = _index.search(query, scope=scope)
    assert before.total == len(before.hits) <= 1
    if position % 256 == 0:
        _index.flush()
        assert _index.search(query, scope=scope) == before


def _make(dice: random.Random) -> bytes:
    """Words that are hard to take apart, or any bytes."""
    if dice.random() < 0.5:
        return _QUERY.join(dice.randbytes(dice.randrange(40)) for _ in range(2))
    joiner = dice.choice(("", " ", "_", "."))
    words = [dice.choice((*_PIECES, chr(dice.randrange(0x110000)))) for _ in range(12)]
    body = joiner.join(words).encode("utf-8", "replace")
    if dice.random() < 0.5:
        body = b'{"type":"t","text":"' + body.replace(b'"', b"").replace(b"\\", b"") + b'"}'
    return body + _QUERY + joiner.join(dice.sample(words, 3)).encode("utf-8", "surrogatepass")


if __name__ == "__main__":
    run(__doc__, TestOneInput, _make)
    _index.close()
