"""Patterns over stream paths (protocol section 6.2)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_server.protocol.subscription_glob import glob_match, literal_prefix

PARTS = st.lists(st.sampled_from(["a", "b", "*", "**", "é"]), min_size=1, max_size=5)
NAMES = st.lists(st.sampled_from(["a", "b", "é", "*"]), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("events/*", "events/a", True),
        ("events/*", "events", False),
        ("events/*", "events/a/b", False),
        ("events/**", "events/a/b", True),
        ("events/**", "events", True),
        ("**", "anything/at/all", True),
        ("**/log", "log", True),
        ("**/log", "a/b/log", True),
        ("**/log", "a/blog", False),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("a/*/z", "a/z", False),
        ("exact", "exact", True),
        ("exact", "exactly", False),
        ("ev*", "events", False),
        ("a.c", "abc", False),
    ],
)
def test_6_2_globs(pattern: str, name: str, matches: bool) -> None:
    assert glob_match(pattern, name) is matches


def by_backtracking(pattern: list[str], name: list[str]) -> bool:
    """The definition, written down as it reads."""
    if not pattern:
        return not name
    head, *rest = pattern
    if head == "**":
        return any(by_backtracking(rest, name[skipped:]) for skipped in range(len(name) + 1))
    return bool(name) and head in ("*", name[0]) and by_backtracking(rest, name[1:])


@given(PARTS, NAMES)
def test_6_2_globs_are_what_their_definition_says(pattern: list[str], name: list[str]) -> None:
    expected = by_backtracking(pattern, name)
    assert glob_match("/".join(pattern), "/".join(name)) is expected
    if expected:
        assert "/".join(name).startswith(literal_prefix("/".join(pattern)))


def test_6_2_no_pattern_takes_long() -> None:
    began = time.monotonic()
    assert not glob_match("/".join(["**", "a"] * 32), "/".join(["a"] * 500 + ["b"]))
    assert time.monotonic() - began < 5
