"""Redis Streams with ``appendfsync always``: XADD is answered after the sync of the log.

Redis syncs once for all commands of one turn of its event loop. Rewriting of the log is off,
or it would run while a neighbour is measured.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final

from bench.loadgen import http
from bench.optional import Missing
from bench.servers import HOST, Server, Starter, connectable, free_port, process
from bench.systems import REDIS

_SETTINGS: Final = {
    "--appendonly": "yes",
    "--appendfsync": "always",
    "--auto-aof-rewrite-percentage": "0",
    "--save": "",
    "--maxmemory-policy": "noeviction",
}


def _start(directory: Path, program: str) -> AbstractContextManager[Server]:
    port = free_port()
    command: list[str | Path] = [program, "--bind", HOST, "--port", str(port), "--dir", directory]
    for setting in _SETTINGS.items():
        command += setting
    return process(command, directory, connectable(port, ""))


def find() -> dict[str, Starter] | Missing:
    program = shutil.which("redis-server")
    if program is None:
        return Missing(REDIS, "there is no redis-server; on Debian: apt-get install redis-server")
    return {REDIS: partial(_start, program=program)}


def versions() -> dict[str, str]:
    """What a report says beside the numbers."""
    done = subprocess.run(
        ["redis-server", "--version"], capture_output=True, text=True, check=False
    )
    words = dict(word.split("=", 1) for word in done.stdout.split() if "=" in word)
    return {"redis": words.get("v", "unknown")}


def command(*words: bytes) -> bytes:
    """A command as RESP, the protocol of Redis."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def lengths(where: http.Base, keys: Sequence[str]) -> list[int]:
    """How many entries each stream has."""
    with socket.create_connection((where.host, where.port), 60.0) as connection:
        asked = b"".join(command(b"XLEN", key.encode("ascii")) for key in keys)
        connection.sendall(asked)
        answers = connection.makefile("rb")
        found: list[int] = []
        for key in keys:
            line = answers.readline()
            if not line.startswith(b":"):
                raise ConnectionError(f"XLEN {key} was answered with {line!r}")
            found.append(int(line[1:]))
        return found
