"""The C recogniser of records (protocol section 9.1): what it cuts needs no other parser."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.fuzz_json_value import SEEDS, TOKENS, cut, target
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
    assert cut(body) == [body]
    assert cut(b"[" + body + b"]") == [body]
    assert cut(b"[" + body + b"," + body + b"]") == [body, body]
    target(body)


@pytest.mark.parametrize(
    ("body", "records"),
    [
        (b" {}", [b"{}"]),
        (b"\t{}\r\n", [b"{}"]),
        (b"[1]", [b"1"]),
        (b"[[]]", [b"[]"]),
        (b"[[1,2],[[3]]]", [b"[1,2]", b"[[3]]"]),
        (b'\n[ 1\t,\r\n{ }\n, "]" ]\n', [b"1", b"{ }", b'"]"']),
        (b'[{"a":1},{"a":1}]', [b'{"a":1}', b'{"a":1}']),
        (b"[" + b"0," * 999 + b"0]", [b"0"] * 1000),
        (b"[" * 121 + b"]" * 121, [b"[" * 120 + b"]" * 120]),
    ],
)
def test_one_level_of_an_array_is_flattened(body: bytes, records: list[bytes]) -> None:
    """Section 9.1.1; what stands around a value is not part of it."""
    assert cut(body) == records
    target(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"[]",
        b" [\n]",
        b"[",
        b"[1",
        b"[1,",
        b"[1,]",
        b"[,1]",
        b"[1,,2]",
        b"[1 2]",
        b"[1}",
        b"[1]]",
        b"[1][2]",
        b"[1],",
        b"1]",
        b"[1,{]",
        b"[1,[2}]",
        b'[1,"\\ud800"]',
        b"[1,{\n}]",
        b"\x0b1",
        b"[1,\x0c2]",
        b"[1]\0",
        b"[" + b"0," * 1000 + b"0]",
        b"[1," + b"[" * 121 + b"]" * 121 + b"]",
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
    assert not cut(body)


def test_the_depth_is_the_one_that_is_promised() -> None:
    deep = b'{"a":' * json_mode.NESTING_MAX + b"0" + b"}" * json_mode.NESTING_MAX
    assert cut(deep) == [deep]
    assert cut(b"[" + deep + b"]") == [deep]
    assert not cut(b'{"a":' + deep + b"}")
    assert not cut(b"[[" + deep + b"]]")


@given(JSON_VALUES, st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :")]))
def test_what_an_encoder_writes_is_known(
    value: object, ascii_alone: bool, separators: tuple[str, str]
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_alone, separators=separators)
    try:
        body = text.encode()
    except UnicodeEncodeError:  # half a pair
        return
    assert cut(body) or value == [] or "\\ud" in text
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
def test_what_is_accepted_is_cut_as_the_parser_of_bodies_cuts_it(body: bytes) -> None:
    target(body)
    target(b"[" + body + b"]")
    target(b"[0 ," + body + b",{}]")
