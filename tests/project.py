"""Where the project's files are, for the tests that look at the project itself."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent


def tracked_files() -> list[str]:
    """Files of the project, as relative paths: what git tracks or would, else all there are."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        names = listing.stdout.splitlines()
    else:  # an unpacked source distribution
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
        made = (".venv/", "build/", "dist/")
        names = [n for n in names if not n.startswith(made) and "__pycache__" not in n]
    return sorted({name for name in names if (ROOT / name).is_file()})


FILES: Final = tracked_files()


def read(path: str) -> str:
    """The text of a file of the project."""
    return (ROOT / path).read_text(encoding="utf-8")
