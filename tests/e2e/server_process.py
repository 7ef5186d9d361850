"""The real server as a process of its own: start it, stop it, kill it, read what it said."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.project import ROOT

FRONTS: Final = ("fast", "hypercorn")
PATIENCE_S: Final = 60.0
"""Far longer than anything here takes on a busy machine; reaching it is a failure."""

_LISTENING: Final = re.compile(r"listening on http://([^:\s]+):(\d+)")
_POLL_S: Final = 0.002


def environment() -> dict[str, str]:
    """This process's environment with the tree itself on the path, and no key for the server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")}
    path = os.pathsep.join(str(ROOT / folder) for folder in ("engine", "server"))
    return kept | {"PYTHONPATH": path}


def wait_until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Return once ``condition`` holds; fail if it never does."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience_s} s in vain: {what}")
        time.sleep(_POLL_S)


class ServerProcess:
    """``python -m tailrace_server serve`` on one data directory, started as often as needed.

    Every start takes a free port and logs into files of its own. As a context manager it
    starts the server, and kills it at the end whatever happened.
    """

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        front: str = "fast",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.front = front
        self.options = options
        self.env = dict(env or {})
        self.starts = 0
        self.fixed_port = 0
        self.host = ""
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    # -- starting

    def command(self) -> Sequence[str]:
        return (
            *(sys.executable, "-m", "tailrace_server", "serve"),
            *("--data-dir", str(self.data_dir), "--port", str(self.fixed_port)),
            *("--front", self.front),
            *self.options,
        )

    def launch(self) -> None:
        """Start it without waiting for it to be ready."""
        assert self.process is None, "it is running"
        self.starts += 1
        with self._log("out").open("wb") as out, self._log("err").open("wb") as err:
            self.process = subprocess.Popen(
                self.command(),
                env=environment() | self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def start(self) -> float:
        """Start it, wait until it takes requests, and return the seconds that took."""
        began = time.monotonic()
        self.launch()
        self.wait_ready()
        return time.monotonic() - began

    def start_in_place(self) -> None:
        """Start it again where it was, so that what clients know of it still holds."""
        self.fixed_port = self.port
        self.start()

    def wait_ready(self) -> None:
        process = self.process
        assert process is not None

        def ready() -> bool:
            assert process.poll() is None, f"it ended with {process.returncode}:\n{self.logs()}"
            found = _LISTENING.search(self._log("out").read_text("utf-8"))
            if found is None:
                return False
            self.host, self.port = found[1], int(found[2])
            return True

        wait_until(ready, f"the server to be ready\n{self.logs()}")

    @property
    def base_url(self) -> str:
        return f"http://{self.host}:{self.port}"

    # -- ending

    def kill(self) -> None:
        """SIGKILL; nothing if it is not running."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait(PATIENCE_S)

    def terminate(self) -> int:
        """SIGTERM, wait for the end, and return the exit status."""
        self.ask_to_stop()
        return self.wait_end()

    def ask_to_stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait_end(self) -> int:
        assert self.process is not None
        try:
            status = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not stop:\n{self.logs()}") from None
        self.process = None
        return status

    # -- what it said

    def logs(self) -> str:
        """Standard output and standard error of the last start."""
        return "".join(
            self._log(kind).read_text("utf-8", "replace")
            for kind in ("out", "err")
            if self._log(kind).exists()
        )

    def _log(self, kind: str) -> Path:
        return self.data_dir.with_name(f"{self.data_dir.name}.{self.starts}.{kind}")


@contextmanager
def serving(data_dir: Path, *options: str, front: str = "fast") -> Iterator[ServerProcess]:
    """A running server whose log, in the end, holds no sign of a defect."""
    with ServerProcess(data_dir, *options, front=front) as server:
        yield server
        assert "Traceback" not in server.logs(), server.logs()
        assert "internal_error" not in server.logs(), server.logs()
