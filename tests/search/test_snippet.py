"""Snippets: the right words, safe in a page."""

from __future__ import annotations

import html
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.search.snippet import snippet


def body(text: str) -> bytes:
    return json.dumps({"type": "m", "content": [{"type": "text", "text": text}]}).encode()


@pytest.mark.parametrize(
    ("text", "query", "shown"),
    [
        ("save to fib.txt now", "fib.txt", "save to <em>fib.txt</em> now"),
        ("save to fib.txt now", "fib", "save to <em>fib</em>.txt now"),
        ("call write_file(x)", "file", "call write_<em>file</em>(x)"),
        ("a <b> & b", "b", "a &lt;<em>b</em>&gt; &amp; <em>b</em>"),
        ("日本語のテスト", "本語", "日<em>本語</em>のテスト"),
        ("日本語", "日", "<em>日</em>本語"),
        ("Café CRÈME", "crème", "Café <em>CRÈME</em>"),
        ("many   spaces\n\nhere", "spaces", "many <em>spaces</em> here"),
        ("nothing to see", "absent", "nothing to see"),
        ("nothing to see", "", "nothing to see"),
        ("getUserName()", "name", "<em>getUserName</em>()"),
    ],
)
def test_words_are_marked(text: str, query: str, shown: str) -> None:
    assert snippet(body(text), query) == shown


def test_the_window_holds_most_of_the_words() -> None:
    text = "alpha " + "filler " * 100 + "alpha beta gamma " + "filler " * 100 + "beta"
    shown = snippet(body(text), "alpha beta gamma", max_chars=80)
    assert "<em>alpha</em> <em>beta</em> <em>gamma</em>" in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    plain = html.unescape(re.sub("</?em>|…", "", shown))
    assert len(plain) <= 80
    assert plain in text


def test_a_word_far_down_a_long_text_is_shown() -> None:
    assert "<em>needle</em>" in snippet(body("hay " * 100_000 + "needle"), "needle")


def test_what_has_no_text_has_no_snippet() -> None:
    assert snippet(b"\xff", "x") == ""
    assert snippet(b"{}", "x") == ""


@given(st.text(), st.text(), st.integers(1, 200))
def test_any_text_and_query_give_well_formed_html(text: str, query: str, size: int) -> None:
    raw = json.dumps(text.encode("utf-8", "replace").decode()).encode()
    shown = snippet(raw, query, max_chars=size)
    assert re.sub(r"</?em>", "", shown).find("<") == -1
    assert re.fullmatch(r"(?:[^<]|<em>[^<]*</em>)*", shown, re.DOTALL)
