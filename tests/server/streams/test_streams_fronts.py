"""Every front answers the streams' corpus alike, over real sockets and a real store."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

import tailrace
from tailrace_server.fast.listener import FastFront
from tailrace_server.hypercorn_front import HypercornFront
from tailrace_server.keys import KeyRing
from tailrace_server.service import Service
from tests.server.corpus import sessions_api, streams_api
from tests.server.corpus.sessions_api import Case
from tests.server.front_support import FRONTS, PATIENCE_S, RawClient
from tests.server.test_front_corpus import (
    CONFIG,
    LIMITS,
    Answers,
    Comparable,
    comparable,
    error_type,
)


async def run_corpus(
    kind: str, directory: Path, cases: Sequence[Case] = streams_api.CASES
) -> dict[str, Comparable]:
    found = {}
    with tailrace.open(directory) as store:
        service = Service(store, CONFIG, KeyRing([sessions_api.KEY]))
        front = (FastFront if kind == "fast" else HypercornFront)(service, LIMITS)
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            await nursery.start(front.serve, [listener])
            for case in cases:
                with trio.fail_after(PATIENCE_S):
                    stream = await trio.open_tcp_stream("127.0.0.1", port)
                    async with RawClient(stream) as client:
                        await client.send(case.request)
                        answer = await client.answer(case.method)
                        found[case.name] = comparable(answer, case.method)
            nursery.cancel_scope.cancel()
    return found


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return {
        kind: trio.run(run_corpus, kind, tmp_path_factory.mktemp(kind) / "data") for kind in FRONTS
    }


def test_the_names_are_unique() -> None:
    names = [case.name for case in streams_api.CASES]
    assert len(names) == len(set(names)) >= 150


@pytest.mark.parametrize("case", streams_api.CASES, ids=lambda case: case.name)
def test_every_front_answers_alike(case: Case, answers: Answers) -> None:
    fast, hypercorn = answers["fast"][case.name], answers["hypercorn"][case.name]
    assert fast.status == case.status, fast
    assert hypercorn == fast


@pytest.mark.parametrize("kind", FRONTS)
def test_every_refusal_is_json(kind: str, answers: Answers) -> None:
    for case in streams_api.CASES:
        answer = answers[kind][case.name]
        if answer.status >= 400 and case.method != "HEAD":
            assert error_type(answer), (case.name, answer)
