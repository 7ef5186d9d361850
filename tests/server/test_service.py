"""What every request gets, whatever it asks for: routing, rights, headers, faults."""

from __future__ import annotations

from pathlib import Path

import pytest

import tailrace
from tailrace.errors import Corrupted, LogPoisoned
from tailrace_server.keys import Key, KeyRing, Right
from tailrace_server.protocol import headers as names
from tailrace_server.protocol.message import Request, Response
from tailrace_server.routes import ROUTES, Route, Router
from tailrace_server.service import Service, ServiceConfig
from tests.server.service_support import got, request, serving

EVENTS = "/v1/sessions/s/events"
EVENT = {"type": "x"}


# --- routing


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/sessions/s/",
        "/v1/sessions/s/event",
        "//",
        "/V1/sessions",
        "/v1/sessions/s/events/",
        "/v1/sessions/s/events/stream/x",
        "/healthz/",
        "/v1%2Fsessions",
        "/favicon.ico",
        "",
        "x",
        "*",
    ],
)
async def test_unknown_paths_are_404(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as client:
        for method in ("GET", "POST", "OPTIONS", "DELETE"):
            found = await client(method, path)
            assert found.status == 404 and found.error[0] == "not_found_error", method


async def test_a_404_says_what_there_is(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        slash = await client("GET", "/v1/sessions/s/events/")
        assert "without the slash at its end, '/v1/sessions/s/events'" in slash.error[1]
        for path in ("/", "//", "/nothing/", "/favicon.ico"):
            assert "/openapi.json" in (await client("GET", path)).error[1]


async def test_an_empty_session_id_is_400(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        for path in ("/v1/sessions/", "/v1/sessions//events"):
            found = await client("GET", path)
            assert found.status == 400 and found.error[1].startswith("session id: ")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", EVENTS, "GET, HEAD, OPTIONS, POST"),
        ("DELETE", EVENTS, "GET, HEAD, OPTIONS, POST"),
        ("PUT", "/v1/sessions/s", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("POST", "/v1/sessions", "GET, HEAD, OPTIONS"),
        ("GET", "/v1/sessions/s/fork", "OPTIONS, POST"),
        ("POST", "/v1/search", "GET, HEAD, OPTIONS"),
        ("POST", "/healthz", "GET, HEAD, OPTIONS"),
        ("TRACE", "/healthz", "GET, HEAD, OPTIONS"),
    ],
)
async def test_other_methods_are_405_with_allow(
    tmp_path: Path, method: str, path: str, allow: str
) -> None:
    async with serving(tmp_path) as client:
        found = await client(method, path)
        assert found.status == 405 and found.headers["allow"] == allow
        assert found.error[0] == "method_not_allowed"


def test_the_table_has_each_route_once_with_a_fixed_first_segment() -> None:
    pairs = [(route.method, route.path) for route in ROUTES]
    assert len(pairs) == len(set(pairs))
    assert all(not route.path.startswith("/{") for route in ROUTES)
    assert all(route.right is not None for route in ROUTES if "{session}" in route.path)


def test_a_rest_segment_takes_slashes_and_keeps_them_encoded_until_decoded() -> None:
    async def handler(context: object, call: object) -> Response:
        raise NotImplementedError

    router = Router([Route("GET", "/v1/stream/{path*}", handler)])
    assert router.match("GET", "/v1/stream/a/b%2Fc").params == {"path": "a/b/c"}
    assert router.match("GET", "/v1/stream/a").params == {"path": "a"}


# --- CORS and security headers


@pytest.mark.parametrize("path", [EVENTS, "/v1/sessions", "/v1/search", "/healthz"])
async def test_preflight(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path, keys=["k"]) as client:
        found = await client(
            "OPTIONS", path, headers={"Origin": "https://x", "Access-Control-Request-Method": "GET"}
        )
        assert found.status == 204
        allowed = found.headers["access-control-allow-headers"].lower().split(", ")
        for name in (
            "authorization",
            "x-api-key",
            "content-type",
            "if-none-match",
            "last-event-id",
            "stream-seq",
            "stream-closed",
            "producer-id",
            "producer-epoch",
            "producer-seq",
            "stream-ttl",
            "stream-expires-at",
            "stream-forked-from",
            "stream-fork-offset",
        ):
            assert name in allowed
        assert "GET" in found.headers["access-control-allow-methods"]


async def test_every_response_can_be_read_by_a_browser(tmp_path: Path) -> None:
    async with serving(tmp_path, keys=["k"]) as client:
        key = {"x-api-key": "k"}
        for method, path, headers in (
            ("POST", EVENTS, key),
            ("GET", EVENTS, key),
            ("GET", EVENTS, {}),
            ("GET", "/x", {}),
            ("PUT", EVENTS, {}),
            ("GET", "/healthz", {}),
            ("GET", "/metrics", key),
            ("HEAD", EVENTS, key),
            ("GET", EVENTS + "?offset=x", key),
        ):
            found = await client(method, path, EVENT if method == "POST" else b"", headers)
            exposed = found.headers["access-control-expose-headers"].lower().split(", ")
            for name in vars(names).values():
                if isinstance(name, str) and name.lower().startswith("stream-"):
                    assert name.lower() in exposed or name.lower() not in found.headers
            assert {
                "stream-next-offset",
                "stream-closed",
                "stream-cursor",
                "etag",
                "stream-up-to-date",
                "producer-expected-seq",
            } <= set(exposed)
            assert found.headers["cross-origin-resource-policy"] == "cross-origin"


# --- keys

KEYS = (
    Key("root"),
    Key("reader", frozenset({Right.READ}), ("s*",)),
    Key("writer", frozenset({Right.APPEND}), ("s",)),
    Key("other", frozenset(Right), ("other",)),
)

CALLS = (
    ("GET", EVENTS, b"", Right.READ),
    ("HEAD", EVENTS, b"", Right.READ),
    ("GET", EVENTS + "?live=sse", b"", Right.READ),
    ("GET", EVENTS + "/stream", b"", Right.READ),
    ("GET", EVENTS + "?q=x", b"", Right.READ),
    ("GET", "/v1/sessions/s", b"", Right.READ),
    ("POST", EVENTS, b'{"type":"x"}', Right.APPEND),
    ("POST", "/v1/sessions/s", b'{"title":"t"}', Right.MANAGE),
    ("DELETE", "/v1/sessions/s", b"", Right.MANAGE),
)


@pytest.mark.parametrize(("method", "path", "body", "right"), CALLS)
async def test_without_the_right_a_session_is_not_there(
    tmp_path: Path, method: str, path: str, body: bytes, right: Right
) -> None:
    async with serving(tmp_path, keys=KEYS) as client:
        await client("POST", EVENTS, EVENT, {"x-api-key": "root"})
        missing = await client("GET", EVENTS, b"", {"x-api-key": "other"})
        for key in KEYS:
            answer = await client.service.handle(
                request(method, path, body, {"x-api-key": key.secret})
            )
            allowed = right in key.rights and key.secret != "other"
            if allowed:
                assert answer.status in (200, 204), (key.secret, answer)
                await client("POST", EVENTS, EVENT, {"x-api-key": "root"})
            else:
                assert isinstance(answer, Response)
                refused = got(answer)
                assert (refused.status, refused.body) == (404, missing.body)
                assert refused.headers == missing.headers


async def test_not_yours_and_not_there_are_the_same_bytes(tmp_path: Path) -> None:
    async with serving(tmp_path, keys=KEYS) as client:
        await client("POST", EVENTS, EVENT, {"x-api-key": "root"})
        not_yours = await client("GET", EVENTS, b"", {"x-api-key": "other"})
        await client("DELETE", "/v1/sessions/s", b"", {"x-api-key": "root"})
        not_there = await client("GET", EVENTS, b"", {"x-api-key": "root"})
        assert not_yours == not_there


@pytest.mark.parametrize("path", [EVENTS, "/v1/sessions", "/v1/search?q=a", "/metrics"])
@pytest.mark.parametrize("headers", [{}, {"x-api-key": "no"}, {"Authorization": "Bearer no"}])
async def test_a_wrong_key_is_401(tmp_path: Path, path: str, headers: dict[str, str]) -> None:
    async with serving(tmp_path, keys=["k"]) as client:
        found = await client("GET", path, b"", headers)
        assert found.status == 401 and found.error[0] == "authentication_error"
        assert found.headers["www-authenticate"].startswith("Bearer")


async def test_forking_takes_reading_and_appending(tmp_path: Path) -> None:
    keys = (*KEYS, Key("both", frozenset({Right.READ, Right.APPEND}), ("s", "f*")))
    async with serving(tmp_path, keys=keys) as client:
        await client("POST", EVENTS, EVENT, {"x-api-key": "root"})
        target = "/v1/sessions/s/fork"
        for key, name, status in (
            ("reader", "f", 404),
            ("writer", "f", 404),
            ("both", "x", 404),
            ("both", "f", 201),
        ):
            found = await client("POST", target, {"id": name}, {"x-api-key": key})
            assert found.status == status, (key, name)


# --- health and metrics


async def test_health_needs_no_key_and_metrics_one_for_all(tmp_path: Path) -> None:
    async with serving(tmp_path, keys=KEYS) as client:
        for path in ("/healthz", "/readyz"):
            assert (await client("GET", path)).status == 200
            assert (await client("HEAD", path)).status == 200
        assert (await client("GET", "/metrics", b"", {"x-api-key": "reader"})).status == 404
        await client("POST", EVENTS, EVENT, {"x-api-key": "root"})
        text = (await client("GET", "/metrics", b"", {"x-api-key": "root"})).body.decode()
        route = 'route="/v1/sessions/{session}/events",status="204"'
        assert f"tailrace_http_requests_total{{{route}}} 1.0" in text
        assert "tailrace_live_readers 0.0" in text
        assert "tailrace_engine_batches" in text


# --- refusing early


def headers_only(method: str, path: str, *pairs: tuple[str, str]) -> Request:
    path, _, query = path.partition("?")
    return Request(method, path, query, pairs, b"")


async def test_check_head_refuses_before_the_body(tmp_path: Path) -> None:
    config = ServiceConfig(body_bytes_max=1000)
    async with serving(tmp_path, config=config, keys=["k"]) as client:
        check = client.service.check_head
        key = ("x-api-key", "k")
        assert check(headers_only("POST", EVENTS, key, ("content-length", "1000"))) is None
        assert check(headers_only("POST", EVENTS, key)) is None
        assert check(headers_only("OPTIONS", EVENTS)) is None
        for status, head in (
            (413, headers_only("POST", EVENTS, key, ("content-length", "1001"))),
            (401, headers_only("POST", EVENTS, ("content-length", "1001"))),
            (405, headers_only("PUT", EVENTS, key)),
            (404, headers_only("POST", "/nope", key)),
            (400, headers_only("POST", "/v1/sessions/%zz/events", key)),
        ):
            refused = check(head)
            assert refused is not None and refused.status == status
            assert got(refused).error


# --- faults are answers too


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (Corrupted("bad", file="0.log", position=7, stream="sessions/s"), 500, "data_corrupted"),
        (LogPoisoned("disk"), 503, "unavailable_error"),
        (tailrace.Overloaded("full", retry_after_s=2.5), 503, "overloaded_error"),
        (tailrace.InvalidArgument("ordinal", "too big"), 400, "invalid_request_error"),
        (ZeroDivisionError(), 500, "internal_error"),
        (RecursionError(), 500, "internal_error"),
    ],
)
async def test_no_fault_leaves_as_an_exception(
    tmp_path: Path, error: Exception, status: int, kind: str
) -> None:
    async with serving(tmp_path) as client:
        await client("POST", EVENTS, EVENT)

        def fail(*args: object, **kwargs: object) -> object:
            raise error

        client.store.read = fail  # type: ignore[assignment]
        found = await client("GET", EVENTS)
        assert found.status == status and found.error[0] == kind
        if isinstance(error, Corrupted):
            assert "sessions/s" in found.error[1]
        if isinstance(error, tailrace.Overloaded):
            assert found.headers["retry-after"] == "3"
        if isinstance(error, ZeroDivisionError):
            assert "ZeroDivision" not in found.error[1]


async def test_damage_ends_a_live_reader(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("POST", EVENTS, EVENT)
        tail = await client.tail(EVENTS + "?live=sse&offset=now")
        await tail.next()

        def fail(*args: object, **kwargs: object) -> object:
            raise Corrupted("bad", file="0.log", position=7)

        client.store.read = fail  # type: ignore[assignment]
        await client("POST", EVENTS, EVENT)
        await tail.end()


async def test_a_failed_disk_refuses_writes_and_serves_reads(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        await client("POST", EVENTS, EVENT)

        def fail(*args: object, **kwargs: object) -> object:
            raise LogPoisoned("the log is poisoned")

        client.store.submit = fail  # type: ignore[assignment]
        assert (await client("POST", EVENTS, EVENT)).status == 503
        assert len((await client("GET", EVENTS)).json["data"]) == 1


async def test_the_service_starts_twice_on_one_directory(tmp_path: Path) -> None:
    for _ in range(2):
        async with serving(tmp_path) as client:
            assert (await client("GET", "/v1/sessions")).status == 200
            assert client.store.bucket("sessions").streams == 0
            assert client.store.bucket("flat").streams == 0


def test_a_service_needs_no_event_loop_to_be_made(tmp_path: Path) -> None:
    with tailrace.open(tmp_path) as store:
        assert (
            Service(store, ServiceConfig(), KeyRing()).check_head(headers_only("GET", "/healthz"))
            is None
        )
