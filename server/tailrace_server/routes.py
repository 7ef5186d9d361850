"""The one table: method and path → handler, and the right it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, NamedTuple

from tailrace_server import operations
from tailrace_server.buckets import manage as buckets
from tailrace_server.buckets.retention import put_retention
from tailrace_server.context import Handler, Prepare
from tailrace_server.keys import Right
from tailrace_server.protocol import errors, headers, session_query
from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.stream_name import stream_name
from tailrace_server.protocol.target import path_segments, percent_decode
from tailrace_server.sessions import append, manage, read, search
from tailrace_server.snapshots.bootstrap import get_bootstrap
from tailrace_server.snapshots.publish import delete_snapshot, put_snapshot
from tailrace_server.snapshots.read import get_newest, get_snapshot
from tailrace_server.streams.read import get_stream, head_stream, prepare_get, prepare_head
from tailrace_server.streams.write import delete_stream, post_stream, prepare_post, put_stream
from tailrace_server.subscriptions import handlers as subscriptions


@dataclass(frozen=True, slots=True)
class Route:
    """``right`` is what the key must have for the path's session; None: the handler decides.

    ``streamed``: the handler reads the body as it arrives, from ``request.stream``, and bounds
    it by itself.

    ``prepare`` says what the handler says without waiting, see :data:`context.Prepare`.
    """

    method: str
    path: str
    handler: Handler
    right: Right | None = None
    public: bool = False
    streamed: bool = False
    prepare: Prepare | None = None


_SUBSCRIPTION: Final = "/v1/stream/__ds/subscriptions/{subscription}"

_SNAPSHOT: Final = "/ds/{bucket}/{stream}/snapshot/{offset}"

ROUTES: Final = (
    Route("GET", "/v1/sessions", manage.list_sessions),
    Route("GET", "/v1/sessions/{session}", manage.get_session, Right.READ),
    Route("POST", "/v1/sessions/{session}", manage.update_session, Right.MANAGE),
    Route("DELETE", "/v1/sessions/{session}", manage.delete_session, Right.MANAGE),
    Route("POST", "/v1/sessions/{session}/fork", manage.fork_session, Right.READ),
    Route(
        "POST",
        "/v1/sessions/{session}/events",
        append.post_events,
        Right.APPEND,
        prepare=append.prepare_post,
    ),
    Route(
        "GET",
        "/v1/sessions/{session}/events",
        read.get_events,
        Right.READ,
        prepare=read.prepare_get,
    ),
    Route(
        "HEAD",
        "/v1/sessions/{session}/events",
        read.head_events,
        Right.READ,
        prepare=read.prepare_head,
    ),
    Route("GET", "/v1/sessions/{session}/events/stream", read.stream_events, Right.READ),
    Route("HEAD", "/v1/sessions/{session}/events/stream", read.head_events, Right.READ),
    Route("GET", "/v1/search", search.get_search),
    # Before the streams, whose names may hold slashes (protocol section 6).
    Route("GET", "/v1/stream/__ds/jwks.json", subscriptions.get_jwks, public=True),
    Route("PUT", _SUBSCRIPTION, subscriptions.put_subscription),
    Route("GET", _SUBSCRIPTION, subscriptions.get_subscription),
    Route("DELETE", _SUBSCRIPTION, subscriptions.delete_subscription),
    Route("POST", f"{_SUBSCRIPTION}/streams", subscriptions.add_streams),
    Route("DELETE", f"{_SUBSCRIPTION}/streams/{{linked_stream*}}", subscriptions.remove_stream),
    Route("POST", f"{_SUBSCRIPTION}/claim", subscriptions.claim),
    # These carry the token of a wake instead of a key.
    Route("POST", f"{_SUBSCRIPTION}/callback", subscriptions.callback, public=True),
    Route("POST", f"{_SUBSCRIPTION}/ack", subscriptions.ack, public=True),
    Route("POST", f"{_SUBSCRIPTION}/release", subscriptions.release, public=True),
    Route("PUT", "/v1/stream/{stream_name*}", put_stream),
    Route("POST", "/v1/stream/{stream_name*}", post_stream, prepare=prepare_post),
    Route("GET", "/v1/stream/{stream_name*}", get_stream, prepare=prepare_get),
    Route("HEAD", "/v1/stream/{stream_name*}", head_stream, prepare=prepare_head),
    Route("DELETE", "/v1/stream/{stream_name*}", delete_stream),
    Route("PUT", "/ds/{bucket}", buckets.put_bucket),
    Route("GET", "/ds/{bucket}", buckets.get_bucket),
    Route("DELETE", "/ds/{bucket}", buckets.delete_bucket),
    Route("GET", "/ds/{bucket}/streams", buckets.list_streams),
    Route("PUT", "/ds/{bucket}/{stream}", put_stream),
    Route("POST", "/ds/{bucket}/{stream}", post_stream, prepare=prepare_post),
    Route("GET", "/ds/{bucket}/{stream}", get_stream, prepare=prepare_get),
    Route("HEAD", "/ds/{bucket}/{stream}", head_stream, prepare=prepare_head),
    Route("DELETE", "/ds/{bucket}/{stream}", delete_stream),
    Route("PUT", "/ds/{bucket}/{stream}/retention/{offset}", put_retention),
    Route("GET", "/ds/{bucket}/{stream}/snapshot", get_newest),
    Route("PUT", _SNAPSHOT, put_snapshot, streamed=True),
    Route("GET", _SNAPSHOT, get_snapshot),
    Route("DELETE", _SNAPSHOT, delete_snapshot),
    Route("GET", "/ds/{bucket}/{stream}/bootstrap", get_bootstrap),
    Route("GET", "/healthz", operations.healthz, public=True),
    Route("GET", "/readyz", operations.readyz, public=True),
    Route("GET", "/metrics", operations.metrics),
    Route("GET", "/openapi.json", operations.openapi, public=True),
)


_KNOWN_PATHS_MAX: Final = 4096
_KNOWN_PATH_CHARS_MAX: Final = 256


class Match(NamedTuple):
    route: Route
    params: Mapping[str, str]


class _Path(NamedTuple):
    """``pattern`` is what follows the segments that are fixed."""

    pattern: tuple[str, ...]
    methods: dict[str, Route]
    allow: str


class Router:
    """Finds a request's route.

    Segments are compared before percent-decoding, so ``%2F`` never splits one. A last
    segment ``{name*}`` takes all that is left, slashes included.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            by_path.setdefault(route.path, {})[route.method] = route
        self._paths: dict[tuple[str, ...], list[_Path]] = {}
        for path, methods in by_path.items():
            if "GET" in methods:
                methods.setdefault("HEAD", methods["GET"])
            allow = ", ".join(sorted({*methods, "OPTIONS"}))
            segments = path_segments(path)
            # By the segments that are fixed at its start, which leaves few to compare.
            fixed = tuple(takewhile(lambda segment: not segment.startswith("{"), segments))
            entry = _Path(segments[len(fixed) :], methods, allow)
            self._paths.setdefault(fixed, []).append(entry)
        self._fixed_max = max(map(len, self._paths))
        # Clients ask for the same few paths again and again: those are decoded once.
        self._known: dict[str, tuple[_Path, dict[str, str]]] = {}

    def allowed(self, path: str) -> str:
        """The methods of a path, for Allow; 404 if it is no path of this server."""
        return self._find(path)[0].allow

    def match(self, method: str, path: str) -> Match:
        """404 for a path this server does not have, 405 for a method that the path has not."""
        known = self._known.get(path)
        found, raw = self._find(path) if known is None else known
        route = found.methods.get(method)
        if route is None:
            raise RequestError(
                405,
                errors.METHOD_NOT_ALLOWED,
                f"{method} is not possible here; try {found.allow}",
                ((headers.ALLOW, found.allow),),
            )
        if known is not None:
            return Match(route, raw)
        params = {name: _decode(name, value) for name, value in raw.items()}
        if len(path) <= _KNOWN_PATH_CHARS_MAX:
            if len(self._known) >= _KNOWN_PATHS_MAX:
                self._known.clear()
            self._known[path] = found, params
        return Match(route, params)

    def _find(self, path: str) -> tuple[_Path, dict[str, str]]:
        segments = path_segments(path)
        for fixed in range(min(len(segments), self._fixed_max), 0, -1):
            for entry in self._paths.get(segments[:fixed], ()):
                params = _compare(entry.pattern, segments[fixed:])
                if params is not None:
                    return entry, params
        raise RequestError(
            404, errors.NOT_FOUND, f"there is nothing at {path[:200]!r}{self._hint(path)}"
        )

    def _hint(self, path: str) -> str:
        """What may have been meant."""
        bare = path.rstrip("/")
        if bare != path and bare:
            try:
                self._find(bare)
            except RequestError:
                pass
            else:
                return f"; without the slash at its end, {bare[:200]!r}, there is"
        return "; /openapi.json tells what there is"


def _compare(pattern: tuple[str, ...], segments: tuple[str, ...]) -> dict[str, str] | None:
    """The parts that ``pattern`` names, if it is one of ``segments``."""
    rest = bool(pattern) and pattern[-1].endswith("*}")
    if len(segments) < len(pattern) if rest else len(segments) != len(pattern):
        return None
    params = {}
    for index, (wanted, segment) in enumerate(zip(pattern, segments, strict=False)):
        if not wanted.startswith("{"):
            if wanted != segment:
                return None
        elif wanted.endswith("*}"):
            params[wanted[1:-2]] = "/".join(segments[index:])
        else:
            params[wanted[1:-1]] = segment
    return params


def _decode(name: str, raw: str) -> str:
    if name == "stream_name":
        return stream_name(raw)
    text = percent_decode(raw, f"{name} id")
    return session_query.session_id(text) if name == "session" else text
