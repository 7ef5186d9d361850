"""Every front answers the corpus alike, over real sockets, a real store and the real service."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

import tailrace
from tailrace_server.config import ServiceConfig
from tailrace_server.fast.listener import FastFront
from tailrace_server.front import FrontLimits
from tailrace_server.hypercorn_front import HypercornFront
from tailrace_server.keys import KeyRing
from tailrace_server.service import Service
from tests.server.corpus import sessions_api as corpus
from tests.server.front_support import FRONTS, PATIENCE_S, Answer, RawClient

LIMITS = FrontLimits(
    head_bytes_max=corpus.HEAD_BYTES_MAX,
    target_bytes_max=corpus.TARGET_BYTES_MAX,
    body_bytes_max=corpus.BODY_BYTES_MAX,
    linger_s=0.3,
)
CONFIG = ServiceConfig(
    long_poll_timeout_s=0.05,
    sse_lifetime_s=0.3,
    body_bytes_max=corpus.BODY_BYTES_MAX,
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


async def run_corpus(kind: str, directory: Path) -> dict[str, Comparable]:
    found = {}
    with tailrace.open(directory) as store:
        service = Service(store, CONFIG, KeyRing([corpus.KEY]))
        front = (FastFront if kind == "fast" else HypercornFront)(service, LIMITS)
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            await nursery.start(front.serve, [listener])
            for case in corpus.CASES:
                with trio.fail_after(PATIENCE_S):
                    stream = await trio.open_tcp_stream("127.0.0.1", port)
                    async with RawClient(stream) as client:
                        await client.send(case.request)
                        answer = await client.answer(case.method)
                        found[case.name] = comparable(answer, case.method)
            nursery.cancel_scope.cancel()
    return found


Answers = dict[str, dict[str, Comparable]]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """The whole corpus from each front, each with a store of its own."""
    return {
        kind: trio.run(run_corpus, kind, tmp_path_factory.mktemp(kind) / "data") for kind in FRONTS
    }


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    names = [case.name for case in corpus.CASES]
    assert len(names) == len(set(names)) >= 200
    assert set(corpus.HYPERCORN_DIFFERS) <= set(names)


@pytest.mark.parametrize("case", corpus.CASES, ids=lambda case: case.name)
def test_every_front_answers_alike(case: corpus.Case, answers: Answers) -> None:
    fast, hypercorn = answers["fast"][case.name], answers["hypercorn"][case.name]
    assert fast.status == case.status, fast
    if case.name in corpus.HYPERCORN_DIFFERS:
        status, _ = corpus.HYPERCORN_DIFFERS[case.name]
        assert hypercorn.status == status, hypercorn
    elif case.name in corpus.REFUSED_BY_PARSER:
        assert (hypercorn.status, error_type(hypercorn)) == (fast.status, error_type(fast))
    else:
        assert hypercorn == fast


@pytest.mark.parametrize("kind", FRONTS)
def test_every_refusal_is_json(kind: str, answers: Answers) -> None:
    for case in corpus.CASES:
        answer = answers[kind][case.name]
        if answer.status >= 400 and case.method != "HEAD":
            assert error_type(answer), (case.name, answer)


def error_type(answer: Comparable) -> bytes:
    found = re.fullmatch(rb'\{"error":\{"type":"(\w+)","message":".+"\}\}', answer.body)
    return found[1] if found else b""
