"""What a body that is no JSON, or not of the wanted shape, is told."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_server.protocol import json_mode
from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.json_fault import LOOKED_AT_BYTES_MAX, shape_fault


def fault(body: bytes) -> str:
    with pytest.raises(RequestError) as refused:
        json_mode.split(body, values_max=100)
    assert refused.value.status == 400
    return refused.value.message


@pytest.mark.parametrize(
    ("body", "escape", "byte"),
    [
        (rb'"a\ud800"', r"\ud800", 2),
        (rb'{"type":"a\uD83D"}', r"\uD83D", 10),
        (rb'"\ud800bcdefghijk"', r"\ud800", 1),
        (rb'"\ud800\u0041"', r"\ud800", 1),
        (rb'"\ud800\n"', r"\ud800", 1),
        (rb'"\udc00"', r"\udc00", 1),
        (rb'"\\\udc00 \ud83d\ude00"', r"\udc00", 3),
        (rb'"\ud83d\ude00 \ud83d"', r"\ud83d", 14),
        (rb'["\ud800\ud800\udc00"]', r"\ud800", 2),
    ],
)
def test_half_a_surrogate_pair_is_named(body: bytes, escape: str, byte: int) -> None:
    message = fault(body)
    assert f"{escape} (byte {byte}) is half of a surrogate pair" in message


@pytest.mark.parametrize("body", [b'{"type":"a"', rb'"\ud83d\ude00', rb'"\\ud800', b'"a'])
def test_what_only_ends_too_early_is_truncated(body: bytes) -> None:
    assert "truncated" in fault(body) and "surrogate" not in fault(body)


@pytest.mark.parametrize("pad", range(14))
def test_half_a_pair_is_not_looked_for_without_end(pad: int) -> None:
    """Nor is a pair of which the other half is not looked at taken for one without it."""
    before = b'"' + b"x" * (LOOKED_AT_BYTES_MAX - pad)
    assert "surrogate" not in fault(before + rb"\ud83d\ude00")
    half = rb'\ud83d not whole"'
    assert ("surrogate" in fault(before + half)) == (pad > 12)


def test_a_byte_order_mark_is_named() -> None:
    assert "byte order mark" in fault(b'\xef\xbb\xbf{"a":1}')


@given(st.text(st.sampled_from("\ud83d\ude00\\u\u0041d8")))
def test_any_text_with_half_a_pair_is_told_so(text: str) -> None:
    body = json.dumps(text).encode()  # keeps halves as escapes
    if any("\ud800" <= character <= "\udfff" for character in json.loads(body)):
        assert "half of a surrogate pair" in fault(body)
    else:
        assert json_mode.split(body, values_max=1) == [body]


class Shape(msgspec.Struct, forbid_unknown_fields=True):
    name: str | None = None
    count: int = 0
    names: list[str] = []
    inner: dict[str, float] = {}


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b'{"name":5}', "name", "must be string or null, not whole number"),
        (b'{"name":true}', "name", "must be string or null, not boolean"),
        (b'{"count":1.5}', "count", "must be whole number, not number"),
        (b'{"names":["a",[]]}', "names[1]", "must be string, not array"),
        (b'{"inner":{"a":"b"}}', "inner[...]", "must be number, not string"),
        (b'{"other":1}', "body", "Object contains unknown field `other`"),
        (b"[]", "body", "must be object, not array"),
    ],
)
def test_a_wrong_shape_names_its_field(body: bytes, field: str, message: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.json.decode(body, type=Shape)
    assert shape_fault(refused.value) == (field, message)
