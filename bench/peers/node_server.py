"""The protocol's reference server for Node.js: in memory, or with files and LMDB.

With files, every append waits for an ``fdatasync`` of its stream's file, which concurrent
appends to the same stream share, and for a commit of LMDB.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final

from bench.optional import Missing
from bench.servers import Server, Starter, announced, process
from bench.systems import NODE, NODE_MEMORY

_HERE: Final = Path(__file__).resolve().parent / "node"
_INSTALL: Final = ("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")


def _start(directory: Path, *, files: bool) -> AbstractContextManager[Server]:
    command: list[str | Path] = ["node", _HERE / "server.mjs"]
    if files:
        command.append(directory / "data")
    return process(command, directory, announced("/v1/stream"), {"NODE_ENV": "production"})


def find() -> dict[str, Starter] | Missing:
    """Both ways to run it; its packages are installed beside its lock file if need be."""
    if shutil.which("node") is None:
        return Missing(NODE, "there is no node; install Node.js 20 or newer")
    if not (_HERE / "node_modules" / "@durable-streams" / "server").is_dir():
        if shutil.which("npm") is None:
            return Missing(NODE, f"there is no npm to run `npm ci` in {_HERE}")
        done = subprocess.run(_INSTALL, cwd=_HERE, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return Missing(NODE, f"`npm ci` in {_HERE} failed: {done.stderr.strip()[-300:]}")
    return {NODE: partial(_start, files=True), NODE_MEMORY: partial(_start, files=False)}
