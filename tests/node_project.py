"""npm packages that tests need, installed at the versions of a lock file beside them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path


def install(folder: Path) -> None:
    """Install what ``folder``'s package-lock.json names, unless that has been done."""
    digest = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
    installed = folder / "node_modules" / ".installed-lock"
    if installed.is_file() and installed.read_text("ascii") == digest:
        return
    npm = shutil.which("npm")
    assert npm is not None, "npm is missing: these tests need Node.js 20 or newer"
    done = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"npm ci failed:\n{done.stdout}{done.stderr}"
    installed.write_text(digest, "ascii")


def node() -> str:
    """The path of Node.js."""
    found = shutil.which("node")
    assert found is not None, "node is missing: these tests need Node.js 20 or newer"
    return found
