"""Servers as processes of their own: started on an empty directory, asked, killed at the end."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.loadgen import http

ROOT: Final = Path(__file__).resolve().parent.parent
HOST: Final = "127.0.0.1"

_LISTENING: Final = re.compile(r"listening on (http://[^\s/]+)")
_PATIENCE_S: Final = 60.0
_POLL_S: Final = 0.005
_STREAMS: Final = "/v1/stream"


class NotStarted(Exception):
    """A server ended, or did not take requests, before anything was measured."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. ``pid`` None: a process that is not ours to look at."""

    base: http.Base
    pid: int | None

    def memory_mib(self, *fields: str) -> float:
        """The sum of these fields of ``/proc/PID/status``, such as VmRSS; 0 without a pid."""
        if self.pid is None:
            return 0.0
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace")
        values = dict(line.split(":", 1) for line in text.splitlines())
        return sum(int(values[field].split()[0]) for field in fields) / 1024


Starter = Callable[[Path], AbstractContextManager[Server]]
"""Starts a server whose files are below a directory that is empty."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def process(
    command: Sequence[str | Path],
    directory: Path,
    ready: Callable[[str], http.Base | None],
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """``command`` until the end of the block; ``ready`` is shown its output so far until it
    says where the server is. Raises NotStarted with what the process said.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "output"
    with log.open("wb") as output:
        running = subprocess.Popen(
            [str(word) for word in command],
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        give_up = time.monotonic() + _PATIENCE_S
        while True:
            said = log.read_text(encoding="utf-8", errors="replace")
            where = ready(said)
            if where is not None:
                break
            if running.poll() is not None or time.monotonic() > give_up:
                raise NotStarted(f"{command[0]} does not serve:\n{said[-2000:]}")
            time.sleep(_POLL_S)
        yield Server(where, running.pid)
    finally:
        running.kill()
        running.wait()


def announced(prefix: str) -> Callable[[str], http.Base | None]:
    """Ready when the output has a line ``listening on http://...``."""

    def ready(said: str) -> http.Base | None:
        found = _LISTENING.search(said)
        return None if found is None else http.base(found[1] + prefix)

    return ready


def connectable(port: int, prefix: str) -> Callable[[str], http.Base | None]:
    """Ready when somebody accepts connections at ``port``."""

    def ready(_: str) -> http.Base | None:
        try:
            socket.create_connection((HOST, port), 1.0).close()
        except OSError:
            return None
        return http.Base(HOST, port, prefix)

    return ready


def tailrace(directory: Path, front: str = "fast") -> AbstractContextManager[Server]:
    """``tailrace serve`` of this tree, with its default settings."""
    path = os.pathsep.join(str(ROOT / folder) for folder in ("engine", "server"))
    kept = {name: "" for name in os.environ if name.startswith("TAILRACE_")}
    return process(
        [
            *(sys.executable, "-m", "tailrace_server", "serve"),
            *("--data-dir", directory / "data", "--host", HOST, "--port", "0", "--front", front),
        ],
        directory,
        announced(_STREAMS),
        {**kept, "PYTHONPATH": path},
    )


def nothing(
    directory: Path, body: Path | None = None, *, sendfile: bool = False
) -> AbstractContextManager[Server]:
    """The load generator's own server, which answers without looking: a GET with ``body``."""
    command: list[str | Path] = [sys.executable, "-m", "bench.loadgen", "serve"]
    if body is not None:
        command += ["--sendfile" if sendfile else "--body", body]
    return process(command, directory, announced(""), {"PYTHONPATH": str(ROOT)})


@contextmanager
def given(_: Path, url: str) -> Iterator[Server]:
    """A server that somebody else has started."""
    yield Server(http.base(url), None)
