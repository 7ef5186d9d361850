"""Headers and parameters of the stream operations: what is taken, what is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tailrace_server.protocol import stream_request
from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.parse import Live, Position
from tailrace_server.protocol.stream_request import ForkHeaders
from tailrace_server.protocol.target import parse_query
from tests.server.service_support import request


def refused(call: Callable[[], object]) -> str:
    """The message of the 400 that ``call`` raises."""
    with pytest.raises(RequestError) as caught:
        call()
    assert caught.value.status == 400
    return caught.value.message


def create(**headers: str) -> stream_request.CreateHeaders:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return stream_request.create_headers(request("PUT", "/v1/stream/a", b"", named))


def test_5_1_nothing_is_needed() -> None:
    assert create() == stream_request.CreateHeaders(None, None, None, False, None)


@pytest.mark.parametrize("text", ["0", "1", "3600", "3153600000"])
def test_5_1_ttl_is_in_seconds(text: str) -> None:
    assert create(stream_ttl=text).ttl_ms == int(text) * 1000


@pytest.mark.parametrize(
    "text",
    ["", "01", "00", "+1", "-1", "1.0", "1e3", "3.6e3", "0x10", "1 0", "abc", "١", "1, 2",
     "3153600001", "9007199254740993", "18446744073709551617", "9" * 400],
)  # fmt: skip
def test_5_1_ttl_is_plain_decimal(text: str) -> None:
    message = refused(lambda: create(stream_ttl=text.encode().decode("latin-1")))
    assert message.startswith("Stream-TTL: ")


def test_5_1_expiry_is_rfc_3339() -> None:
    assert create(stream_expires_at="1970-01-01T00:00:01Z").expires_at_ms == 1000
    assert create(stream_expires_at="1970-01-01T01:00:01.5+01:00").expires_at_ms == 1500


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "1700000000", "2030-01-01", "2030-13-01T00:00:00Z",
             "2030-01-01T00:00:00", "1969-12-31T23:59:59Z"],
)  # fmt: skip
def test_5_1_other_expiry_is_400(text: str) -> None:
    assert refused(lambda: create(stream_expires_at=text)).startswith("Stream-Expires-At: ")


def test_5_1_ttl_and_expiry_together_are_400() -> None:
    message = refused(lambda: create(stream_ttl="1", stream_expires_at="2030-01-01T00:00:00Z"))
    assert "Stream-TTL" in message and "Stream-Expires-At" in message


@pytest.mark.parametrize("text", ["text", "text/", "/plain", "a b/c", "text/plain, text/html"])
def test_5_1_a_content_type_is_a_media_type(text: str) -> None:
    assert refused(lambda: create(content_type=text)).startswith("Content-Type: ")


@pytest.mark.parametrize("text", ["true", "TRUE", "True", "true, true", "true,TRUE"])
def test_4_1_true_in_any_case_closes(text: str) -> None:
    assert create(stream_closed=text).closed


@pytest.mark.parametrize("text", ["false", "yes", "1", "", "true, false", "true,", "truex"])
def test_4_1_any_other_value_counts_as_absent(text: str) -> None:
    assert not create(stream_closed=text).closed


def test_4_2_fork_headers() -> None:
    source = "/v1/stream/a"
    assert create(stream_forked_from=source).fork == ForkHeaders(source, None, 0)
    found = create(
        stream_forked_from=source, stream_fork_offset="00000003", stream_fork_sub_offset="2"
    )
    assert found.fork == ForkHeaders(source, Position(3), 2)


def test_4_2_the_reference_form_of_an_offset_is_read() -> None:
    zero = create(stream_forked_from="/a", stream_fork_offset="0000000000000000_0000000000000000")
    assert zero.fork is not None and zero.fork.start == Position(0)


@pytest.mark.parametrize("name", ["stream_fork_offset", "stream_fork_sub_offset"])
def test_4_2_fork_headers_without_a_source_are_400(name: str) -> None:
    message = refused(lambda: create(**{name: "0" if "sub" in name else "00000000"}))
    assert "Stream-Forked-From" in message


@pytest.mark.parametrize("text", ["", "-1", "+1", "01", "1.5", "1e1", "x", "9007199254740992"])
def test_4_2_bad_sub_offsets_are_400(text: str) -> None:
    message = refused(lambda: create(stream_forked_from="/a", stream_fork_sub_offset=text))
    assert message.startswith("Stream-Fork-Sub-Offset: ")


@pytest.mark.parametrize("text", ["", "0", "abc", "1,2", "-2", "00000000x"])
def test_4_2_bad_fork_offsets_are_400(text: str) -> None:
    message = refused(lambda: create(stream_forked_from="/a", stream_fork_offset=text))
    assert message.startswith("Stream-Fork-Offset: ")


@pytest.mark.parametrize(
    ("body", "content_type", "records"),
    [
        (b"", "application/json", []),
        (b"[]", "application/json", []),
        (b"[1,[2]]", "application/json", [b"1", b"[2]"]),
        (b'{"a":1}', "Application/JSON; charset=utf-8", [b'{"a":1}']),
        (b"[1,2]", "application/vnd.x+json", [b"[1,2]"]),
        (b"[1,2]", "text/plain", [b"[1,2]"]),
        (b"\x00\xff", "application/octet-stream", [b"\x00\xff"]),
    ],
)
def test_9_1_json_bodies_are_flattened_one_level(
    body: bytes, content_type: str, records: list[bytes]
) -> None:
    assert stream_request.records(body, content_type, values_max=10) == records


def read(query: str, **headers: str) -> stream_request.ReadQuery:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return stream_request.read_query(
        request("GET", f"/v1/stream/a?{query}", b"", named), parse_query(query)
    )


def test_5_6_a_read_starts_where_it_is_told() -> None:
    assert read("") == stream_request.ReadQuery(Position(0), None, None)
    assert read("offset=-1").start == Position(0)
    assert read("offset=now").start == Position(None)
    assert read("offset=00000012&unknown=1").start == Position(12)


@pytest.mark.parametrize(
    "query",
    ["offset=", "offset=-2", "offset=1", "offset=a,b", "offset=1%202", "offset=NOW",
     "offset=-1&offset=-1", "offset=%zz", "offset=00000001%00", "offset=0000000a"],
)  # fmt: skip
def test_8_what_is_no_offset_is_400(query: str) -> None:
    assert refused(lambda: read(query)).startswith("offset: ")


@pytest.mark.parametrize("live", ["sse", "long-poll"])
def test_5_7_5_8_live_reads_need_an_offset(live: str) -> None:
    assert refused(lambda: read(f"live={live}")).startswith("offset: ")
    assert read(f"live={live}&offset=now&cursor=7") == stream_request.ReadQuery(
        Position(None), Live(live), 7
    )


def test_5_7_another_live_mode_is_400() -> None:
    assert refused(lambda: read("live=yes&offset=-1")).startswith("live: ")


def test_5_8_last_event_id_is_newer_than_the_url() -> None:
    assert read("live=sse&offset=-1", last_event_id="00000004").start == Position(5)
    assert read("live=long-poll&offset=-1", last_event_id="00000004").start == Position(0)


def test_10_1_a_cursor_we_cannot_have_minted_is_ignored() -> None:
    assert read("offset=-1&cursor=abc").cursor is None
