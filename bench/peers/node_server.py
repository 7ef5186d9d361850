"""The protocol's reference server for Node.js: in memory, or with files and LMDB.

With files, every append waits for an ``fdatasync`` of its stream's file, which concurrent
appends to the same stream share, and for a commit of LMDB.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final

from bench.optional import Missing
from bench.servers import NotStarted, Server, Starter, announced, process
from bench.systems import NODE, NODE_MEMORY

_HERE: Final = Path(__file__).resolve().parent / "node"
_INSTALL: Final = ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")


def _install() -> None:
    """The packages of the lock file, beside it. Raises NotStarted with what npm said."""
    if (_HERE / "node_modules" / "@durable-streams" / "server").is_dir():
        return
    done = subprocess.run(_INSTALL, cwd=_HERE, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotStarted(f"`{' '.join(_INSTALL)}` in {_HERE} failed: {done.stderr[-500:]}")


def _start(directory: Path, *, files: bool) -> AbstractContextManager[Server]:
    _install()
    command: list[str | Path] = ["node", _HERE / "server.mjs"]
    if files:
        command.append(directory / "data")
    return process(command, directory, announced("/v1/stream"), {"NODE_ENV": "production"})


def versions() -> dict[str, str]:
    """What a report says beside the numbers."""
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    wanted = json.loads((_HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    return {"node": done.stdout.strip(), **wanted}


def find() -> dict[str, Starter] | Missing:
    """Both ways to run it; its packages are installed when it is first started."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            return Missing(NODE, f"there is no {program}; install Node.js 20 or newer with npm")
    return {NODE: partial(_start, files=True), NODE_MEMORY: partial(_start, files=False)}
