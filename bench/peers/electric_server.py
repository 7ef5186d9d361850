"""Electric's server of the same protocol, in Rust: the crate ``durable-streams``.

With its default, ``--durability wal``: an append is answered after the ``fdatasync`` of the
write-ahead log of its shard, one shard per core.
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final

from bench.optional import Missing
from bench.servers import HOST, Server, Starter, connectable, free_port, process
from bench.systems import ELECTRIC

_PROGRAM: Final = "durable-streams-server"
_CARGO: Final = Path("~/.cargo/bin").expanduser()


def _start(directory: Path, program: str) -> AbstractContextManager[Server]:
    port = free_port()
    command = [program, "--host", HOST, "--port", str(port), "--durability", "wal"]
    command += ["--data-dir", str(directory / "data")]
    return process(command, directory, connectable(port, "/v1/stream"))


def find() -> dict[str, Starter] | Missing:
    program = shutil.which(_PROGRAM) or shutil.which(_PROGRAM, path=str(_CARGO))
    if program is None:
        return Missing(ELECTRIC, "there is no durable-streams-server; "
                       "cargo install durable-streams --locked")  # fmt: skip
    return {ELECTRIC: partial(_start, program=program)}
