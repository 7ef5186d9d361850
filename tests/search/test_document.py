"""What of an event is text, and what its type is."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.search.document import BLOB_CHARS_MIN, display_values, is_blob, values_and_type


def test_values_at_any_depth_without_keys_and_own_fields() -> None:
    event = {
        "id": "evt_1",
        "offset": "00000000",
        "created_at": "2026-01-01T00:00:00.000Z",
        "processed_at": None,
        "type": "agent.tool_use",
        "name": "write_file",
        "input": {"path": "fib.txt", "lines": [1, 2.50, True, None, {"id": "inner"}]},
    }
    values, kind = values_and_type(json.dumps(event).encode())
    assert values == ["write_file", "fib.txt", "1", "2.5", "inner"]
    assert kind == "agent.tool_use"
    assert display_values(json.dumps(event).encode()) == values


def test_types_of_blocks_are_text_but_not_shown() -> None:
    body = b'{"type":"m","content":[{"type":"text","text":"hello"}]}'
    assert values_and_type(body) == (["text", "hello"], "m")
    assert display_values(body) == ["hello"]


def test_numbers_stand_as_written() -> None:
    values, _ = values_and_type(b"[1e400, 12345678901234567890123, 1.10, -7]")
    assert values == ["1e400", "12345678901234567890123", "1.10", "-7"]


@pytest.mark.parametrize(
    ("body", "values"),
    [(b'"word"', ["word"]), (b"7", ["7"]), (b'["a",["b"]]', ["a", "b"]), (b"null", [])],
)
def test_values_that_are_no_objects(body: bytes, values: list[str]) -> None:
    assert values_and_type(body) == (values, None)
    assert display_values(body) == values


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nope",
        b"\xff",
        b'"\xff"',
        b'"\\ud800"',
        b"[" * 100_000 + b"]" * 100_000,
        b"1" * 5000,
        b"NaN",
        b'{"a":1}x',
    ],
)
def test_what_is_not_json_has_no_text(body: bytes) -> None:
    assert values_and_type(body) == ([], None)
    assert display_values(body) == []


@given(st.binary())
def test_any_bytes_are_taken(body: bytes) -> None:
    values_and_type(body)
    display_values(body)


def test_a_type_that_is_no_string_is_none() -> None:
    assert values_and_type(b'{"type":7,"a":"x"}') == (["x"], None)


def test_base64_is_not_text() -> None:
    blob = base64.b64encode(bytes(range(256)) * 4).decode()
    source = {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}
    assert values_and_type(json.dumps({"source": source}).encode())[0] == ["base64", "image/png"]
    assert values_and_type(json.dumps({"x": blob}).encode())[0] == []
    assert values_and_type(json.dumps({"x": f"data:image/png;base64,{blob}"}).encode())[0] == []
    lines = base64.encodebytes(bytes(range(256)) * 4).decode()
    assert is_blob(lines)


def test_long_text_is_no_blob() -> None:
    assert not is_blob("word " * 100)
    assert not is_blob("a_file\n" * 100)
    assert not is_blob("x" * (BLOB_CHARS_MIN - 1))
    assert is_blob("x" * BLOB_CHARS_MIN)
