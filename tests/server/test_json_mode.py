"""JSON mode (protocol section 9.1): cut, check, never write anew."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_server.protocol import json_mode
from tailrace_server.protocol.errors import RequestError

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("body", "values"),
    [
        (b'{"event":"created"}', [b'{"event":"created"}']),
        (b'[{"event":"a"}, {"event":"b"}]', [b'{"event":"a"}', b'{"event":"b"}']),
        (b"[[1,2], [3,4]]", [b"[1,2]", b"[3,4]"]),
        (b"[[[1,2,3]]]", [b"[[1,2,3]]"]),
        (b" \n[ 1 ,\t2 ]\r\n", [b"1", b"2"]),
        (b"[]", []),
        (b' "x" ', [b'"x"']),
        (
            b"[1e999,123456789012345678901234567890,-0]",
            [b"1e999", b"123456789012345678901234567890", b"-0"],
        ),
        (b'[{"a":1,"a":2}]', [b'{"a":1,"a":2}']),
        (b'[{"a" :\n [1,\r\n2]}]', [b'{"a" :  [1,  2]}']),
    ],
)
def test_9_1_2_flattens_exactly_one_level(body: bytes, values: list[bytes]) -> None:
    assert json_mode.split(body, values_max=10) == values


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"[1,]",
        b"[1] x",
        b'{"a":1}}',
        b"[NaN]",
        b"[Infinity]",
        b"[01]",
        b"[+1]",
        b"[1.]",
        b"[.5]",
        b"['a']",
        b"[tru]",
        b'["\x01"]',
        b'["a\nb"]',
        b'["\\x"]',
        b"[1/**/]",
        b"\xef\xbb\xbf[1]",
        b'["\xff"]',
        b'[{"a":"\xc3"}]',
        b'["\xed\xa0\x80"]',
        b'["\\ud800"]',
        b'["\\udc00"]',
        b"[1e]",
        b'[{"a"}]',
        b"[\x0b1]",
        b"nul",
        b"{1:2}",
    ],
)
def test_9_1_4_what_is_no_json_is_400(body: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        json_mode.split(body, values_max=10)
    assert refused.value.status == 400


@pytest.mark.parametrize("depth", [121, 500, 5_000, 1_000_000])
@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_bombs_are_400(depth: int, opened: bytes, closed: bytes) -> None:
    body = b"[" + opened * depth + b"1" + closed * depth + b"]"
    with pytest.raises(RequestError, match="deep") as refused:
        json_mode.split(body, values_max=10)
    assert refused.value.status == 400


def test_depth_counts_nesting_and_not_brackets() -> None:
    wide = b'["[[[[", ' + b",".join([b"[]"] * 1000) + b"]"
    deep = b"[" * 120 + b"]" * 120
    assert json_mode.split(b"[" + wide + b"]", values_max=1) == [wide]
    assert json_mode.split(b"[" + deep + b"]", values_max=1) == [deep]


def test_too_many_values_is_413() -> None:
    assert len(json_mode.split(b"[1,2]", values_max=2)) == 2
    with pytest.raises(RequestError) as refused:
        json_mode.split(b"[1,2,3]", values_max=2)
    assert refused.value.status == 413


@given(st.lists(JSON_VALUES, max_size=6), st.sampled_from([None, 1]), st.booleans())
def test_split_keeps_every_value(values: list[object], indent: int | None, ascii: bool) -> None:
    body = json.dumps(values, indent=indent, ensure_ascii=ascii)
    try:
        raw = body.encode()
    except UnicodeEncodeError:
        return
    try:
        found = json_mode.split(raw, values_max=100)
    except RequestError:
        # Text that holds half a surrogate pair is the one thing JSON allows and we refuse.
        assert any(0xD800 <= ord(character) <= 0xDFFF for character in str(values)) or (
            "\\ud" in body
        )
        return
    assert [json.loads(value) for value in found] == values
    assert not any(b"\n" in value or b"\r" in value for value in found)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=6), st.sets(st.text()), st.booleans())
def test_without_drops_only_what_is_named(
    value: dict[str, object], dropped: set[str], ascii: bool
) -> None:
    try:
        raw = json.dumps(value, ensure_ascii=ascii, separators=(" , ", " : ")).encode()
        raw.decode()
    except UnicodeEncodeError:
        return
    if "\\ud" in raw.decode():
        return
    names = frozenset(dropped | set(list(value)[:2]))
    found = json_mode.without(raw, names)
    assert json.loads(found) == {k: v for k, v in value.items() if k not in names}


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON_VALUES, max_size=6))
def test_members_are_where_they_say(value: dict[str, object]) -> None:
    raw = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        encoded = raw.encode()
    except UnicodeEncodeError:
        return
    found = {m.key: json.loads(encoded[m.value : m.end]) for m in json_mode.members(encoded)}
    assert found == value


def test_repeated_keys_are_all_members() -> None:
    raw = b'{"a":1,"\\u0061":{"}":["]"]},"b":"\\\\","a":-1.5e3}'
    assert [m.key for m in json_mode.members(raw)] == ["a", "a", "b", "a"]
    assert json_mode.without(raw, frozenset("a")) == b'{"b":"\\\\"}'
