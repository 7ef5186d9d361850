"""The Durable Streams Protocol's official suite passes, whole, on each front.

``CONFORMANCE_RUNS=3`` runs it three times in a row on each.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.conformance import suite
from tests.conformance.suite import Verdict
from tests.e2e.server_process import FRONTS, serving

pytestmark = pytest.mark.long

RUNS: Final = int(os.environ.get("CONFORMANCE_RUNS", "1"))
TESTS: Final = 338


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    suite.install()


@pytest.mark.timeout(suite.PATIENCE_S + 60)
@pytest.mark.parametrize("run", range(1, RUNS + 1))
@pytest.mark.parametrize("front", FRONTS)
def test_the_official_suite_passes(tmp_path: Path, front: str, run: int) -> None:
    with serving(
        tmp_path / "data", "--long-poll-timeout", str(suite.LONG_POLL_S), front=front
    ) as server:
        found = suite.run(server, tmp_path)
    failed = [f"{verdict.name}\n{verdict.why}" for verdict in found if verdict.status == "failed"]
    assert not failed, "\n\n".join([f"{len(failed)} of {len(found)} failed", *failed])
    assert Counter(verdict.status for verdict in found) == {"passed": TESTS}


def test_a_failure_in_the_report_is_seen() -> None:
    report = {
        "testResults": [
            {
                "assertionResults": [
                    {
                        "ancestorTitles": ["Reads"],
                        "fullName": "Reads at the tail",
                        "status": "failed",
                        "failureMessages": ["expected 200", "got 500"],
                    }
                ]
            }
        ]
    }
    assert suite.verdicts(report) == [
        Verdict("Reads", "Reads at the tail", "failed", "expected 200\ngot 500")
    ]
