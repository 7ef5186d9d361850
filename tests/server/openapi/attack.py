"""Schemathesis against a running server: ``python -m tests.server.openapi.attack --help``.

It makes requests of every documented operation, good and bad ones, alone and in sequences,
and holds each answer to the document: its status, headers, content type and schema, and
that there is no 5xx.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.e2e.server_process import FRONTS, ServerProcess, environment, serving
from tests.e2e.wire import JSON, Client
from tests.project import ROOT

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")
KEY: Final = "sk-of-this-server"
OPTIONS: Final = (
    *("--api-key", KEY),
    # Live answers end soon: what comes in them is other tests' business.
    *("--long-poll-timeout", "0.05", "--sse-lifetime", "0.1", "--sse-heartbeat", "0.05"),
)
_PATIENCE_S: Final = 300
"""What Schemathesis may take beyond its budget: it starts slowly, and ends what it began."""


def furnish(server: ServerProcess) -> None:
    """Make some of what the configuration's dictionaries name."""
    key = {"Authorization": f"Bearer {KEY}"}
    subscription = b'{"type":"pull-wake","pattern":"**","wake_stream":"wakes"}'
    with Client(server) as client:
        for method, path, body, status in (
            ("PUT", "/ds/demo", None, 201),
            ("PUT", "/ds/demo/orders", b"[1,2,3]", 201),
            ("PUT", "/v1/stream/wakes", b"[]", 201),
            ("PUT", "/v1/stream/__ds/subscriptions/w", subscription, 201),
            ("PUT", "/v1/stream/orders", b"[1,2,3]", 201),
            ("POST", "/v1/sessions/s/events", b'[{"type":"a"},{"type":"b"}]', 204),
        ):
            reply = client.request(method, path, body, JSON | key)
            assert reply.status == status, (path, reply)


def attack(server: ServerProcess, folder: Path, *, seconds: int, seed: int | None = None) -> str:
    """Attack for about so long; AssertionError with the report if anything was found.

    The report, if nothing was. ``folder`` is for what Schemathesis writes.
    """
    furnish(server)
    found = environment()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
            *("run", f"{server.base_url}/openapi.json"),
            *("--max-time", str(seconds), "--no-color", "--continue-on-failure"),
            *(("--seed", str(seed)) if seed is not None else ()),
        ],
        cwd=folder,
        env=found | {"ATTACK_KEY": KEY, "PYTHONPATH": f"{ROOT}{os.pathsep}{found['PYTHONPATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + _PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--front", choices=FRONTS, action="append", help="default: all of them")
    parser.add_argument("--seconds", type=int, default=300, help="for each front")
    parser.add_argument("--seed", type=int, help="to see the same requests again")
    given = parser.parse_args()
    for front in given.front or FRONTS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with serving(folder / "data", *OPTIONS, front=front) as server:
                print(attack(server, folder, seconds=given.seconds, seed=given.seed))


if __name__ == "__main__":
    main()
