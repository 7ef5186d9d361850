"""``python -m tailrace_server``: the same as the command ``tailrace``."""

from __future__ import annotations

from tailrace_server.command import main

if __name__ == "__main__":
    main()
