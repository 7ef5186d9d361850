"""Every front answers the buckets' corpus alike, over real sockets and a real store.

What the flat surface says to a request, the bucketed one says to the same request.
"""

from __future__ import annotations

import re

import pytest
import trio

from tests.server.corpus import buckets_api, streams_api
from tests.server.corpus.sessions_api import Case
from tests.server.front_support import FRONTS
from tests.server.streams.test_streams_fronts import run_corpus
from tests.server.test_front_corpus import Answers, Comparable, error_type

CASES = [*streams_api.CASES, *buckets_api.CASES]
OWN = {"etag", "location", "content-length"}
"""Fields that tell one stream, or its name, from another."""
PAIRED = [case for case in streams_api.CASES if case.name not in buckets_api.FLAT_ONLY]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return {
        kind: trio.run(run_corpus, kind, tmp_path_factory.mktemp(kind) / "data", CASES)
        for kind in FRONTS
    }


def test_the_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 400


@pytest.mark.parametrize("case", buckets_api.CASES, ids=lambda case: case.name)
def test_every_front_answers_alike(case: Case, answers: Answers) -> None:
    fast, hypercorn = answers["fast"][case.name], answers["hypercorn"][case.name]
    assert fast.status == case.status, fast
    assert timeless(hypercorn) == timeless(fast)


def timeless(answer: Comparable) -> Comparable:
    body = re.sub(rb'_at_ms":\d+', b'_at_ms":0', answer.body)
    headers = tuple(field for field in answer.headers if field[0] != "content-length")
    return Comparable(answer.status, headers, body)


@pytest.mark.parametrize("case", PAIRED, ids=lambda case: case.name)
def test_a_bucket_answers_like_the_flat_surface(case: Case, answers: Answers) -> None:
    flat = answers["fast"][case.name]
    twin = answers["fast"][buckets_api.twin_name(case.name)]
    assert twin.status == flat.status
    assert error_type(twin) == error_type(flat)
    assert shared(twin) == shared(flat)
    if flat.status < 300:
        assert twin.body == flat.body


def shared(answer: Comparable) -> list[tuple[str, str]]:
    return [(name, "" if name in OWN else value) for name, value in answer.headers]


@pytest.mark.parametrize("kind", FRONTS)
def test_every_refusal_is_json(kind: str, answers: Answers) -> None:
    for case in buckets_api.CASES:
        answer = answers[kind][case.name]
        if answer.status >= 400 and case.method != "HEAD":
            assert error_type(answer), (case.name, answer)
