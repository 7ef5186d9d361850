"""Runs the real command as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

PATIENCE_S = 30.0
EVENT = {"type": "user.message", "text": "hello"}
ROOT = Path(__file__).parents[2]


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment, with the tree's sources importable and no settings of our own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")}
    sources = os.pathsep.join(str(ROOT / folder) for folder in ("engine", "server"))
    return {**kept, "PYTHONPATH": sources, "PYTHONUNBUFFERED": "1", **(changes or {})}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tailrace_server", *arguments]


def run(
    *arguments: str, variables: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        command(*arguments),
        env=environment(variables),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@dataclass
class Server:
    """A running ``tailrace serve``."""

    process: subprocess.Popen[str]
    url: str
    announced: list[str]
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def metric(self, name: str, **options: object) -> float:
        """A value of /metrics whose name ends in ``name``."""
        text = httpx.get(f"{self.url}/metrics", **options).text  # type: ignore[arg-type]
        found = re.search(rf"^\w*{name} (\S+)$", text, re.MULTILINE)
        assert found is not None, text
        return float(found[1])


@contextmanager
def serving(
    data_dir: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """A server on a free port; killed at the end if it still runs."""
    log = data_dir.with_name(f"{data_dir.name}.log")
    with log.open("ab") as stderr:
        process = subprocess.Popen(
            command("serve", "--data-dir", str(data_dir), "--port", "0", *arguments),
            env=environment(variables),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        found = re.search(r"https?://[^\s,]+:\d+", first)
        assert found is not None, (first, log.read_text())
        yield Server(process, found[0], [first], log)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def wait_until(condition: object, seconds: float = PATIENCE_S) -> None:
    """Poll ``condition()`` until it is true."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def append(url: str, session: str, client: httpx.Client | None = None) -> httpx.Response:
    return (client or httpx).post(f"{url}/v1/sessions/{session}/events", json=EVENT)


def events(url: str, session: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = httpx.get(f"{url}/v1/sessions/{session}/events").json()["data"]
    return found


def fails(*arguments: str, **options: object) -> str:
    """Start a server that cannot start; what it says."""
    done = run("serve", "--port", "0", *arguments, **options)  # type: ignore[arg-type]
    assert done.returncode not in (0, None)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr
