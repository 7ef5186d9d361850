"""Commands as a person types them, run by a shell with the real curl."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.server_process import PATIENCE_S, ServerProcess, environment, wait_until


def variables(server: ServerProcess, key: str) -> dict[str, str]:
    """What the commands refer to: the server's address and the API key."""
    return environment() | {"BASE": server.base_url, "API_KEY": key}


@dataclass(frozen=True, slots=True)
class Answer:
    """What ``curl -i`` printed; header names are lower case."""

    status_line: str
    headers: dict[str, str]
    body: str

    @property
    def status(self) -> int:
        return int(self.status_line.split()[1])

    def json(self) -> Any:
        return json.loads(self.body)


def run(command: str, server: ServerProcess, key: str = "") -> str:
    """The standard output of a command, which must succeed."""
    result = subprocess.run(
        ["bash", "-c", command],
        env=variables(server, key),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert result.returncode == 0, (command, result)
    return result.stdout


def curl(command: str, server: ServerProcess, key: str = "") -> Answer:
    """The answer to a curl command of a document, with ``-i`` added to see its head."""
    assert command.startswith("curl ")
    text = run(f"curl -sS -i {command.removeprefix('curl ')}", server, key)
    head, _, body = text.partition("\n\n")
    status_line, *lines = head.splitlines()
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        assert name.lower() not in headers, f"twice: {line}"
        headers[name.lower()] = value
    return Answer(status_line, headers, body)


class Background:
    """A curl that goes on while others run, its output in a file."""

    def __init__(self, command: str, server: ServerProcess, output: Path, key: str = "") -> None:
        assert command.startswith("curl ")
        self._output = output
        with output.open("wb") as file:
            # exec: the process that is killed is curl itself, not a shell around it.
            self._process = subprocess.Popen(
                ["bash", "-c", f"exec curl -sS {command.removeprefix('curl ')}"],
                env=variables(server, key),
                stdin=subprocess.DEVNULL,
                stdout=file,
            )

    def text(self) -> str:
        return self._output.read_text("utf-8")

    def until(self, fragment: str) -> str:
        """Its output, once that holds ``fragment``."""
        wait_until(lambda: fragment in self.text(), f"curl to print {fragment!r}: {self.text()!r}")
        return self.text()

    def end(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)
