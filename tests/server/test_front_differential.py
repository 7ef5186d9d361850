"""Attacks, oddities and what a generator draws, over sockets: served as llhttp alone reads them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from fuzz import fuzz_front, http_requests
from tailrace_server.fast.listener import FastFront
from tests.server.test_front_parser import GOOD, REFUSED, SMUGGLED

DRAWN = 300
SMUGGLED_NEXT = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with fuzz_front.running(FastFront(fuzz_front.Echo(), fuzz_front.LIMITS)) as port:
        yield port


@pytest.mark.parametrize("name", SMUGGLED)
def test_nothing_behind_an_ambiguous_request_is_served(name: str, port: int) -> None:
    """RFC 9112 section 11.2, also behind a request that was in order."""
    for before in (b"", GOOD["plain"]):
        found = fuzz_front.check(port, before + SMUGGLED[name] + SMUGGLED_NEXT)
        *served, refused = [status for status, _ in found]
        assert served == [200] * bool(before)
        assert refused == 400 or name == "TLS"


@pytest.mark.parametrize("name", GOOD)
def test_what_is_in_order_is_served(name: str, port: int) -> None:
    found = fuzz_front.check(port, GOOD[name])
    assert [status for status, _ in found][:1] == [200]


def test_every_refusal_is_the_parsers(port: int) -> None:
    for _, data in REFUSED.values():
        fuzz_front.check(port, data)


def test_whatever_comes_is_read_as_llhttp_reads_it(port: int) -> None:
    dice = random.Random(4)
    served = 0
    for _ in range(DRAWN):
        served += sum(
            status == 200 for status, _ in fuzz_front.check(port, http_requests.make(dice))
        )
    assert served > DRAWN // 4
