"""Where the command ``tailrace`` begins, also where only the engine was installed."""

from __future__ import annotations

import sys

_missing: str | None = None
try:
    from tailrace_server.cli import main as _command
except ModuleNotFoundError as _error:
    if _error.name is None or _error.name.startswith("tailrace"):
        raise
    _missing = _error.name


def main() -> None:
    """Run the command, or say what it takes to."""
    if _missing is not None:
        sys.exit(
            f"tailrace: the server needs {_missing}, which is not installed. Install tailrace with "
            "its extra 'server', in a checkout: pip install '.[server]'"
        )
    _command()
