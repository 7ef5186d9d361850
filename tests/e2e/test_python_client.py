"""``durable-streams`` (PyPI), unchanged, against the real server on each front.

It has no producer, no way to close and none to fork: those are driven by the npm client's
test, and here by plain requests where a reader must meet them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import durable_streams
import httpx
import pytest
from durable_streams import AsyncDurableStream, DurableStream

from tests.e2e.server_process import FRONTS, PATIENCE_S, ServerProcess, serving
from tests.e2e.wire import Client

JSON: Final = "application/json"
EVERY_BYTE: Final = bytes(range(256)) * 3
TEXT: Final = "line\nfeed \u2028 — 日本語 🎈\x00\ndata: no field\n\n"
ROOTS: Final = {"flat": "/v1/stream/", "bucket": "/ds/python/"}
Live = Literal["sse", "long-poll"]


@pytest.fixture(params=FRONTS, scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    data_dir = tmp_path_factory.mktemp("python") / "data"
    with serving(data_dir, "--long-poll-timeout", "0.5", front=request.param) as running:
        with Client(running) as plain:
            assert plain.request("PUT", "/ds/python").status == 201
        yield running


@pytest.fixture(params=ROOTS)
def url(request: pytest.FixtureRequest, server: ServerProcess) -> str:
    name = re.sub(r"\W+", "-", request.node.name)
    return f"{server.base_url}{ROOTS[request.param]}{name}"


def read(url: str, offset: str | None = None) -> tuple[list[Any], str]:
    """What a JSON stream holds from ``offset``, and where to go on from."""
    with durable_streams.stream(url, offset=offset, live=False) as response:
        return response.read_json(), response.offset


# ---- sections 5.1 to 5.6


def test_json_goes_in_and_comes_out(url: str) -> None:
    first: list[Any] = [{"a": 1}, "two", 3.5, None, [4, [5]], {"ü": "日本語", "n": 2**53 - 1}]
    with DurableStream.create(url, content_type=JSON) as stream:
        results = [stream.append(value) for value in first]
        found, saved = read(url)
        assert found == first
        assert saved == results[-1].next_offset == stream.head().offset
        assert sorted({result.next_offset for result in results}) == [
            result.next_offset for result in results
        ]
        # Callers of several threads share requests, and all get what they wrote stored.
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(stream.append, range(100)))
    later, end = read(url, saved)
    assert sorted(later) == list(range(100))
    assert read(url, end) == ([], end)
    assert read(url, "now") == ([], end)


def test_bytes_go_in_and_come_out(url: str) -> None:
    with DurableStream.create(url, content_type="application/octet-stream", body=b"a") as stream:
        saved = stream.append(EVERY_BYTE).next_offset
        stream.append(b"end")
        with stream.stream(live=False) as response:
            assert response.read_bytes() == b"a" + EVERY_BYTE + b"end"
        with stream.stream(live=False, offset=saved) as response:
            assert b"".join(response) == b"end"


def test_errors_are_the_ones_that_the_client_knows(url: str) -> None:
    with pytest.raises(durable_streams.StreamNotFoundError):
        DurableStream.connect(url)
    with DurableStream.create(url, content_type=JSON, ttl_seconds=3600) as stream:
        DurableStream.create(url, content_type=JSON, ttl_seconds=3600).close()
        with pytest.raises(durable_streams.StreamExistsError):
            DurableStream.create(url, content_type="text/plain")
        stream.append(1, seq="b")
        with pytest.raises(durable_streams.SeqConflictError):
            stream.append(2, seq="a")
        with pytest.raises(durable_streams.DurableStreamError) as bad:
            stream.stream(offset="made up", live=False)
        assert (bad.value.status, bad.value.code) == (400, "BAD_REQUEST")
        stream.delete()
        with pytest.raises(durable_streams.StreamNotFoundError):
            stream.append(3)


def test_what_is_no_longer_kept_is_told(server: ServerProcess) -> None:
    url = f"{server.base_url}/ds/python/trimmed"
    with DurableStream.create(url, content_type=JSON) as stream, Client(server) as plain:
        offset = stream.append(1).next_offset
        assert plain.request("PUT", f"/ds/python/trimmed/retention/{offset}").status == 204
        with pytest.raises(durable_streams.RetentionGoneError):
            stream.stream(live=False)


# ---- sections 5.7 and 5.8


@pytest.mark.parametrize("live", ["sse", "long-poll"])
def test_a_tail_of_json_resumes(url: str, live: Live) -> None:
    with DurableStream.create(url, content_type=JSON) as stream, ThreadPoolExecutor(1) as pool:
        saved = stream.append("old").next_offset

        def follow(count: int) -> list[Any]:
            with durable_streams.stream(url, offset=saved, live=live) as response:
                return list(islice(response.iter_json(), count))

        following = pool.submit(follow, 2)
        stream.append({"text": TEXT})
        stream.append([1, 2])
        assert following.result(PATIENCE_S) == [{"text": TEXT}, [1, 2]]

        with stream.stream(offset=saved, live=live) as response:
            seen: list[Any] = []
            for event in response.iter_events(mode="json_batches"):
                seen += event.data
                if len(seen) == 2:
                    break
            assert seen == [{"text": TEXT}, [1, 2]]
            assert event.next_offset == stream.head().offset


@pytest.mark.parametrize("live", ["sse", "long-poll"])
def test_a_tail_of_text(url: str, live: Live) -> None:
    with DurableStream.create(url, content_type="text/plain") as stream:
        stream.append(TEXT)
        with stream.stream(offset="-1", live=live) as response, ThreadPoolExecutor(1) as pool:

            def follow() -> str:
                seen = ""
                for text in response.iter_text():
                    seen += text
                    if len(seen) >= 2 * len(TEXT):
                        break
                return seen

            following = pool.submit(follow)
            stream.append(TEXT[::-1])
            assert following.result(PATIENCE_S) == TEXT + TEXT[::-1]


def test_a_live_read_ends_with_a_closed_stream(url: str, server: ServerProcess) -> None:
    """The client knows nothing of closing; the event stream it reads just ends (section 5.8)."""
    with DurableStream.create(url, content_type=JSON) as stream:
        stream.append("a")
        path = url.removeprefix(server.base_url)
        with Client(server) as plain:
            closed = plain.request("POST", path, None, {"Stream-Closed": "true"})
        assert closed.status == 204
        with stream.stream(offset="-1", live="sse") as response:
            assert list(response.iter_json()) == ["a"]


# ---- the asynchronous half, and a kill


def test_the_asynchronous_client(url: str) -> None:
    async def converse() -> None:
        async with await AsyncDurableStream.create(url, content_type=JSON) as stream:
            await asyncio.gather(*(stream.append(number) for number in range(50)))
            async with await stream.stream(live=False) as response:
                assert sorted(await response.read_json()) == list(range(50))
                saved = response.offset
            async with await stream.stream(offset=saved, live="sse") as response:
                await stream.append("live")
                async for item in response.iter_json():
                    assert item == "live"
                    break

    asyncio.run(converse())


@pytest.mark.parametrize("front", FRONTS)
def test_acknowledged_writes_survive_a_kill(tmp_path: Path, front: str) -> None:
    """What was told to be written is there after SIGKILL, and a saved offset still holds."""
    with serving(tmp_path / "data", front=front) as server:
        url = f"{server.base_url}/v1/stream/kills"
        with DurableStream.create(url, content_type=JSON) as stream:
            saved = stream.append("first").next_offset
            acknowledged = ["first"]
            for kill in range(3):
                for number in range(20):
                    acknowledged.append(f"{kill}.{number}")
                    stream.append(acknowledged[-1])
                server.kill()
                with pytest.raises(httpx.TransportError):
                    stream.append("nobody listens")
                server.start_in_place()
            assert read(url) == (acknowledged, stream.head().offset)
            assert read(url, saved)[0] == acknowledged[1:]
