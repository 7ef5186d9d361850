"""Both fronts count what they do, and /metrics shows it (FrontCounters)."""

from __future__ import annotations

import dataclasses

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tailrace_server.front import FrontLimits
from tailrace_server.front_counters import FrontCounters
from tailrace_server.metrics import Metrics
from tests.server.front_support import FRONTS, eventually, running

both = pytest.mark.parametrize("kind", FRONTS)
LIMITS = FrontLimits(
    body_bytes_max=1000, connections_max=2, head_timeout_s=0.3, body_timeout_s=0.3, linger_s=0.3
)
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


def post(path: bytes, length: int, *fields: bytes) -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"POST %b HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n" % (path, lines, length)


@both
async def test_connections_are_counted(kind: str) -> None:
    async with running(kind, LIMITS) as server:
        async with await server.connect() as first, await server.connect() as second:
            for client in (first, second):
                await client.send(GET)
                assert (await client.answer()).status == 200
            assert (
                server.front.counters.connections,
                server.front.counters.accepted,
                server.front.counters.refused,
            ) == (2, 2, 0)
            assert (await server.ask(GET)).status == 503
            assert (
                server.front.counters.connections,
                server.front.counters.accepted,
                server.front.counters.refused,
            ) == (2, 2, 1)
        await eventually(lambda: server.front.counters.connections == 0)
        assert server.front.counters.accepted == 2


@both
async def test_requests_and_bodies_are_counted(kind: str) -> None:
    async with running(kind) as server, await server.connect() as client:
        await client.send(post(b"/x", 300) + b"x" * 300 + GET)
        await client.send(post(b"/streamed/all", 5000) + b"x" * 5000)
        for _ in range(3):
            assert (await client.answer()).status == 200
        assert (server.front.counters.requests, server.front.counters.body_bytes) == (3, 5300)
        assert not server.front.counters.refusals
        # What a handler did not take has not reached it.
        await client.send(post(b"/streamed/early", 5000))
        assert (await client.answer()).status == 409
        assert (server.front.counters.requests, server.front.counters.body_bytes) == (4, 5300)


@both
@pytest.mark.parametrize(
    ("status", "request_"),
    [
        (400, b"GET /x HTTP/1.1\r\n\r\n"),
        (400, b"GET /x HTTP/1.1\r\nHost: a\r\nX A: b\r\n\r\n"),
        (401, post(b"/x", 10, b"X-Refuse: 1")),
        (408, b"GET /x HT"),
        (408, post(b"/x", 10) + b"x"),
        (413, post(b"/x", 2000)),
        (501, b"BREW /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ],
)
async def test_refusals_are_counted_by_status(kind: str, status: int, request_: bytes) -> None:
    async with running(kind, LIMITS) as server:
        assert (await server.ask(request_)).status == status
        assert server.front.counters.refusals == {status: 1}
        assert server.front.counters.requests == 0


def test_metrics_show_every_counter() -> None:
    counters = FrontCounters(1, 2, 3, 4, 5, 9)
    counters.refusals[408] = 6
    counters.refusals[413] = 7
    metrics = Metrics(dict, dict)
    metrics.add_front(lambda: counters, lambda: 8)
    shown = {
        (sample.name.removeprefix("tailrace_front_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        if sample.name.startswith("tailrace_front_")
    }
    assert shown == {
        ("connections",): 1,
        ("connections_accepted_total",): 2,
        ("connections_refused_total",): 3,
        ("requests_total",): 4,
        ("body_bytes_total",): 5,
        ("refusals_total", "408"): 6,
        ("refusals_total", "413"): 7,
        ("bodies_held_bytes",): 8,
        ("answers_kept_total",): 9,
    }
    assert len(dataclasses.fields(counters)) == 7
