"""What is deleted, told from all requests in their order: deleted is gone until made again.

Schemathesis' own check knows only that a request makes what its own path names. Here the
first event makes a session below that session's path, a fork makes one that its body names,
and a session has a path in each of two surfaces.
"""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import urlsplit

from tailrace.operation import StreamKey
from tailrace_server.config import SESSIONS_BUCKET
from tailrace_server.protocol.errors import RequestError
from tailrace_server.routes import ROUTES, Match, Router
from tailrace_server.streams.address import bucket_key, flat_key

SESSION: Final = "/v1/sessions/{session}"
BUCKET_STREAM: Final = "/ds/{bucket}/{stream}"
FLAT_STREAM: Final = "/v1/stream/{stream_name*}"
DELETING: Final = {("DELETE", path) for path in (SESSION, BUCKET_STREAM, FLAT_STREAM)}
MAKING: Final = {
    ("POST", f"{SESSION}/events"),
    ("PUT", BUCKET_STREAM),
    ("PUT", FLAT_STREAM),
}
FORKING: Final = ("POST", f"{SESSION}/fork")

_ROUTER: Final = Router(ROUTES)


class Deletions:
    """The streams and sessions that were deleted and not made again; told of one at a time."""

    def __init__(self) -> None:
        self._gone: set[StreamKey] = set()

    def answered(self, method: str, url: str, status: int, body: bytes) -> str | None:
        """Take note of a request and its answer; what is wrong about it, if anything."""
        if not 200 <= status < 300:
            return None
        found = _named(method, url)
        if found is None:
            return None
        match, key = found
        kind = match.route.method, match.route.path
        was_gone = key in self._gone
        if kind in DELETING:
            self._gone.add(key)
        elif kind in MAKING:
            self._gone.discard(key)
            return None
        elif kind == FORKING and status == 201:
            self._gone.discard(StreamKey(SESSIONS_BUCKET, json.loads(body)["id"]))
        if was_gone:
            return f"{method} {url} is answered {status}, but {key} is deleted"
        return None


def _named(method: str, url: str) -> tuple[Match, StreamKey] | None:
    """A request's route, and the stream or session that it names; None if it names none."""
    try:
        match = _ROUTER.match(method, urlsplit(url).path)
        params = match.params
        if "session" in params:
            return match, StreamKey(SESSIONS_BUCKET, params["session"])
        if "stream_name" in params:
            return match, flat_key(params["stream_name"])
        if "stream" in params:
            return match, bucket_key(params["bucket"], params["stream"])
    except RequestError:
        pass
    return None
