"""Terms: what a word in a document can be found by."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailrace.limits import QUERY_BYTES_MAX, QUERY_TERMS_MAX
from tailrace.search.analyzer import TERM_BYTES_MAX, analyze, analyze_query, split_for_index
from tailrace.search.native_score import tokenize
from tailrace.search.query import parse_query


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Hello, World!", "hello world"),
        ("write_file", "write file write_file"),
        ("fib.txt", "fib txt fib.txt"),
        ("POL-358", "pol 358 pol-358"),
        ("a'b", "a b a'b"),
        ("don’t", "don t don't"),
        ("example.com", "example com example.com"),
        ("apply_secrets", "apply secrets apply_secrets"),
        ('say "unbalanced', "say unbalanced"),
        ("0,1,1,2", "0 1 1 2"),
        ("3.14", "3 14 3.14"),
        ("writeFile", "writefile write file"),
        ("HTTPServer", "httpserver http server"),
        ("HTTP", "http"),
        ("base64Data", "base64data"),
        ("__init__", "init"),
        ("a--b..c", "a b c"),
        ("trailing_ _leading", "trailing leading"),
        ("", ""),
        ("!?;:", ""),
        ("Straße STRASSE", "strasse strasse"),
        ("ＦＵＬＬ ﬁne", "full fine"),
        ("Ünïcödé", "ünïcödé"),
        ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
        ("naïve", "naïve"),  # a combining mark composes
        ("co\u00adoperate", "cooperate"),  # a soft hyphen is not there
        ("हिन्दी", "हिन्दी"),
        ("Привет, мир", "привет мир"),
        ("日本語", "日 本 語 日本 本語"),
        ("日", "日"),
        ("テスト ok", "テ ス ト テス スト ok"),
        ("abc日本def", "abc 日 本 日本 def"),
        ("😀", "😀"),
        ("nice😀", "nice 😀"),
        ("em—dash…dots", "em dash dots"),
    ],
)
def test_terms(text: str, terms: str) -> None:
    assert analyze(text) == terms.split()


def test_a_query_asks_for_neighbours_not_for_single_characters() -> None:
    assert analyze_query("日本語") == ["日本", "本語"]
    assert analyze_query("日") == ["日"]
    assert analyze_query("write_file") == analyze("write_file")


def test_long_words_are_cut_and_long_runs_give_their_pieces() -> None:
    assert analyze("a" * 200) == ["a" * TERM_BYTES_MAX]
    assert analyze("é" * 100) == ["é" * (TERM_BYTES_MAX // 2)]
    assert analyze("x" * 40 + "." + "y" * 40) == ["x" * 40, "y" * 40]


@given(st.text(alphabet=st.characters(max_codepoint=127)))
@example("aB.c-D_e'F" * 20)
@example("A" * 63 + "b" + " " + "A" * 64 + "b")
def test_c_and_python_agree_on_ascii(text: str) -> None:
    assert tokenize(text.encode()) == [term.encode() for term in analyze(text)]


@given(st.text(alphabet="aBc1_-.' \n"))
def test_c_and_python_agree_on_joined_words(text: str) -> None:
    assert tokenize(text.encode()) == [term.encode() for term in analyze(text)]


@given(st.text())
@example("foo\u00a0bar\u3000baz")
@example("naïve write_file 日本語 it’s")
def test_split_text_gives_the_same_terms(text: str) -> None:
    ascii_text, terms = split_for_index(text)
    found = Counter(tokenize(ascii_text)) + Counter(terms.split(b"\0")[:-1])
    assert found == Counter(term.encode("utf-8", "replace") for term in analyze(text))


@given(st.text(alphabet=st.characters(exclude_categories=())))  # surrogates too
def test_no_query_is_an_error_and_terms_are_bounded(query: str) -> None:
    terms = parse_query(query)
    assert sum(terms.values()) <= QUERY_TERMS_MAX
    assert all(0 < len(term.encode()) <= TERM_BYTES_MAX for term in terms)
    assert terms == parse_query(query)


def test_a_query_counts_its_words_and_is_cut() -> None:
    assert parse_query("b a b") == {"b": 2, "a": 1}
    assert list(parse_query(" ".join(f"w{i}" for i in range(100)))) == [
        f"w{i}" for i in range(QUERY_TERMS_MAX)
    ]
    assert parse_query(" " * QUERY_BYTES_MAX + "late") == {}
