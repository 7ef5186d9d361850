"""Schemathesis finds nothing on either front in a short run; ``make attack`` is a long one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.server_process import FRONTS, serving
from tests.effort import lengthened
from tests.server.openapi.attack import OPTIONS, attack

pytestmark = pytest.mark.long

SECONDS: Final = round(lengthened(int(os.environ.get("SCHEMATHESIS_SECONDS", "20"))))
SEED: Final = 1 if os.environ.get("CI") else None
"""A build machine asks the same things every time; a person's machine goes on exploring."""


@pytest.mark.timeout(SECONDS + 400)
@pytest.mark.parametrize("front", FRONTS)
def test_answers_are_as_documented(tmp_path: Path, front: str) -> None:
    with serving(tmp_path / "data", *OPTIONS, front=front) as server:
        report = attack(server, tmp_path, seconds=SECONDS, seed=SEED)
    print(report)
    for phase in ("Coverage", "Fuzzing", "Stateful"):
        assert phase in report, report
