"""A server without keys is for this machine: no page of elsewhere may use it by a browser."""

from __future__ import annotations

import pytest

from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.loopback import check_loopback, is_loopback
from tailrace_server.protocol.message import Request


def request(*fields: tuple[str, str]) -> Request:
    return Request("GET", "/v1/sessions", "", fields, b"")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:4437",
        "127.0.0.1:4437",
        "127.8.8.8",
        "[::1]",
        "[::1]:80",
        "a.localhost",
    ],
)
def test_names_of_this_machine(host: str) -> None:
    assert is_loopback(f"//{host}")
    check_loopback(request(("host", host)))
    check_loopback(request(("host", host), ("origin", f"http://{host}")))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::2]",
        "",
        "[",
        "0",
    ],
)
def test_other_names_are_refused(host: str) -> None:
    assert not is_loopback(f"//{host}")
    with pytest.raises(RequestError) as refused:
        check_loopback(request(("host", host)))
    assert refused.value.status == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "file://", "", "http://localhost@evil.example"]
)
def test_pages_of_elsewhere_are_refused(origin: str) -> None:
    with pytest.raises(RequestError, match="Origin"):
        check_loopback(request(("host", "localhost:4437"), ("origin", origin)))


def test_a_program_that_names_no_origin_is_served() -> None:
    check_loopback(request(("host", "localhost:4437")))
    check_loopback(request())
