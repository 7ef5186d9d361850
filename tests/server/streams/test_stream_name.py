"""Paths of flat streams ↔ names: nothing is read in two ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.stream_name import is_reserved, stream_name, stream_path


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("a", "a"),
        ("a/b/c", "a/b/c"),
        ("a//b/", "a//b/"),
        ("a%20b", "a b"),
        ("a b", "a b"),
        ("%C3%A9", "é"),
        ("%7Euser", "~user"),
        ("a+b", "a+b"),
        ("a%2Fb", "a%2Fb"),
        ("a%2fb", "a%2Fb"),
        ("a%252Fb", "a%252Fb"),
        ("100%25", "100%25"),
        ("a..b/...", "a..b/..."),
    ],
)
def test_names(raw: str, name: str) -> None:
    assert stream_name(raw) == name


def test_an_encoded_slash_is_no_separator() -> None:
    assert len({stream_name(raw) for raw in ("a/b", "a%2Fb", "a%252Fb")}) == 3


@pytest.mark.parametrize(
    "raw",
    ["", "a%", "a%2", "%zz", "%ff", "a%C3", "%00", "a%0Ab", "%C2%85",
     "..", "a/../b", "a/%2e%2E", "./a", "a/.", "x" * 1025, "é" * 600],
)  # fmt: skip
def test_12_2_bad_paths_are_400(raw: str) -> None:
    with pytest.raises(RequestError) as caught:
        stream_name(raw.encode().decode("latin-1"))
    assert caught.value.status == 400
    assert caught.value.message.startswith("stream path: ")


def test_6_1_the_reserved_segment_is_known_however_it_is_written() -> None:
    for raw in ("__ds", "__ds/subscriptions/a", "%5F_ds/x", "__%64s"):
        assert is_reserved(stream_name(raw)), raw
    for raw in ("__dsx", "a/__ds", "__ds%2Fx", "__DS"):
        assert not is_reserved(stream_name(raw)), raw


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_a_name_has_one_path_and_a_path_one_name(text: str) -> None:
    try:
        name = stream_name(stream_path(text.replace("%", "%25")))
    except RequestError:
        return
    path = stream_path(name)
    assert path.isascii() and " " not in path
    assert stream_name(path) == name
