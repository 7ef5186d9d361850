"""HTTP/2 on the Hypercorn front, frame by frame: what a well-behaved client library hides."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from h2.errors import ErrorCodes

import tailrace
from tailrace_server.config import ServiceConfig
from tailrace_server.front import FrontLimits
from tailrace_server.hypercorn_front import HypercornFront
from tailrace_server.keys import KeyRing
from tailrace_server.live import CutOff, LiveResponse, Send
from tailrace_server.protocol.message import Request
from tailrace_server.service import Service
from tests.server.front_support import at_work, eventually, running
from tests.server.http2_support import Fields, Frames, answer_with, frames_of

LIMITS = FrontLimits(linger_s=0.2, send_timeout_s=0.5)
IMPATIENT = dataclasses.replace(LIMITS, idle_timeout_s=0.3)
DAMAGED = b"fill" * 30_000


@pytest.mark.parametrize("length", [None, 50_000])
@pytest.mark.parametrize("error", [CutOff(), RuntimeError("a defect")])
async def test_an_answer_that_cannot_be_finished_is_reset_rfc_9113_section_8_1(
    error: Exception, length: int | None
) -> None:
    async with running("hypercorn", LIMITS) as server, frames_of(server.port) as client:
        answer_with(server.service, 40, error, length)
        frames = await client.over(await client.ask(b"/cut"))
        assert (frames.status, frames.reset) == (200, ErrorCodes.INTERNAL_ERROR)
        assert not frames.ended
        assert frames.body == b"k" * 40_000  # what there was of it came first
        other = await client.over(await client.ask(b"/next"))
        assert (other.ended, other.body) == (True, b"whole")


async def test_an_answer_that_is_finished_is_not_reset() -> None:
    async with running("hypercorn", LIMITS) as server, frames_of(server.port) as client:
        answer_with(server.service, 300, None, None)
        frames = await client.over(await client.ask(b"/cut"))
        assert (frames.ended, frames.reset, len(frames.body)) == (True, None, 300_000)


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[tuple[Service, int]]:
    with tailrace.open(directory) as store:
        service = Service(store, ServiceConfig(), KeyRing(["k"]))
        front = HypercornFront(service, LIMITS)
        async with at_work(front, service) as (port, _):
            yield service, port


async def test_a_damaged_snapshot_and_its_bootstrap_are_reset(tmp_path: Path) -> None:
    auth = (("authorization", "Bearer k"), ("content-type", "application/json"))
    async with serving(tmp_path) as (service, port):
        for method, where, body in (
            ("PUT", "/ds/demo", b""),
            ("PUT", "/ds/demo/s", b"[1,2,3]"),
            ("PUT", "/ds/demo/s/snapshot/00000002", DAMAGED),
        ):
            answer = await service.handle(Request(method, where, "", auth, body))
            assert answer.status in (201, 204), answer
        (path_of,) = (tmp_path / "snapshots").iterdir()
        path_of.write_bytes(DAMAGED.replace(b"fill", b"fall", 1))
        async with frames_of(port) as client:
            for path in (b"/ds/demo/s/snapshot/00000002", b"/ds/demo/s/bootstrap"):
                number = client.connection.get_next_available_stream_id()
                frames = client.streams[number] = Frames()
                fields: Fields = [
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":authority", "127.0.0.1"),
                    (":path", path),
                    auth[0],
                ]
                client.connection.send_headers(number, fields, end_stream=True)
                await client.flush()
                await client.over(frames)
                assert (frames.status, frames.reset) == (200, ErrorCodes.INTERNAL_ERROR), path


@pytest.mark.parametrize("path", [b"/large?n=3000000", b"/flood", b"/cut"])
async def test_a_client_that_takes_nothing_loses_its_stream_alone(path: bytes) -> None:
    async with running("hypercorn", LIMITS) as server, frames_of(server.port, window=0) as client:
        if path == b"/cut":
            answer_with(server.service, 1000, None, None)
        stalled = await client.ask(path)
        await client.until(lambda: stalled.status)
        await client.over(stalled)
        assert (stalled.reset, stalled.body) == (ErrorCodes.INTERNAL_ERROR, b"")
        other = await client.ask(b"/none")
        await client.until(lambda: other.status)


async def test_who_sends_waits_for_a_client_that_takes_nothing() -> None:
    sent = 0

    async def run(send: Send) -> None:
        nonlocal sent
        while True:
            await send(b"k" * 1000)
            sent += 1000

    async def handle(request: Request) -> LiveResponse:
        return LiveResponse(200, (), run)

    async with running("hypercorn", LIMITS) as server, frames_of(server.port, window=0) as client:
        server.service.handle = handle  # type: ignore[method-assign]
        await client.over(await client.ask(b"/wait"))
        assert sent < 100_000


async def test_a_client_that_takes_little_at_a_time_gets_all_of_it() -> None:
    """For longer than one that takes nothing is waited for."""
    async with running("hypercorn", LIMITS) as server, frames_of(server.port) as client:
        slow = await client.ask(b"/large?n=400000")
        began = trio.current_time()
        while not slow.over:
            seen = len(slow.body)
            await client.until(lambda seen=seen: len(slow.body) > seen or slow.over)
            await trio.sleep(0.1)
        assert (slow.ended, len(slow.body)) == (True, 400_000)
        assert trio.current_time() - began > LIMITS.send_timeout_s


@pytest.mark.parametrize("path", [b"/large?n=3000000", b"/flood", b"/cut"])
async def test_a_client_that_leaves_in_the_midst_of_an_answer_leaves_nothing(path: bytes) -> None:
    patient = FrontLimits(send_timeout_s=600)
    async with running("hypercorn", patient) as server:
        if path == b"/cut":
            answer_with(server.service, 1000, None, None)
        async with frames_of(server.port, window=1000) as client:
            frames = await client.ask(path)
            await client.until(lambda: frames.body)
        await eventually(lambda: server.front.connections == 0)


async def test_a_client_that_sends_on_after_its_answer_is_told_to_stop() -> None:
    """RFC 9113 section 8.1: an answer may come before the whole request, and then NO_ERROR."""
    async with running("hypercorn", LIMITS) as server, frames_of(server.port) as client:
        frames = await client.ask(b"/streamed/early", "PUT", end=False)
        await client.over(frames)
        assert (frames.status, frames.ended) == (409, True)
        frames.ended = False
        client.connection.send_data(1, b"x" * 16_000)
        await client.flush()
        await client.over(frames)
        assert frames.reset == ErrorCodes.NO_ERROR
        other = await client.over(await client.ask(b"/next"))
        assert other.status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/caf\xe9".encode(), 400), ("get", b"/next", 501), ("BREW", b"/next", 501)],
)
async def test_what_is_no_request_is_answered_alone(method: str, path: bytes, status: int) -> None:
    async with running("hypercorn", LIMITS) as server, frames_of(server.port) as client:
        refused = await client.over(await client.ask(path, method))
        assert (refused.status, refused.ended) == (status, True)
        assert refused.body.startswith(b'{"error":{"type":')
        other = await client.over(await client.ask(b"/next"))
        assert other.status == 200
        assert server.front.counters.refusals[status] == 1


@pytest.mark.parametrize("method", ["BREW", "HEAD"])
async def test_a_request_that_is_taken_back_as_it_is_refused_ends_alone(method: str) -> None:
    """RFC 9113 section 5.4.2: a stream's reset, read together with its request, is its own."""
    async with running("hypercorn", LIMITS) as server, frames_of(server.port) as client:
        first = await client.over(await client.ask(b"/next"))
        assert first.status == 200
        await client.ask(b"/caf\xe9", method, flush=False)
        client.connection.reset_stream(3)
        await client.flush()
        other = await client.over(await client.ask(b"/next"))
        assert other.status == 200


async def test_a_refusal_of_head_has_no_content_rfc_9110_section_9_3_2() -> None:
    async with running("hypercorn", LIMITS) as server, frames_of(server.port) as client:
        refused = await client.over(await client.ask(b"/caf\xe9", "HEAD"))
        assert (refused.status, refused.body, refused.ended) == (400, b"", True)


async def test_a_request_that_is_taken_back_during_a_drain_ends_alone() -> None:
    """RFC 9113 section 8.7: what is refused was not begun, and answers in progress go on."""
    async with running("hypercorn", LIMITS) as server, frames_of(server.port) as client:
        waiting = await client.ask(b"/wait")
        await eventually(lambda: server.service.waiting == 1)
        assert isinstance(server.front, HypercornFront)
        server.front.drain()
        await eventually(server.front._context.terminated.is_set)
        refused = await client.over(await client.ask(b"/next"))
        assert (refused.status, refused.reset) == (0, ErrorCodes.REFUSED_STREAM)
        await client.ask(b"/next", flush=False)
        client.connection.reset_stream(5)
        await client.flush()
        refused = await client.over(await client.ask(b"/next"))
        assert refused.reset == ErrorCodes.REFUSED_STREAM
        assert client.connection.remote_settings.max_concurrent_streams > 0
        server.service.release.set()
        await client.over(waiting)
        assert (waiting.body, waiting.ended) == (b"released", True)
        await client.ends()


async def test_any_number_of_priorities_is_passed_over_rfc_9113_section_5_3_2() -> None:
    async with running("hypercorn", LIMITS) as server, frames_of(server.port) as client:
        for number in range(1, 3001, 2):
            client.connection.prioritize(number, weight=7, depends_on=number + 2)
        await client.flush()
        first = await client.over(await client.ask(b"/next"))
        assert first.status == 200


@pytest.mark.parametrize("path", [b"/next", b"/none", b"/large?n=100000", b"/wait", b"/live"])
async def test_a_connection_is_idle_after_its_last_answer(path: bytes) -> None:
    async with running("hypercorn", IMPATIENT) as server, frames_of(server.port) as client:
        server.service.release.set()
        await client.over(await client.ask(path))
        await client.ends()


@pytest.mark.parametrize("path", [b"/wait", b"/live", b"/flood", b"/streamed/all"])
async def test_and_after_its_last_stream_was_taken_back(path: bytes) -> None:
    async with running("hypercorn", IMPATIENT) as server, frames_of(server.port) as client:
        await client.ask(path, end=False)
        await trio.sleep(0.05)
        client.connection.reset_stream(1)
        await client.flush()
        await client.ends()
