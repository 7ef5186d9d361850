"""Runs a corpus of raw requests on a front, over real sockets, a real store and the real service.

Answers come back comparable: without what is random or belongs to their connection.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

import tailrace
from tailrace_server.config import ServiceConfig
from tailrace_server.fast.listener import FastFront
from tailrace_server.front import FrontLimits
from tailrace_server.hypercorn_front import HypercornFront
from tailrace_server.keys import KeyRing
from tailrace_server.service import Service
from tests.server.corpus.case import (
    BODY_BYTES_MAX,
    HEAD_BYTES_MAX,
    KEY,
    TARGET_BYTES_MAX,
    Case,
)
from tests.server.front_support import PATIENCE_S, Answer, RawClient, at_work

LIMITS = FrontLimits(
    head_bytes_max=HEAD_BYTES_MAX,
    target_bytes_max=TARGET_BYTES_MAX,
    body_bytes_max=BODY_BYTES_MAX,
    linger_s=0.3,
)
CONFIG = ServiceConfig(
    long_poll_timeout_s=0.05,
    sse_lifetime_s=0.3,
    body_bytes_max=BODY_BYTES_MAX,
    events_per_request_max=50,
)
PER_CONNECTION = {"date", "connection", "server", "keep-alive"}
"""Fields that belong to the connection or the moment."""
RANDOM = [
    (re.compile(rb"evt_[0-9A-Za-z]{20,}"), b"evt_ID"),
    (re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), b"TIME"),
    (re.compile(rb'"streamCursor":"\d+"'), b'"streamCursor":"N"'),
    (re.compile(rb"retry: \d+"), b"retry: N"),
    (re.compile(rb'"next_page":"[^"]+"'), b'"next_page":"TOKEN"'),
    (re.compile(rb'_at_ms":\d+'), b'_at_ms":0'),
]


@dataclass(frozen=True)
class Comparable:
    """An answer without what is random or belongs to its connection."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def comparable(answer: Answer, method: str) -> Comparable:
    body = answer.body
    for pattern, plain in RANDOM:
        body = pattern.sub(plain, body)
    fields = []
    for name, value in answer.headers:
        if name in PER_CONNECTION:
            continue
        if name == "transfer-encoding" and method == "HEAD":
            continue  # h11 announces a coding for a body that it never sends
        if name == "stream-cursor":
            value = "N"
        fields.append((name, value))
    return Comparable(answer.status, tuple(sorted(fields)), body)


_APPEND: Final = re.compile(rb"POST /(v1/stream|ds)/.*Content-Length: [0-9]+\r\n\r\n", re.DOTALL)
_MAY_DO_MORE: Final = re.compile(rb"Stream-|Producer-|If-Match|subscriptions", re.IGNORECASE)


def _without_body(request: bytes) -> bytes | None:
    """The same append with nothing in it, which changes nothing; its head is known then."""
    found = _APPEND.match(request)
    if found is None or _MAY_DO_MORE.search(found[0]):
        return None
    return re.sub(rb"Content-Length: [0-9]+", b"Content-Length: 0", found[0])


async def _run(
    kind: str, directory: Path, cases: Sequence[Case], known: bool
) -> tuple[dict[str, Comparable], int]:
    found = {}

    async def ask(case: Case, request: bytes) -> Comparable:
        with trio.fail_after(PATIENCE_S):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with RawClient(stream) as client:
                await client.send(request)
                return comparable(await client.answer(case.method), case.method)

    with tailrace.open(directory) as store:
        service = Service(store, CONFIG, KeyRing([KEY]))
        front = (FastFront if kind == "fast" else HypercornFront)(service, LIMITS)
        async with at_work(front, service) as (port, _):
            for case in cases:
                if known and (before := _without_body(case.request)) is not None:
                    await ask(case, before)
                found[case.name] = await ask(case, case.request)
    rows = front.figures()["rows_taken"] if isinstance(front, FastFront) else 0
    return found, rows


def run(kind: str, directory: Path, cases: Sequence[Case]) -> dict[str, Comparable]:
    """The answer to each case by its name, from a front of ``kind`` with a store of its own."""
    return trio.run(_run, kind, directory, cases, False)[0]


def run_known(directory: Path, cases: Sequence[Case]) -> tuple[dict[str, Comparable], int]:
    """The same of the fast front when it knows the heads of plain appends already.

    Beside the answers: how many of the cases were staged as rows.
    """
    return trio.run(_run, "fast", directory, cases, True)


def error_type(answer: Comparable) -> bytes:
    found = re.fullmatch(rb'\{"error":\{"type":"(\w+)","message":".+"\}\}', answer.body)
    return found[1] if found else b""
