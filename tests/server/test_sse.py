"""SSE frames (protocol section 5.8): byte by byte, and read back by a plain reading of the spec."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_server.protocol import sse


def read(stream: bytes) -> list[tuple[str, str, str | None]]:
    """Events as the HTML standard's event stream interpretation has them."""
    found: list[tuple[str, str, str | None]] = []
    name, last_id = "", None
    data: list[str] = []
    for line in re.split("\r\n|\r|\n", stream.decode()):
        if not line:
            if data:
                found.append((name or "message", "\n".join(data), last_id))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            last_id = value
    return found


def test_5_8_data_frame_is_as_in_the_quickstart() -> None:
    frame = sse.json_array([b'{"k":"v"}', memoryview(b'{"k":"w"}')])
    assert frame == b'event: data\ndata: [\ndata: {"k":"v"},\ndata: {"k":"w"}\ndata: ]\n\n'


def test_5_8_control_frame() -> None:
    assert sse.control(2, up_to_date=True, closed=False, cursor=7) == (
        b'event: control\ndata: {"streamNextOffset":"00000002","upToDate":true,'
        b'"streamCursor":"7"}\nid: 00000001\n\n'
    )
    assert sse.control(2, up_to_date=False, closed=False, cursor=7) == (
        b'event: control\ndata: {"streamNextOffset":"00000002","streamCursor":"7"}\n'
        b"id: 00000001\n\n"
    )
    assert sse.control(0, up_to_date=True, closed=True, cursor=7) == (
        b'event: control\ndata: {"streamNextOffset":"00000000","upToDate":true,'
        b'"streamClosed":true}\nid: -1\n\n'
    )


def test_message_frame() -> None:
    assert sse.message("agent.message", 12, b'{"type":"agent.message"}') == (
        b'event: agent.message\nid: 00000012\ndata: {"type":"agent.message"}\n\n'
    )


def test_separators_are_escaped_in_json() -> None:
    record = json.dumps({"t": "a\u2028b\u2029c\u0085d"}, ensure_ascii=False).encode()
    frame = sse.json_array([record])
    assert len(frame.decode().splitlines()) == 5
    ((_, data, _),) = read(frame)
    assert json.loads(data) == [{"t": "a\u2028b\u2029c\u0085d"}]


@given(st.lists(st.dictionaries(st.text(), st.text()), min_size=1, max_size=4))
def test_no_text_breaks_a_json_frame(values: list[dict[str, str]]) -> None:
    records = [json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") for value in values]
    ((name, data, _),) = read(sse.json_array(records))
    assert name == "data"
    assert json.loads(data) == [json.loads(record) for record in records]


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_no_type_or_text_breaks_a_message_frame(name: str, text: str) -> None:
    record = json.dumps({"type": name, "text": text}, ensure_ascii=False).encode()
    ((_, data, last_id),) = read(sse.message(name or "x", 3, record))
    assert json.loads(data) == {"type": name, "text": text}
    assert last_id == "00000003"


@given(st.text(st.characters(codec="utf-8")))
def test_text_frames_keep_every_line(text: str) -> None:
    frame = sse.text(text.encode())
    assert frame.endswith(b"\n\n")
    (found,) = read(frame)
    assert found[1] == re.sub("\r\n|\r", "\n", text)


@given(st.binary())
def test_binary_frames_are_base64(payload: bytes) -> None:
    line = sse.binary(payload).split(b"\n")[1].removeprefix(b"data: ")
    assert base64.b64decode(line, validate=True) == payload


@pytest.mark.parametrize("text", ["é", "€", "𝄞", "a€"])
def test_text_is_unfinished_inside_a_character_only(text: str) -> None:
    raw = text.encode()
    for cut in range(len(raw) + 1):
        try:
            raw[:cut].decode()
        except UnicodeDecodeError:
            assert sse.unfinished(raw[:cut])
        else:
            assert not sse.unfinished(raw[:cut])


@pytest.mark.parametrize("raw", [b"\x80", b"\xbf\xbf\xbf", b"\xc0", b"\xf5", b"\xff", b"\xe9a"])
def test_text_that_is_no_utf_8_is_not_waited_for(raw: bytes) -> None:
    assert not sse.unfinished(raw)
