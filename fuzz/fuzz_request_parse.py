"""Fuzzes targets, queries and headers: ``python fuzz/fuzz_request_parse.py --seconds 10``.

Whatever a front passes on, routing and parsing give values or a 4xx, never another exception,
and decoded names are what they were encoded from.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from tailrace_server.keys import KeyRing
from tailrace_server.protocol import page_token, parse, session_query, target
from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.message import Request
from tailrace_server.routes import ROUTES, Router

PATHS: Final = (
    "/v1/sessions",
    "/v1/sessions/s/events",
    "/v1/sessions/a%2Fb/events/stream",
    "/v1/search",
    "/v1/sessions/%C3%BC/fork",
    "/v1/sessions/%F0%9F%98%80",
    "/healthz",
)
QUERIES: Final = (
    "offset=-1&limit=5&order=desc",
    "offset=now&live=sse&cursor=17",
    "q=a+b%20c&type=x,y",
    "types[]=a&types%5B%5D=b",
    "created_at[gte]=2026-04-15T14:32:19.421Z",
    "live=long-poll",
    "created_at%5Blt%5D=2026-04-15T14:32:19%2B02:00",
    "beta=true&session=a*&session=b",
    "page=" + page_token.encode_events_page(page_token.EventsPage(5, True, 3, 9)),
    "page=" + page_token.encode_streams_page(page_token.StreamsPage(0, 3, "s")),
)
HEADERS: Final = (
    ("producer-id", "p"),
    ("producer-epoch", "0"),
    ("producer-seq", "9007199254740991"),
    ("stream-seq", "01"),
    ("stream-closed", "TRUE"),
    ("stream-expected-offset", "00000001"),
    ("last-event-id", "00000007"),
    ("content-type", "application/json; charset=utf-8"),
    ("authorization", "Bearer k"),
    ("x-api-key", "k"),
    ("if-none-match", 'W/"1:0:5", *'),
)
TOKENS: Final = (
    "%",
    "%2",
    "%zz",
    "%00",
    "%ff",
    "%C3",
    "%2F",
    "%25",
    "+",
    "&",
    "=",
    ";",
    "/",
    "//",
    "..",
    "[",
    "]",
    "\xff",
    "\xfc",
    "\x00",
    "-",
    "now",
    "99999999999999999999",
    "e5",
    " ",
    ",",
    "*",
    '"',
)
BODIES: Final = (
    b"",
    b"{}",
    b'{"title":"t","metadata":{"a":null}}',
    b'{"id":"f","offset":"00000001"}',
    b"[",
    b'{"id":"\\u0000"}',
    b'{"metadata":{"a":1e999}}',
    b"\xff",
    b'{"offset":"now"}',
)


def mutated(rng: random.Random, text: str) -> str:
    """``text`` with a few random edits."""
    for _ in range(rng.randrange(5)):
        at = rng.randrange(len(text) + 1)
        kind = rng.randrange(3)
        if kind == 0:
            text = text[:at] + rng.choice(TOKENS) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.randrange(1, 5) :]
        else:
            text = text[:at] + chr(rng.randrange(256)) + text[at + 1 :]
    return text


def made_up(rng: random.Random) -> Request:
    headers = tuple(
        (name, mutated(rng, value)) for name, value in rng.sample(HEADERS, rng.randrange(6))
    )
    return Request(
        rng.choice(("GET", "POST", "HEAD", "DELETE", "PUT")),
        mutated(rng, rng.choice(PATHS)),
        mutated(rng, "&".join(rng.sample(QUERIES, rng.randrange(3)))),
        headers,
        rng.choice(BODIES),
    )


def refusal(parser: Callable[[], object]) -> RequestError | None:
    try:
        parser()
    except RequestError as error:
        return error
    return None


def check(request: Request, router: Router, keys: KeyRing) -> int:
    """How many of the parsers accepted the request."""
    query = target.Query({})

    def parse_query() -> object:
        nonlocal query
        query = target.parse_query(request.query)
        return query

    parsers: tuple[Callable[[], object], ...] = (
        lambda: router.match(request.method, request.path),
        parse_query,
        lambda: parse.append_headers(request),
        lambda: parse.last_event(request),
        lambda: session_query.events_query(request, query),
        lambda: session_query.stream_query(request, query),
        lambda: session_query.sessions_query(query),
        lambda: session_query.search_query(query),
        lambda: session_query.session_update(request.body),
        lambda: session_query.session_fork(request.body),
    )
    accepted = 0
    for parser in parsers:
        refused = refusal(parser)
        if refused is None:
            accepted += 1
        else:
            assert 400 <= refused.status < 500
            assert refused.response().body
    grant = keys.authenticate(request)
    assert grant is None or not keys.is_open
    return accepted


def check_names(rng: random.Random) -> None:
    """Any name survives being a path segment."""
    name = "".join(chr(rng.choice((rng.randrange(0x80), rng.randrange(0xD800)))) for _ in range(5))
    assert target.percent_decode(quote(name, safe=""), "x") == name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    rng = random.Random(seed)
    router, keys = Router(ROUTES), KeyRing(["k"])
    until = time.monotonic() + options.seconds
    tried = accepted = 0
    while time.monotonic() < until:
        request = made_up(rng)
        try:
            accepted += check(request, router, keys)
            check_names(rng)
        except BaseException:
            print(f"seed {seed}, after {tried} requests: {request!r}")
            raise
        tried += 1
    print(f"{tried} requests, {accepted} parts accepted, seed {seed}")


if __name__ == "__main__":
    main()
