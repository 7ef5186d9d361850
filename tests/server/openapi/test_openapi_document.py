"""The published document and the server: every route is in it, and nothing else is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tailrace_server.front import METHODS
from tailrace_server.openapi.document import DESCRIBED, document, openapi_path
from tailrace_server.protocol import headers
from tailrace_server.routes import ROUTES, Route
from tests.server.service_support import serving

DOCUMENT: Final = document(ROUTES)
KEY: Final = "sk-of-this-server"
HEADER_NAMES: Final = {
    value.lower() for name, value in vars(headers).items() if name.isupper() and type(value) is str
}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_it_is_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert [str(error) for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_routes_and_document_are_the_same() -> None:
    documented = {(method, path) for method, path, _ in operations()}
    assert documented == {(route.method, openapi_path(route.path)) for route in ROUTES}
    assert len(documented) == len(ROUTES)


def test_nothing_is_said_of_what_is_no_handler() -> None:
    assert set(DESCRIBED) == {route.handler for route in ROUTES}


def test_a_route_that_nothing_is_said_about_is_noticed() -> None:
    async def mystery(context: object, call: object) -> Any:
        raise AssertionError

    with pytest.raises(KeyError):
        document([*ROUTES, Route("GET", "/mystery", mystery)])


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))
    renamed = [replace(route, path=f"/other{route.path}") for route in ROUTES]
    assert len(document([*ROUTES, *renamed])["paths"]) == 2 * len(DOCUMENT["paths"])


def test_the_parts_of_a_path_are_its_parameters() -> None:
    for method, path, operation in operations():
        parts = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"]
        assert parts == re.findall(r"\{(\w+)\}", path), (method, path)


def test_public_routes_alone_need_no_key() -> None:
    public = {(route.method, openapi_path(route.path)) for route in ROUTES if route.public}
    for method, path, operation in operations():
        schemes = {name for scheme in operation["security"] for name in scheme}
        assert schemes <= set(DOCUMENT["components"]["securitySchemes"])
        if (method, path) in public:
            assert schemes <= {"wake"}
            assert schemes or "401" not in operation["responses"]
        else:
            assert schemes == {"bearer", "key"}
            assert "401" in operation["responses"]


def test_headers_have_the_names_of_the_table() -> None:
    found = set()
    for _, _, operation in operations():
        found |= {p["name"] for p in operation.get("parameters", ()) if p["in"] == "header"}
        for answer in operation["responses"].values():
            found |= set(answer.get("headers", ()))
    assert headers.STREAM_NEXT_OFFSET in found
    assert {name.lower() for name in found} - HEADER_NAMES == set()


def test_answers_to_head_have_no_body() -> None:
    for method, _, operation in operations():
        if method == "HEAD":
            for answer in operation["responses"].values():
                assert "$ref" not in answer
                assert "content" not in answer


def test_every_schema_is_used() -> None:
    named = set(re.findall(r"#/components/schemas/(\w+)", repr(DOCUMENT)))
    assert named == set(DOCUMENT["components"]["schemas"])


async def test_it_is_served_to_everyone(tmp_path: Path) -> None:
    async with serving(tmp_path, keys=[KEY]) as client:
        answer = await client("GET", "/openapi.json")
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json == DOCUMENT


async def test_other_methods_than_the_documented_ones_are_refused(tmp_path: Path) -> None:
    """405 for all but what the document has, HEAD beside GET, and OPTIONS, as ``info`` says."""
    possible = {"session": "s", "bucket": "demo", "stream": "s", "offset": "00000000"}
    async with serving(tmp_path) as client:
        for path, methods in DOCUMENT["paths"].items():
            known = {method.upper() for method in methods} | {"OPTIONS"}
            known |= {"HEAD"} & {"HEAD" for method in known if method == "GET"}
            target = re.sub(r"\{(\w+)\}", lambda part: possible.get(part[1], "x"), path)
            for method in sorted(METHODS):
                answer = await client(method, target)
                assert (answer.status == 405) == (method not in known), (method, target)
