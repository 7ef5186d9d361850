"""Parsers of what comes from outside: targets, queries, headers, tokens. No store, no IO."""

from __future__ import annotations

import string
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_server.protocol import (
    parse,
    session_query,
    target,
    timestamps,
)
from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.message import Request

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TEXT = st.text(st.characters(codec="utf-8"))


def req(query: str = "", **headers: str) -> Request:
    pairs = tuple((name.replace("_", "-").lower(), value) for name, value in headers.items())
    return Request("POST", "/x", query, pairs, b"")


def refusal(parser: Callable[[], object]) -> int | None:
    """The status a parser refuses with; None if it accepts."""
    try:
        parser()
    except RequestError as error:
        return error.status
    return None


# --- the request target


@given(TEXT)
def test_percent_encoding_round_trips(text: str) -> None:
    assert target.percent_decode(quote(text, safe=""), "x") == text


@given(st.text(st.characters(max_codepoint=255)))
def test_percent_decoding_never_fails_otherwise(text: str) -> None:
    assert refusal(lambda: target.percent_decode(text, "x")) in (None, 400)


@pytest.mark.parametrize(
    "text", ["%", "%4", "%zz", "a%2", "%ff", "%c3", "%ed%a0%80", "%c0%af", "\xff"]
)
def test_bad_encoding_is_400(text: str) -> None:
    with pytest.raises(RequestError) as error:
        target.percent_decode(text, "session id")
    assert error.value.status == 400
    assert error.value.message.startswith("session id: ")


def test_a_slash_in_a_segment_stays_there() -> None:
    assert target.path_segments("/a/b%2Fc/") == ("a", "b%2Fc", "")


@given(st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=8))
def test_queries_round_trip(pairs: list[tuple[str, str]]) -> None:
    query = target.parse_query(urlencode(pairs))
    for name, _ in pairs:
        assert query.many(name) == [value for other, value in pairs if other == name]


def test_a_parameter_given_twice_is_named() -> None:
    query = target.parse_query("offset=1&offset=2&a")
    assert query.single("a") == ""
    assert query.single("b") is None
    with pytest.raises(RequestError, match="offset: was given 2 times"):
        query.single("offset")


def test_too_many_parameters_is_400() -> None:
    with pytest.raises(RequestError):
        target.parse_query("a&" * 2000)


# --- session ids


@pytest.mark.parametrize("text", ["s", "a/b", "..", "ü" * 61, "x" * 122, "😀", " "])
def test_good_session_ids(text: str) -> None:
    assert session_query.session_id(text) == text


@pytest.mark.parametrize("text", ["", "x" * 123, "ü" * 62, "a\nb", "\x00", "\x7f", "\x85"])
def test_bad_session_ids_are_400(text: str) -> None:
    with pytest.raises(RequestError) as error:
        session_query.session_id(text)
    assert error.value.status == 400


# --- producer headers (protocol section 5.2.1)


def test_5_2_1_producer_headers() -> None:
    found = parse.append_headers(req(producer_id="p", producer_epoch="0", producer_seq="12"))
    assert found.producer == ("p", 0, 12)
    assert parse.append_headers(req()).producer is None


@pytest.mark.parametrize(
    "headers",
    [
        {"producer_id": "p"},
        {"producer_epoch": "0", "producer_seq": "0"},
        {"producer_id": "p", "producer_seq": "0"},
        {"producer_id": "", "producer_epoch": "0", "producer_seq": "0"},
        {"producer_id": "x" * 300, "producer_epoch": "0", "producer_seq": "0"},
    ],
)
def test_5_2_1_producer_headers_come_together(headers: dict[str, str]) -> None:
    with pytest.raises(RequestError, match="Producer-"):
        parse.append_headers(req(**headers))


@pytest.mark.parametrize(
    "number",
    [
        "",
        "-1",
        "+1",
        "01",
        "00",
        "1.0",
        "1e3",
        "0x1",
        " ",
        "1 2",
        "1, 1",
        "9007199254740992",
        "99999999999999999999",
        "18446744073709551616",
        "١",
        "a",
    ],
)
@pytest.mark.parametrize("header", ["producer_epoch", "producer_seq"])
def test_5_2_1_numbers_are_plain_and_small(header: str, number: str) -> None:
    headers = {"producer_id": "p", "producer_epoch": "0", "producer_seq": "0", header: number}
    with pytest.raises(RequestError, match="(?i)" + header.replace("_", "-")):
        parse.append_headers(req(**headers))


def test_5_2_1_the_largest_number_is_2_to_the_53_less_1() -> None:
    assert parse.whole_number("9007199254740991", "x") == 2**53 - 1


@pytest.mark.parametrize(
    ("value", "closes"),
    [
        ("true", True),
        ("TRUE", True),
        ("True", True),
        ("false", False),
        ("1", False),
        ("yes", False),
        ("", False),
        ("true, true", True),
        ("true, false", False),
    ],
)
def test_4_1_stream_closed_is_true_in_any_case(value: str, closes: bool) -> None:
    assert parse.closes(req(stream_closed=value)) is closes


def test_stream_seq_is_opaque_but_bounded() -> None:
    assert parse.append_headers(req(stream_seq="0007")).stream_seq == "0007"
    for bad in ("", "x" * 257):
        with pytest.raises(RequestError, match="Stream-Seq"):
            parse.append_headers(req(stream_seq=bad))


def test_expected_offset() -> None:
    assert parse.append_headers(req(stream_expected_offset="00000003")).expected_ordinal == 3
    assert parse.append_headers(req(stream_expected_offset="-1")).expected_ordinal == 0
    with pytest.raises(RequestError, match="Stream-Expected-Offset"):
        parse.append_headers(req(stream_expected_offset="now"))


# --- offsets and other parameters


@pytest.mark.parametrize(
    ("text", "ordinal"),
    [
        ("-1", 0),
        ("now", None),
        ("00000000", 0),
        ("00000041", 41),
        ("a100000000", 10**8),
        ("0000000000000000_0000000000000000", 0),
    ],
)
def test_8_offsets(text: str, ordinal: int | None) -> None:
    assert parse.position(text, "offset").ordinal == ordinal


@pytest.mark.parametrize(
    "text", ["", "0", "-2", "NOW", "1,2", "00000000x", "b100000000", "/", "٠٠٠٠٠٠٠٠", "\x00" * 8]
)
def test_8_bad_offsets_are_400(text: str) -> None:
    with pytest.raises(RequestError, match="offset"):
        parse.position(text, "offset")


@given(st.text(string.printable, max_size=30))
def test_no_offset_crashes(text: str) -> None:
    assert refusal(lambda: parse.position(text, "offset")) in (None, 400)


def events_query(query: str) -> session_query.EventsQuery:
    return session_query.events_query(req(query), target.parse_query(query))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("offset=x", "offset"),
        ("offset=", "offset"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e2", "limit"),
        ("limit=99999", "limit"),
        ("limit=", "limit"),
        ("order=down", "order"),
        ("order=", "order"),
        ("live=yes", "live"),
        ("live=true", "live"),
        ("live=", "live"),
        ("page=x", "page"),
        ("type=", "type"),
        ("types[]=,", "type"),
        ("created_at[gt]=now", "created_at"),
        ("created_at%5Blte%5D=2026-13-01T00:00:00Z", "created_at"),
        ("q=a&page=x", "page"),
        ("q=a&order=desc", "order"),
        ("q=a&offset=-1", "offset"),
        ("q=a&limit=1001", "limit"),
        ("q=a&live=sse", "q"),
        ("live=sse&limit=3", "limit"),
        ("live=sse&order=desc", "order"),
        ("live=long-poll&created_at[gt]=2026-01-01T00:00:00Z", "created_at"),
        ("q=" + "x" * 5000, "q"),
        ("q=1&q=2", "q"),
        ("q=%ff", "q"),
        ("%zz=1", "query"),
        ("type=" + ",".join(map(str, range(200))), "type"),
    ],
)
def test_bad_parameters_are_400_and_named(query: str, field: str) -> None:
    with pytest.raises(RequestError) as error:
        events_query(query)
    assert error.value.status == 400
    assert error.value.message.startswith(field)


def test_unknown_parameters_are_ignored() -> None:
    assert events_query("beta=true&x=y&_=1").managed_agents
    assert not events_query("beta=false").managed_agents


def test_types_come_in_every_form() -> None:
    found = events_query("type=a,b&type=c&types[]=d&types%5B%5D=e&type[]=f&types=g")
    assert found.types == frozenset("abcdefg")


@given(st.text(st.characters(max_codepoint=255)))
def test_no_query_string_crashes(query: str) -> None:
    assert refusal(lambda: events_query(query)) in (None, 400)


# --- times


@given(st.integers(0, 253_402_300_799_999))
def test_times_round_trip(at_ms: int) -> None:
    text = timestamps.format_ms(at_ms)
    assert timestamps.parse_ns(text, "x") == at_ms * 1_000_000
    assert datetime.fromisoformat(text) == EPOCH + timedelta(milliseconds=at_ms)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01T02:00:00 02:00", 0),
        ("1969-12-31T23:00:00-01:00", 0),
        ("1970-01-01T00:00:00.1234567891Z", 123456789),
        ("1969-12-31T23:59:60Z", 0),
    ],
)
def test_times_of_rfc_3339(text: str, ns: int) -> None:
    assert timestamps.parse_ns(text, "x") == ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-01",
        "2026-02-30T00:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:00+25:00",
        "0000-01-01T00:00:00Z",
        "٢٠٢٦-01-01T00:00:00Z",
        "2026-01-01T00:00:00.Z",
    ],
)
def test_other_times_are_400(text: str) -> None:
    with pytest.raises(RequestError, match="created_at"):
        timestamps.parse_ns(text, "created_at")


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("created_at[gte]=1970-01-01T00:00:01Z", (1000, None)),
        ("created_at[gt]=1970-01-01T00:00:01Z", (1001, None)),
        ("created_at[gte]=1970-01-01T00:00:01.0005Z", (1001, None)),
        ("created_at[gt]=1970-01-01T00:00:01.0005Z", (1001, None)),
        ("created_at[lt]=1970-01-01T00:00:01Z", (None, 1000)),
        ("created_at[lte]=1970-01-01T00:00:01Z", (None, 1001)),
        ("created_at[lt]=1970-01-01T00:00:01.0005Z", (None, 1001)),
        ("created_at[lte]=1970-01-01T00:00:01.0005Z", (None, 1001)),
        (
            (
                "created_at[gt]=1970-01-01T00:00:01Z&created_at[gte]=1970-01-01T00:00:05Z"
                "&created_at[lt]=1970-01-01T00:00:09Z&created_at[lte]=1970-01-01T00:00:08Z"
            ),
            (5000, 8001),
        ),
    ],
)
def test_time_ranges_mean_the_same_events(
    query: str, wanted: tuple[int | None, int | None]
) -> None:
    assert events_query(query).created == wanted
