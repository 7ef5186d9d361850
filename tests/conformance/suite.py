"""The official test suite of the Durable Streams Protocol, run against a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests import node_project
from tests.e2e.server_process import ServerProcess
from tests.e2e.wire import Client

FOLDER: Final = Path(__file__).resolve().parent
VITEST: Final = FOLDER / "node_modules" / "vitest" / "vitest.mjs"

LONG_POLL_S: Final = 2
PATIENCE_S: Final = 400.0
"""The suite takes 40 s, nearly all of it sleeping."""
_POLL_S: Final = 0.05
LATE_S_MAX: Final = 0.1
"""Who stands still no longer is in time for everything in the suite, even if often."""
_RUNS_MAX: Final = 4


class Verdict(NamedTuple):
    """One test of the suite. ``status`` is vitest's: passed, failed, pending, ..."""

    group: str
    name: str
    status: str
    why: str


def install() -> None:
    """Install the suite, at the versions of the lock file, unless that has been done."""
    node_project.install(FOLDER)


class Run(NamedTuple):
    """What a run came to. ``late_s``: how long the suite or the server stood still at worst."""

    verdicts: list[Verdict]
    late_s: float

    @property
    def failed(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.status == "failed"]


def settled(first: Run, again: Callable[[Sequence[str]], Run]) -> list[Verdict]:
    """Every test's verdict; ``again`` runs those of some names.

    Tests of the suite are in a hurry: a stream that lives for two seconds is renewed after one
    and a half. On a machine that stands still meanwhile they tell of the machine. So those that
    failed then, and only then, are asked once more while the others do not run beside them.
    """
    verdicts = {verdict.name: verdict for verdict in first.verdicts}
    assert len(verdicts) == len(first.verdicts), "two tests of one name"
    last = first
    for _ in range(_RUNS_MAX - 1):
        if not last.failed or last.late_s < LATE_S_MAX:
            break
        last = again([verdict.name for verdict in last.failed])
        verdicts |= {one.name: one for one in last.verdicts if one.status in ("passed", "failed")}
    return list(verdicts.values())


def run(server: ServerProcess, folder: Path, only: Sequence[str] = ()) -> Run:
    """Run the suite on ``server``, which is watched meanwhile; ``folder`` is for logs.

    ``only`` are names of tests; all run if there are none.
    """
    report = folder / "report.json"
    late = folder / "late"
    log = folder / "suite.log"
    names = "|".join(f"^{re.escape(name)}$" for name in only)
    chosen = [f"--testNamePattern={names}"] if names else []
    slowest_s = 0.0
    with log.open("wb") as output, Client(server) as client:
        suite = subprocess.Popen(
            [node_project.node(), str(VITEST), "run", f"--outputFile={report}", *chosen],
            cwd=FOLDER,
            env=os.environ
            | {
                "CONFORMANCE_URL": server.base_url,
                "CONFORMANCE_LONG_POLL_MS": str(LONG_POLL_S * 1000),
                "CONFORMANCE_LATE_FILE": str(late),
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
                began = time.monotonic()
                assert began < deadline, f"not done in {PATIENCE_S} s"
                assert client.get("/healthz").status == 200
                slowest_s = max(slowest_s, time.monotonic() - began)
                time.sleep(_POLL_S)
        finally:
            suite.kill()
            suite.wait()
    assert report.is_file(), log.read_text("utf-8", "replace")
    found = verdicts(json.loads(report.read_text("utf-8")))
    return Run(found, max(slowest_s, float(late.read_text("ascii"))))


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
