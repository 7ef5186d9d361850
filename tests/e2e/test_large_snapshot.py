"""A snapshot of 128 MiB goes in and out of a real server that never holds it."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tailrace import limits
from tests.e2e.server_process import FRONTS, ServerProcess, serving

PIECE: Final = bytes(range(256)) * 4096  # 1 MiB
COUNT: Final = limits.SNAPSHOT_BYTES_MAX_DEFAULT // len(PIECE)
GROWTH_BYTES_MAX: Final = 32 * limits.MIB


def resident_bytes(server: ServerProcess, line: str) -> int:
    """``VmRSS`` or its peak, ``VmHWM``, of the server."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text("ascii")
    (found,) = (each for each in status.splitlines() if each.startswith(f"{line}:"))
    return int(found.split()[1]) * limits.KIB


def reset_peak(server: ServerProcess) -> None:
    assert server.process is not None
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5", "ascii")


def body() -> Iterator[bytes]:
    for _ in range(COUNT):
        yield PIECE


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    sent: object = b"",
    headers: dict[str, str] | None = None,
    *,
    chunked: bool = False,
) -> http.client.HTTPResponse:
    connection.request(
        method,
        path,
        sent,  # type: ignore[arg-type]
        {"Content-Type": "text/plain"} | (headers or {}),
        encode_chunked=chunked,
    )
    return connection.getresponse()


@pytest.mark.parametrize("front", FRONTS)
def test_its_memory_does_not_grow_with_it(front: str, tmp_path: Path) -> None:
    """Issue 3: ``PUT .../snapshot`` streams large bodies to disk."""
    whole = hashlib.sha256()
    for piece in body():
        whole.update(piece)
    length = {"Content-Length": str(COUNT * len(PIECE))}
    with serving(tmp_path / "data", front=front) as server:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=120)
        for path, sent in (("/ds/demo", b""), ("/ds/demo/a", b"one")):
            answer = ask(connection, "PUT", path, sent)
            assert (answer.status, answer.read()) == (201, b"")
        at = "/ds/demo/a/snapshot/00000001"
        small = ask(connection, "PUT", "/ds/demo/a/snapshot/00000000", b"warm")
        assert (small.status, small.read()) == (204, b"")
        before = resident_bytes(server, "VmRSS")
        reset_peak(server)

        done = ask(connection, "PUT", at, body(), length)
        assert (done.status, done.read()) == (204, b"")
        assert done.headers["Stream-Snapshot-Digest"] == f"sha256:{whole.hexdigest()}"
        got = ask(connection, "GET", at)
        assert got.headers["Content-Length"] == length["Content-Length"]
        read = hashlib.sha256()
        while piece := got.read(len(PIECE)):
            read.update(piece)
        assert read.digest() == whole.digest()
        bootstrap = ask(connection, "GET", "/ds/demo/a/bootstrap")
        received = 0
        while piece := bootstrap.read(len(PIECE)):
            received += len(piece)
        assert received > COUNT * len(PIECE)
        again = ask(connection, "PUT", at, body(), {"Transfer-Encoding": "chunked"}, chunked=True)
        assert (again.status, again.read()) == (204, b"")
        grown = resident_bytes(server, "VmHWM") - before
        assert grown < GROWTH_BYTES_MAX, f"{grown / limits.MIB:.1f} MiB"
        connection.close()


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("announced", [True, False])
def test_one_byte_more_is_too_large(front: str, announced: bool, tmp_path: Path) -> None:
    limit = 4 * len(PIECE)
    option = ("--max-snapshot-bytes", str(limit))
    with serving(tmp_path / "data", *option, front=front) as server:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
        for path, sent in (("/ds/demo", b""), ("/ds/demo/a", b"one")):
            answer = ask(connection, "PUT", path, sent)
            assert (answer.status, answer.read()) == (201, b"")
        at = "/ds/demo/a/snapshot/00000001"
        for extra, status in ((1, 413), (0, 204)):
            pieces = [PIECE] * 4 + [b"x"] * extra
            field = (
                {"Content-Length": str(limit + extra)}
                if announced
                else {"Transfer-Encoding": "chunked"}
            )
            answer = ask(connection, "PUT", at, iter(pieces), field, chunked=not announced)
            assert answer.status == status
            answer.read()
            connection.close()
        assert len(list((tmp_path / "data" / "snapshots").iterdir())) == 1
