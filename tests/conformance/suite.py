"""The official test suite of the Durable Streams Protocol, run against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests import node_project
from tests.e2e.server_process import ServerProcess

FOLDER: Final = Path(__file__).resolve().parent
VITEST: Final = FOLDER / "node_modules" / "vitest" / "vitest.mjs"

LONG_POLL_S: Final = 2
PATIENCE_S: Final = 400.0
"""The suite takes 40 s, nearly all of it sleeping."""
_POLL_S: Final = 0.25


class Verdict(NamedTuple):
    """One test of the suite. ``status`` is vitest's: passed, failed, pending, ..."""

    group: str
    name: str
    status: str
    why: str


def install() -> None:
    """Install the suite, at the versions of the lock file, unless that has been done."""
    node_project.install(FOLDER)


def run(server: ServerProcess, folder: Path) -> list[Verdict]:
    """Every test's verdict on ``server``, which is watched meanwhile; ``folder`` is for logs."""
    report = folder / "report.json"
    log = folder / "suite.log"
    with log.open("wb") as output:
        suite = subprocess.Popen(
            [node_project.node(), str(VITEST), "run", f"--outputFile={report}"],
            cwd=FOLDER,
            env=os.environ
            | {
                "CONFORMANCE_URL": server.base_url,
                "CONFORMANCE_LONG_POLL_MS": str(LONG_POLL_S * 1000),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + PATIENCE_S
            while suite.poll() is None:
                # Without this, a server that has died is 332 time-outs.
                assert server.process is not None
                assert server.process.poll() is None, f"the server has died:\n{server.logs()}"
                # Nor is a 5xx worth waiting for: the suite's client tries again and again.
                assert "internal_error" not in server.logs(), server.logs()
                assert time.monotonic() < deadline, f"not done in {PATIENCE_S} s"
                time.sleep(_POLL_S)
        finally:
            suite.kill()
            suite.wait()
    assert report.is_file(), log.read_text("utf-8", "replace")
    return verdicts(json.loads(report.read_text("utf-8")))


def verdicts(report: dict[str, Any]) -> list[Verdict]:
    return [
        Verdict(
            test["ancestorTitles"][0],
            test["fullName"],
            test["status"],
            "\n".join(test["failureMessages"] or ()),
        )
        for file in report["testResults"]
        for test in file["assertionResults"]
    ]
