"""Every front answers the corpora alike, over real sockets, a real store and the real service."""

from __future__ import annotations

from typing import Final

import pytest

from tests.server.corpus import buckets_api, http_itself, runner, sessions_api, streams_api
from tests.server.corpus.case import Case
from tests.server.corpus.runner import Comparable, error_type
from tests.server.front_support import FRONTS

# Buckets hold twins of the streams' corpus, which some of their cases need.
CORPORA: Final = {
    "sessions": sessions_api.CASES,
    "streams": [*streams_api.CASES, *buckets_api.CASES],
}
CASES: Final = [(corpus, case) for corpus, cases in CORPORA.items() for case in cases]

Answers = dict[tuple[str, str], dict[str, Comparable]]
"""By front and corpus, then by the name of the case."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    return {
        (kind, name): runner.run(kind, tmp_path_factory.mktemp(f"{kind}-{name}") / "data", cases)
        for kind in FRONTS
        for name, cases in CORPORA.items()
    }


def test_the_corpora_are_large_and_their_names_are_unique() -> None:
    for corpus, least in (("sessions", 260), ("streams", 420)):
        names = [case.name for case in CORPORA[corpus]]
        assert len(names) == len(set(names)) >= least
    assert set(http_itself.HYPERCORN_DIFFERS) <= {case.name for case in sessions_api.CASES}


@pytest.mark.parametrize(
    ("corpus", "case"), CASES, ids=[f"{corpus}: {case.name}" for corpus, case in CASES]
)
def test_every_front_answers_alike(corpus: str, case: Case, answers: Answers) -> None:
    fast, hypercorn = (answers[kind, corpus][case.name] for kind in ("fast", "hypercorn"))
    assert fast.status == case.status, fast
    if corpus != "sessions":
        assert hypercorn == fast
    elif case.name in http_itself.HYPERCORN_DIFFERS:
        status, _ = http_itself.HYPERCORN_DIFFERS[case.name]
        assert hypercorn.status == status, hypercorn
    elif case.name in http_itself.REFUSED_BY_PARSER:
        assert (hypercorn.status, error_type(hypercorn)) == (fast.status, error_type(fast))
    else:
        assert hypercorn == fast


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Comparable], int]:
    return runner.run_known(tmp_path_factory.mktemp("known") / "data", CORPORA["streams"])


def test_plain_appends_of_the_corpus_go_as_rows(known: tuple[dict[str, Comparable], int]) -> None:
    assert known[1] >= 32


@pytest.mark.parametrize("case", CORPORA["streams"], ids=lambda case: case.name)
def test_what_goes_as_a_row_is_answered_alike(
    case: Case, answers: Answers, known: tuple[dict[str, Comparable], int]
) -> None:
    assert known[0][case.name] == answers["fast", "streams"][case.name]


@pytest.mark.parametrize("kind", FRONTS)
def test_every_refusal_is_json(kind: str, answers: Answers) -> None:
    for corpus, case in CASES:
        answer = answers[kind, corpus][case.name]
        if answer.status >= 400 and case.method != "HEAD":
            assert error_type(answer), (case.name, answer)


# ---- what the flat surface says to a request, the bucketed one says to the same request

PAIRED: Final = [case for case in streams_api.CASES if case.name not in buckets_api.FLAT_ONLY]
OWN: Final = {"etag", "location", "content-length"}
"""Fields that tell one stream, or its name, from another."""


@pytest.mark.parametrize("case", PAIRED, ids=lambda case: case.name)
def test_a_bucket_answers_like_the_flat_surface(case: Case, answers: Answers) -> None:
    flat = answers["fast", "streams"][case.name]
    twin = answers["fast", "streams"][buckets_api.twin_name(case.name)]
    assert twin.status == flat.status
    assert error_type(twin) == error_type(flat)
    assert shared(twin) == shared(flat)
    if flat.status < 300:
        assert twin.body == flat.body


def shared(answer: Comparable) -> list[tuple[str, str]]:
    return [(name, "" if name in OWN else value) for name, value in answer.headers]
