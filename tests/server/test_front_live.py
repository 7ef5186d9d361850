"""Both fronts over the real service: readers that leave are freed, TLS, HTTP/2, mounting."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trio
from h2.connection import H2Connection

import tailrace
from tailrace_server.config import ServiceConfig
from tailrace_server.fast.listener import FastFront
from tailrace_server.hypercorn_front import HypercornFront, tls_context
from tailrace_server.keys import KeyRing
from tailrace_server.service import Service
from tests.server.front_support import FRONTS, RawClient, at_work, eventually

both = pytest.mark.parametrize("kind", FRONTS)
# Nothing is written to a silent reader within any test: only the front can notice it leaving.
SILENT = ServiceConfig(sse_heartbeat_s=600, sse_lifetime_s=600, long_poll_timeout_s=600)
PATH = "/v1/sessions/s/events"
EVENT = {"type": "a", "text": "hello"}


@dataclass
class Serving:
    service: Service
    url: str
    port: int

    @property
    def readers(self) -> int:
        return self.service.context.hub.readers


@asynccontextmanager
async def serving(
    kind: str, directory: Path, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Serving]:
    with tailrace.open(directory) as store:
        service = Service(store, SILENT, KeyRing())
        front: FastFront | HypercornFront = FastFront(service)
        if kind == "hypercorn":
            front = HypercornFront(service, tls=tls)
        scheme = "http" if tls is None else "https"
        async with at_work(front, service) as (port, _):
            url = f"{scheme}://127.0.0.1:{port}"
            async with httpx.AsyncClient(verify=False) as client:
                assert (await client.post(url + PATH, json=EVENT)).status_code == 204
            yield Serving(service, url, port)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN=test -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem".split(),
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / "cert.pem", folder / "key.pem"


def trusting(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


@both
@pytest.mark.parametrize("query", ["?offset=now&live=sse", "?offset=now&live=long-poll", "/stream"])
async def test_a_silent_reader_that_leaves_is_freed(kind: str, query: str, tmp_path: Path) -> None:
    async with serving(kind, tmp_path / "data") as server:
        streams = []
        for _ in range(20):
            stream = await trio.open_tcp_stream("127.0.0.1", server.port)
            await stream.send_all(f"GET {PATH}{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            streams.append(stream)
        await eventually(lambda: server.readers == 20)
        for stream in streams[:19]:
            await trio.aclose_forcefully(stream)
        await eventually(lambda: server.readers == 1)
        # The one that stayed still gets what is appended.
        async with RawClient(streams[19]) as client, httpx.AsyncClient() as writer:
            await writer.post(server.url + PATH, json=EVENT)
            assert b"hello" in await client.until(b"hello") + b"hello"
        await eventually(lambda: server.readers == 0)


async def test_tls_and_http_1(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    tls = tls_context(str(certificate[0]), str(certificate[1]))
    async with serving("hypercorn", tmp_path / "data", tls) as server:
        tcp = await trio.open_tcp_stream("127.0.0.1", server.port)
        stream = trio.SSLStream(
            tcp, trusting(certificate), server_hostname="127.0.0.1", https_compatible=True
        )
        async with RawClient(stream) as client:
            request = f"GET {PATH}?offset=-1&live=sse HTTP/1.1\r\nHost: localhost\r\n\r\n"
            await client.send(request.encode())
            assert (await client.head()).status == 200
            await client.until(b"hello")
            await eventually(lambda: server.readers == 1)
        await eventually(lambda: server.readers == 0)


async def test_tls_and_http_2(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    tls = tls_context(str(certificate[0]), str(certificate[1]))
    async with serving("hypercorn", tmp_path / "data", tls) as server:
        async with httpx.AsyncClient(http2=True, verify=trusting(certificate)) as client:
            answer = await client.get(server.url + PATH)
            assert answer.http_version == "HTTP/2"
            assert len(answer.json()["data"]) == 1
            answer = await client.post(server.url + "/v1/sessions/a%2Fb/events", json=EVENT)
            assert (answer.status_code, answer.content) == (204, b"")
            assert "content-type" not in answer.headers
            assert (await client.get(server.url + "/v1/sessions/a%2Fb")).json()["id"] == "a/b"
            assert (await client.options(server.url + PATH)).status_code == 204


async def test_http_2_streams_that_leave_are_freed(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    """One by a reset, which leaves its connection alone, the others with their connection."""
    tls = tls_context(str(certificate[0]), str(certificate[1]))
    async with serving("hypercorn", tmp_path / "data", tls) as server:
        context = trusting(certificate)
        context.set_alpn_protocols(["h2"])
        stream = trio.SSLStream(
            await trio.open_tcp_stream("127.0.0.1", server.port),
            context,
            server_hostname="127.0.0.1",
            https_compatible=True,
        )
        client = H2Connection()
        client.initiate_connection()
        for number in (1, 3, 5):
            path = f"{PATH}?offset=now&live=sse"
            fields = [(":method", "GET"), (":path", path), (":scheme", "https")]
            client.send_headers(number, [*fields, (":authority", "a")], end_stream=True)
        await stream.send_all(client.data_to_send())
        await eventually(lambda: server.readers == 3)
        client.reset_stream(3)
        await stream.send_all(client.data_to_send())
        await eventually(lambda: server.readers == 2)
        await trio.aclose_forcefully(stream)
        await eventually(lambda: server.readers == 0)
