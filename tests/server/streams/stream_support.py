"""Streams as a client uses them."""

from __future__ import annotations

from tests.server.service_support import Client, Got

TEXT = {"content-type": "text/plain"}
JSON = {"content-type": "application/json"}
CLOSE = {"stream-closed": "true"}


def at(path: str) -> str:
    return f"/v1/stream/{path}"


async def put(
    client: Client, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Got:
    return await client("PUT", at(path), body, TEXT | (headers or {}))


async def post(
    client: Client, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Got:
    return await client("POST", at(path), body, TEXT | (headers or {}))


async def get(
    client: Client, path: str, query: str = "", headers: dict[str, str] | None = None
) -> Got:
    return await client("GET", at(path) + (f"?{query}" if query else ""), b"", headers or {})


def producer(identity: str, epoch: int, seq: int) -> dict[str, str]:
    return {
        "producer-id": identity,
        "producer-epoch": str(epoch),
        "producer-seq": str(seq),
    }
