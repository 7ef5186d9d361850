"""What operators ask for: health, readiness, metrics."""

from __future__ import annotations

from tailrace_server.context import Answer, Call, Context
from tailrace_server.keys import Right
from tailrace_server.metrics import CONTENT_TYPE
from tailrace_server.protocol import caching, errors, headers, render
from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.message import Response


async def healthz(context: Context, call: Call) -> Answer:
    """The process answers."""
    return render.json_value(200, {"status": "ok"})


async def readyz(context: Context, call: Call) -> Answer:
    """Reads and writes are served."""
    if context.hub.draining:
        raise RequestError(503, errors.UNAVAILABLE, "the server is stopping")
    if context.store.counters().get("poisoned"):
        raise RequestError(
            503, errors.UNAVAILABLE, "a write to disk failed; only reads are served until restart"
        )
    return render.json_value(200, {"status": "ready"})


async def openapi(context: Context, call: Call) -> Answer:
    """What this server can be asked, as an OpenAPI document."""
    kind = (headers.CONTENT_TYPE, "application/json")
    cache = (headers.CACHE_CONTROL, "public, max-age=300")
    return Response(200, (kind, cache, *headers.BASE), (context.openapi(),))


async def metrics(context: Context, call: Call) -> Answer:
    """Prometheus text. It tells of every session's traffic, so it takes a key for all of them."""
    if not (call.grant.has(Right.READ) and call.grant.unlimited):
        raise RequestError(404, errors.NOT_FOUND, "there is nothing at /metrics for this key")
    return Response(
        200,
        (
            (headers.CONTENT_TYPE, CONTENT_TYPE),
            (headers.CACHE_CONTROL, caching.NO_STORE),
            *headers.BASE,
        ),
        (context.metrics.exposition(),),
    )
