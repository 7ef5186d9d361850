"""Snapshots over HTTP as its tests send them and look at them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from tailrace import limits
from tailrace_server.config import ServiceConfig
from tailrace_server.protocol.message import BodyAborted, Request, Response
from tests.server.buckets.test_buckets import make
from tests.server.service_support import Client, Got, request
from tests.server.streams.stream_support import JSON, TEXT

S: Final = "/ds/demo/a"
TINY: Final = ServiceConfig(snapshot_bytes_max=1000)
LARGE: Final = bytes(range(256)) * 16 * limits.KIB  # 4 MiB


def at(offset: int | str, stream: str = S) -> str:
    return f"{stream}/snapshot/{offset if isinstance(offset, str) else f'{offset:08d}'}"


def digest(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


async def put(
    client: Client,
    offset: int | str,
    body: bytes = b"folded",
    headers: dict[str, str] | None = None,
) -> Got:
    return await client("PUT", at(offset), body, TEXT | (headers or {}))


async def numbers(client: Client, count: int = 5) -> None:
    """A JSON stream of 0, 1, 2, ..."""
    await make(client)
    body = b"[" + b",".join(b"%d" % number for number in range(count)) + b"]"
    assert (await client("PUT", S, body, JSON)).status == 201


class Pieces:
    """A body that arrives in pieces, and may not arrive whole."""

    def __init__(self, pieces: Sequence[bytes], *, aborted: bool = False) -> None:
        self._pieces = list(pieces)
        self._aborted = aborted
        self.taken = 0

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._pieces:
            self.taken += 1
            return self._pieces.pop(0)
        if self._aborted:
            raise BodyAborted("it broke off", Response(400, ()))
        return b""


async def stream(
    client: Client, offset: int, body: Pieces, headers: dict[str, str] | None = None
) -> Response:
    sent = request("PUT", at(offset), b"", TEXT | (headers or {}))
    made = Request(sent.method, sent.path, sent.query, sent.headers, b"", stream=body)
    answer = await client.service.handle(made)
    assert isinstance(answer, Response)
    return answer


def files(directory: Path) -> int:
    """How many snapshots a store holds on disk."""
    return len(list((directory / "snapshots").iterdir()))
