"""The document: every route with what is said about its handler."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

import msgspec

import tailrace
from tailrace_server.openapi import (
    buckets,
    operation,
    sessions,
    snapshots,
    streams,
    subscriptions,
)
from tailrace_server.openapi.common import ANY_REQUEST, MISSING, UNAUTHORIZED, headless
from tailrace_server.openapi.paths import PARTS
from tailrace_server.openapi.schemas import SCHEMAS
from tailrace_server.openapi.shape import WAKE, Answer, Described, Descriptions, Json
from tailrace_server.protocol import headers
from tailrace_server.routes import ROUTES, Route

DESCRIBED: Final[Descriptions] = {
    **sessions.DESCRIBED,
    **streams.DESCRIBED,
    **snapshots.DESCRIBED,
    **buckets.DESCRIBED,
    **subscriptions.DESCRIBED,
    **operation.DESCRIBED,
}
"""Every handler of the table of routes, by what it does."""

_TAGS: Final = {
    "sessions": "Sessions of JSON events.",
    "search": "Full-text search over sessions.",
    "streams": "The Durable Streams Protocol: /v1/stream/{path}, and /ds/{bucket}/{stream}.",
    "snapshots": "Foldings of streams in buckets, and a first read that begins with one.",
    "buckets": "Namespaces of streams.",
    "subscriptions": "Durable cursors that wake workers.",
    "operation": "For whoever runs the server.",
}
_ABOUT: Final = (
    "Durable, replayable, searchable event streams. HEAD is answered wherever GET is, and "
    "OPTIONS everywhere. A server without keys answers its own machine alone, and needs none."
)
SECURITY: Final[Json] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "key": {"type": "apiKey", "in": "header", "name": headers.API_KEY},
    WAKE: {"type": "http", "scheme": "bearer", "description": "The token of a wake or claim."},
}
KEYS: Final = ("bearer", "key")
_SHARED: Final = {
    **{f"Any{status}": answer for status, answer in ANY_REQUEST.items()},
    "Unauthorized": UNAUTHORIZED,
    "Missing": MISSING,
}
"""Answers that many operations have, said once."""

_PART: Final = re.compile(r"\{(\w+)\*?\}")


def document(routes: Sequence[Route]) -> Json:
    """The OpenAPI document of ``routes``. KeyError names a handler that nothing is said about."""
    paths: dict[str, Json] = {}
    names: set[str] = set()
    for route in routes:
        name = operation_id(route, names)
        names.add(name)
        paths.setdefault(openapi_path(route.path), {})[route.method.lower()] = {
            "operationId": name,
            **_operation(route, DESCRIBED[route.handler]),
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "tailrace", "version": tailrace.__version__, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": about} for name, about in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "responses": {name: answer.document() for name, answer in _SHARED.items()},
            "securitySchemes": SECURITY,
        },
    }


@cache
def encoded() -> bytes:
    """The document of this server, as JSON."""
    return msgspec.json.encode(document(ROUTES))


def openapi_path(path: str) -> str:
    """A path of the table as OpenAPI writes it, which knows no part that holds slashes."""
    return _PART.sub(r"{\1}", path)


def operation_id(route: Route, taken: Iterable[str]) -> str:
    """The handler's name; on further routes with the surface or the last segment behind it."""
    name = route.handler.__name__
    if name not in taken:
        return name
    surface = "in_bucket" if route.path.startswith("/ds/") else route.path.rsplit("/", 1)[-1]
    return f"{name}_{surface}"


def _operation(route: Route, described: Described) -> Json:
    if route.method == "HEAD":
        described = headless(described)
    parts = [PARTS[name] for name in _PART.findall(route.path)]
    found: Json = {"tags": [described.tag], "summary": described.summary}
    if described.description:
        found["description"] = described.description
    parameters = [parameter.document() for parameter in (*parts, *described.parameters)]
    if parameters:
        found["parameters"] = parameters
    if described.body is not None:
        found["requestBody"] = described.body.document()
    found["responses"] = {
        str(status): _answer(answer) for status, answer in sorted(_answers(route, described))
    }
    schemes = (described.scheme,) if described.scheme else () if route.public else KEYS
    found["security"] = [{scheme: []} for scheme in schemes]
    return found


def _answers(route: Route, described: Described) -> Iterable[tuple[int, Answer]]:
    """The operation's answers, and with them those that any request may get."""
    shared = dict(ANY_REQUEST)
    if not route.public:
        shared[401] = UNAUTHORIZED
    particular = dict(described.answers)
    if "{bucket}" in route.path:
        particular.update(described.in_bucket)
    for status in {*shared, *particular}:
        own, common = particular.get(status), shared.get(status)
        if own is None or common is None:
            answer = own or common
            assert answer is not None
            if route.method == "HEAD":
                answer = replace(answer, content={})
            yield status, answer
        else:
            yield status, _either(own, common)


def _either(own: Answer, common: Answer) -> Answer:
    """One answer that may be either of two."""
    return Answer(
        f"{own.description} {common.description}",
        _both(own.content, common.content),
        (*own.headers, *common.headers),
    )


def _both(one: Mapping[str, Json], other: Mapping[str, Json]) -> Mapping[str, Json]:
    if not one or one == other:
        return one
    ((kind, first),), ((_, second),) = one.items(), other.items()
    return {kind: {"anyOf": [first, second]}}


def _answer(answer: Answer) -> Json:
    for name, shared in _SHARED.items():
        if shared == answer:
            return {"$ref": f"#/components/responses/{name}"}
    return answer.document()
