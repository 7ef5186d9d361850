"""What the attack knows of deletions, against the real service: neither too much nor too little."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tailrace_server.protocol import headers
from tests.server.openapi.deletions import Deletions
from tests.server.service_support import serving

EVENT: Final = {"type": "a"}
FORK: Final = ("POST", "/v1/sessions/source/fork", {"id": "s"})
SESSION: Final = (
    ("GET", "/v1/sessions/s"),
    ("HEAD", "/v1/sessions/s/events"),
    ("GET", "/v1/sessions/s/events"),
    ("HEAD", "/v1/sessions/s/events/stream"),
    ("HEAD", "/ds/sessions/s"),
    ("GET", "/ds/sessions/s"),
)
Call = tuple[str, str, Any]
ENDS: Final[Sequence[tuple[Call, str, Call, Sequence[tuple[str, str]]]]] = (
    (FORK, "/v1/sessions/s", ("POST", "/v1/sessions/s/events", EVENT), SESSION),
    (FORK, "/v1/sessions/s", FORK, SESSION),
    (FORK, "/ds/sessions/s", FORK, SESSION),
    (
        ("PUT", "/v1/stream/a%2Fb/c", []),
        "/v1/stream/a%2fb/c",
        ("PUT", "/v1/stream/a%2Fb/c", []),
        (("HEAD", "/v1/stream/a%2Fb/c"), ("GET", "/v1/stream/a%2fb/c")),
    ),
    (
        ("PUT", "/ds/demo/x", []),
        "/ds/demo/x",
        ("PUT", "/ds/demo/x", []),
        (("HEAD", "/ds/demo/x"), ("GET", "/ds/demo/%78")),
    ),
)


@pytest.mark.parametrize(("make", "deleted", "again", "reads"), ENDS)
async def test_deleted_is_gone_until_it_is_made_again(
    tmp_path: Path,
    make: Call,
    deleted: str,
    again: Call,
    reads: Sequence[tuple[str, str]],
) -> None:
    seen = Deletions()
    async with serving(tmp_path) as client:

        async def call(method: str, path: str, body: Any = b"") -> int:
            json = {headers.CONTENT_TYPE: "application/json"} if body != b"" else {}
            answer = await client(method, path, body, json)
            wrong = seen.answered(method, f"http://h{path}?q=1", answer.status, answer.body)
            assert wrong is None, wrong
            return answer.status

        assert await call("PUT", "/ds/demo") == 201
        assert await call("POST", "/v1/sessions/source/events", EVENT) == 204
        assert await call(*make) == 201
        for method, path in reads:
            assert await call(method, path) == 200
        assert await call("DELETE", deleted) == 204
        for method, path in reads:
            assert await call(method, path) == 404
            # What this server must not say is noticed, and said of this stream alone.
            assert seen.answered(method, path, 200, b"") is not None
            assert seen.answered(method, f"{path}y", 200, b"") is None
        assert await call("DELETE", deleted) == 404
        assert seen.answered("DELETE", deleted, 204, b"") is not None
        assert seen.answered(*again[:2], 404, b"") is None  # makes nothing
        assert seen.answered(*reads[0], 200, b"") is not None
        assert await call(*again) in (201, 204)
        for method, path in reads:
            assert await call(method, path) == 200
