"""The Durable Streams Protocol's official suite passes, whole, on each front.

``CONFORMANCE_RUNS=3`` runs it three times in a row on each.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
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
        first = suite.run(server, tmp_path)
        found = suite.settled(first, lambda names: suite.run(server, tmp_path, names))
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


def run_of(late_s: float, **status: str) -> suite.Run:
    return suite.Run([Verdict("", name, found, "") for name, found in status.items()], late_s)


@pytest.mark.parametrize("late_s", [0.0, 0.7])
def test_a_failure_counts_unless_the_machine_stood_still(late_s: float) -> None:
    asked: list[Sequence[str]] = []

    def again(names: Sequence[str]) -> suite.Run:
        asked.append(names)
        return run_of(0.0, a="skipped", b="passed", c="failed")

    first = run_of(late_s, a="passed", b="failed", c="failed")
    found = {verdict.name: verdict.status for verdict in suite.settled(first, again)}
    assert asked == ([["b", "c"]] if late_s else [])
    assert found == {"a": "passed", "b": "passed" if late_s else "failed", "c": "failed"}


def test_a_failure_counts_in_the_end_whatever_the_machine_does() -> None:
    asked: list[Sequence[str]] = []

    def again(names: Sequence[str]) -> suite.Run:
        asked.append(names)
        return run_of(9.0, a="failed")

    (found,) = suite.settled(run_of(9.0, a="failed"), again)
    assert found.status == "failed"
    assert len(asked) == 3
