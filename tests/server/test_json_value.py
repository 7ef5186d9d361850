"""The C recogniser of records (protocol section 9.1): what it accepts needs no other parser."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.fuzz_json_value import SEEDS, TOKENS, accepts, target
from tailrace_server.protocol import json_mode
from tests.server.test_json_mode import JSON_VALUES


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'""',
        b"0",
        b"-0",
        b"1e999",
        b"123456789012345678901234567890.5E-3",
        b"null",
        b"true",
        b"false",
        b'{"a":1,"a":[]}',
        b'{ "a" :\t[ 1 , {} ] }',
        b'"\\u0000\\ud7ff\\ue000\\uFFFF\\"\\\\\\/\\b\\f\\n\\r\\t"',
        '"é\u2028\x7f\ud7ff\ue000\U00010000\U0010ffff"'.encode(),
        b'{"a":' * 119 + b"[0]" + b"}" * 119,
        b'"' + b"[{" * 500 + b'"',
    ],
)
def test_a_record_is_known(body: bytes) -> None:
    assert accepts(body)
    target(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" {}",
        b"{}\n",
        b"[]",
        b"[1]",
        b'{"a":\n1}',
        b'{"a":1\r}',
        b'"\n"',
        b'"\x1f"',
        b"{",
        b'{"a"}',
        b'{"a":}',
        b'{"a":1,}',
        b'{"a":[1,]}',
        b'{"a":[1}]',
        b'{"a":1]',
        b"{a:1}",
        b"{}{}",
        b"1,",
        b"01",
        b"-",
        b"+1",
        b"1.",
        b".5",
        b"1e",
        b"1e+",
        b"0x1",
        b"NaN",
        b"nul",
        b"nulll",
        b"True",
        b'"',
        b'"\\"',
        b'"\\',
        b'"\\x"',
        b'"\\u12"',
        b'"\\u12g4"',
        b'"\\ud800"',
        b'"\\ud83d\\ude00"',  # a good pair; Python says so
        b'"\xff"',
        b'"\xc3"',
        b'"\xc0\x80"',
        b'"\xe0\x80\x80"',
        b'"\xed\xa0\x80"',
        b'"\xf0\x80\x80\x80"',
        b'"\xf4\x90\x80\x80"',
        b'"\xe2\x80"',
        b"\xef\xbb\xbf{}",
        b'{"a":' * 120 + b"[0]" + b"}" * 120,
    ],
)
def test_all_else_is_left(body: bytes) -> None:
    assert not accepts(body)


def test_the_depth_is_the_one_that_is_promised() -> None:
    deep = b'{"a":' * json_mode.NESTING_MAX + b"0" + b"}" * json_mode.NESTING_MAX
    assert accepts(deep)
    assert not accepts(b'{"a":' + deep + b"}")


@given(JSON_VALUES, st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :")]))
def test_what_an_encoder_writes_is_known(
    value: object, ascii_alone: bool, separators: tuple[str, str]
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_alone, separators=separators)
    try:
        body = text.encode()
    except UnicodeEncodeError:  # half a pair
        return
    assert accepts(body) or isinstance(value, list) or "\\ud" in text
    target(body)


@given(
    st.lists(
        st.sampled_from(TOKENS) | st.sampled_from([b'"a"', b"1", b"{}", b'{"a":[1,{"b":null}]}']),
        max_size=12,
    ).map(b"".join)
    | st.binary(max_size=30)
    | st.tuples(st.sampled_from(SEEDS), st.integers(0, 100), st.sampled_from(TOKENS)).map(
        lambda made: made[0][: made[1]] + made[2] + made[0][made[1] :]
    )
)
def test_what_is_accepted_is_one_record_as_it_stands(body: bytes) -> None:
    target(body)
