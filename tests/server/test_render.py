"""Outcomes → responses, byte by byte."""

from __future__ import annotations

import pytest

from tailrace.outcome import Appended, Reason, Rejection
from tailrace_server.protocol import errors, headers, render
from tailrace_server.protocol.message import Request, Response


def found(response: Response) -> dict[str, str]:
    return dict(response.headers)


def appended(**changes: object) -> Appended:
    fields: dict[str, object] = {
        "stream_id": 1,
        "base": 4,
        "tail": 5,
        "closed": False,
        "duplicate": False,
        "created": False,
        "created_at_ms": 0,
    }
    return Appended(**(fields | changes))  # type: ignore[arg-type]


def test_every_reason_has_a_status() -> None:
    assert set(render.STATUS) == set(Reason)
    assert all(400 <= status < 500 for status in render.STATUS.values())


def test_5_2_an_append_is_204() -> None:
    response = render.appended(appended())
    told = (("Stream-Next-Offset", "00000005"), ("ETag", '"1:0:5"'))
    assert response == Response(204, (*told, *headers.BASE))


def test_5_2_1_new_data_is_200_and_a_duplicate_204() -> None:
    new = render.appended(appended(producer_epoch=3, producer_seq=7))
    again = render.appended(appended(base=5, producer_epoch=3, producer_seq=9, duplicate=True))
    close_only = render.appended(appended(base=5, producer_epoch=3, producer_seq=8, closed=True))
    assert (new.status, again.status, close_only.status) == (200, 204, 204)
    assert found(new)["Producer-Seq"] == "7"
    assert found(again)["Producer-Seq"] == "9"
    assert found(new)["Producer-Epoch"] == found(again)["Producer-Epoch"] == "3"


def test_5_3_a_closed_stream_says_so() -> None:
    assert found(render.appended(appended(closed=True)))["Stream-Closed"] == "true"


def test_5_2_a_refused_append_says_where_the_stream_ends() -> None:
    response = render.rejection(Rejection(Reason.STREAM_CLOSED, "it is closed", 5, closed=True))
    assert response == Response(
        409,
        (
            ("Content-Type", "application/json"),
            ("Cache-Control", "no-store"),
            ("Stream-Next-Offset", "00000005"),
            ("Stream-Closed", "true"),
            *headers.BASE,
        ),
        (b'{"error":{"type":"stream_closed","message":"it is closed"}}',),
    )


def test_5_2_1_fence_and_gap_headers() -> None:
    fenced = found(render.rejection(Rejection(Reason.PRODUCER_FENCED, "x", producer_epoch=4)))
    assert fenced["Producer-Epoch"] == "4"
    gap = Rejection(Reason.PRODUCER_GAP, "x", producer_expected_seq=0, producer_received_seq=9)
    assert found(render.rejection(gap))["Producer-Expected-Seq"] == "0"
    assert found(render.rejection(gap))["Producer-Received-Seq"] == "9"


@pytest.mark.parametrize(
    ("up_to_date", "closed", "wanted"),
    [
        (False, False, {}),
        (False, True, {}),
        (True, False, {"Stream-Up-To-Date": "true"}),
        (True, True, {"Stream-Up-To-Date": "true", "Stream-Closed": "true"}),
    ],
)
def test_5_6_closure_counts_at_the_tail(
    up_to_date: bool, closed: bool, wanted: dict[str, str]
) -> None:
    read = dict(render.read_headers(7, up_to_date=up_to_date, closed=closed))
    assert read == {"Stream-Next-Offset": "00000007"} | wanted


def test_pages() -> None:
    assert b"".join(render.data_page((), None)) == b'{"data":[],"next_page":null}'
    chunks = (memoryview(b'{"a":1},{"a":2}'),)
    assert b"".join(render.data_page(chunks, "t")) == (
        b'{"data":[{"a":1},{"a":2}],"next_page":"t"}'
    )


@pytest.mark.parametrize(("wait_s", "header"), [(0, "1"), (0.2, "1"), (1, "1"), (1.01, "2")])
def test_retry_after_is_whole_seconds(wait_s: float, header: str) -> None:
    response = errors.overloaded("busy", wait_s).response()
    assert response.status == 503
    assert found(response)["Retry-After"] == header


def test_messages_may_hold_anything() -> None:
    response = errors.bad_request("q", 'a"b\\\n\u2028\x00').response()
    assert b"".join(response.body) == (
        b'{"error":{"type":"invalid_request_error","message":"q: a\\"b\\\\\\n\xe2\x80\xa8\\u0000"}}'
    )


def test_repeated_headers_are_joined() -> None:
    request = Request("GET", "/", "", (("a", " 1\t"), ("b", "x"), ("a", "2")), b"")
    assert request.header("A") == "1, 2"
    assert request.header("c") is None


def test_every_own_header_is_exposed_and_allowed() -> None:
    names = {value for value in vars(headers).values() if isinstance(value, str)}
    own = {name for name in names if name.startswith(("Stream-", "Producer-"))}
    assert own <= {*headers.CORS_ALLOWED, *headers.CORS_EXPOSED}
    assert len(own) > 15
