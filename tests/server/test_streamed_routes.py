"""A streamed route over the real service, on both fronts and without one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

import tailrace
from tailrace_server.config import ServiceConfig
from tailrace_server.context import Answer, Call, Context
from tailrace_server.fast.listener import FastFront
from tailrace_server.front import FrontLimits
from tailrace_server.hypercorn_front import HypercornFront
from tailrace_server.keys import KeyRing
from tailrace_server.protocol.message import BodyAborted, Request, Response
from tailrace_server.routes import ROUTES, Route
from tailrace_server.service import Service
from tests.server.front_support import FRONTS, RawClient, at_work, eventually

both = pytest.mark.parametrize("kind", FRONTS)
KEY = "k"
CONFIG = ServiceConfig(body_bytes_max=100)
LIMITS = FrontLimits(body_bytes_max=100, body_timeout_s=0.4, linger_s=0.3)


async def upload(context: Context, call: Call) -> Answer:
    """Counts the bytes and bounds them by itself."""
    stream = call.request.stream
    assert stream is not None and call.request.body == b""
    length = 0
    while piece := await stream.receive():
        length += len(piece)
        if length > 10_000:
            return Response(413, ())
    return Response(200, (), (b"%d" % length,))


UPLOAD = Route("PUT", "/upload/{name}", upload, streamed=True)


@asynccontextmanager
async def serving(kind: str, directory: Path) -> AsyncIterator[tuple[Service, int]]:
    with tailrace.open(directory) as store:
        service = Service(store, CONFIG, KeyRing([KEY]), (*ROUTES, UPLOAD))
        front = (FastFront if kind == "fast" else HypercornFront)(service, LIMITS)
        async with at_work(front, service) as (port, _):
            yield service, port


def put(length: int, key: str = KEY, path: str = "/upload/a") -> bytes:
    fields = f"Host: a\r\nX-Api-Key: {key}\r\nContent-Length: {length}"
    return f"PUT {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode()


@both
@pytest.mark.parametrize(
    ("sent", "body", "status"),
    [
        (put(0), b"", 200),
        (put(50), b"x" * 50, 200),
        (put(5000), b"x" * 5000, 200),
        (put(20_000), b"x" * 20_000, 413),
        (put(5000, key="other"), b"", 401),
        (put(50, key="other"), b"x" * 50, 401),
        (put(5000, path="/upload/a/b"), b"", 413),
        (put(50, path="/upload/a/b"), b"", 404),
        (put(5000, path="/ds/demo/s"), b"", 413),
    ],
)
async def test_a_streamed_route_is_bounded_by_its_handler_alone(
    kind: str, sent: bytes, body: bytes, status: int, tmp_path: Path
) -> None:
    async with serving(kind, tmp_path / "data") as (_, port):
        async with RawClient(await trio.open_tcp_stream("127.0.0.1", port)) as client:
            await client.send(sent + body)
            answer = await client.answer()
            assert answer.status == status
            if status == 200:
                assert int(answer.body) == len(body)


# In chunks: what is plain and small is not begun with until it is whole.
BROKEN_OFF = put(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"2\r\nab\r\n"


@both
@pytest.mark.parametrize(
    ("broken", "status"), [(put(10) + b"ab", 408), (BROKEN_OFF, 400)], ids=["late", "left"]
)
async def test_what_became_of_a_body_is_counted_as_its_answer(
    kind: str, broken: bytes, status: int, tmp_path: Path
) -> None:
    async with serving(kind, tmp_path / "data") as (service, port):
        async with RawClient(await trio.open_tcp_stream("127.0.0.1", port)) as client:
            await client.send(broken)
            if status == 408:
                answer = await client.answer()
                assert answer.status == 408
                assert answer.json()["error"]["type"] == "timeout_error"  # type: ignore[index]
        counted = f'tailrace_http_requests_total{{route="/upload/{{name}}",status="{status}"}} 1.0'
        await eventually(lambda: counted.encode() in service.context.metrics.exposition())


async def test_a_caller_without_a_front_hands_in_the_body_as_it_is(tmp_path: Path) -> None:
    with tailrace.open(tmp_path) as store:
        service = Service(store, CONFIG, KeyRing(), (UPLOAD,))
        answer = await service.handle(Request("PUT", "/upload/a", "", (), b"x" * 5000))
        assert isinstance(answer, Response)
        assert b"".join(answer.body) == b"5000"
        assert service.streams(Request("PUT", "/upload/a", "", (), b""))
        assert not service.streams(Request("GET", "/upload/a", "", (), b""))
        assert not service.streams(Request("PUT", "/nowhere", "", (), b""))


async def test_an_aborted_body_is_answered_with_what_is_due(tmp_path: Path) -> None:
    class Aborting:
        async def receive(self) -> bytes:
            raise BodyAborted("too slow", Response(408, ()))

    with tailrace.open(tmp_path) as store:
        service = Service(store, CONFIG, KeyRing(), (UPLOAD,))
        answer = await service.handle(Request("PUT", "/upload/a", "", (), b"", stream=Aborting()))
        assert answer.status == 408
