"""Whatever a request says, it is answered, and with no fault of ours."""

from __future__ import annotations

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tailrace
from tailrace import limits
from tailrace_server.config import ServiceConfig
from tailrace_server.live import LiveResponse
from tailrace_server.protocol.message import Request
from tests.server.service_support import Client, got, serving

METHODS = st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
SEGMENTS = st.sampled_from(
    ["", "v1", "sessions", "s", "events", "stream", "search", "fork", "healthz", "%2F", "%", "%00"]
) | st.text(st.characters(max_codepoint=255), max_size=5)
PARAMETERS = st.sampled_from(
    [
        "offset=-1",
        "offset=now",
        "offset=00000001",
        "limit=1",
        "limit=x",
        "order=desc",
        "q=a",
        "type=x",
        "live=long-poll",
        "live=sse",
        "page=x",
        "beta=true",
        "created_at[gt]=x",
        "cursor=1",
    ]
) | st.text(st.characters(max_codepoint=255), max_size=8)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "content-type",
                "producer-id",
                "producer-epoch",
                "producer-seq",
                "stream-seq",
                "stream-closed",
                "if-none-match",
                "last-event-id",
                "authorization",
                "x-api-key",
                "stream-expected-offset",
                "content-length",
                "anthropic-beta",
            ]
        ),
        st.sampled_from(["", "0", "1", "true", "application/json", "p", "*", "-1", "00000001"])
        | st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=6),
    ),
    max_size=5,
)
BODIES = st.sampled_from(
    [
        b"",
        b"{}",
        b"[]",
        b'{"type":"x"}',
        b'[{"type":"x"}]',
        b'{"events":[{"type":"x"}]}',
        b"[" * 999,
    ]
) | st.binary(max_size=20)


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(METHODS, st.lists(SEGMENTS, max_size=6), st.lists(PARAMETERS, max_size=3), HEADERS, BODIES)
def test_no_request_gets_a_5xx(
    tmp_path_factory: pytest.TempPathFactory,
    method: str,
    segments: list[str],
    parameters: list[str],
    headers: list[tuple[str, str]],
    body: bytes,
) -> None:
    sent = Request(method, "/" + "/".join(segments), "&".join(parameters), tuple(headers), body)
    directory = tmp_path_factory.mktemp("any")
    options = tailrace.Options(segment_bytes=limits.SEGMENT_BYTES_MIN, background=False)
    config = ServiceConfig(long_poll_timeout_s=0.0)

    async def run() -> None:
        async with serving(directory, config=config, options=options) as client:
            await client("POST", "/v1/sessions/s/events", {"type": "x"})
            await check(client, sent)

    trio.run(run)


async def check(client: Client, sent: Request) -> None:
    head = client.service.check_head(sent)
    answer = await client.service.handle(sent)
    assert answer.status < 500
    if head is not None:
        assert head.status == answer.status or head.status == 413
    if isinstance(answer, LiveResponse):
        return
    found = got(answer)
    if found.status >= 400:
        assert found.error[1]
