"""The application under an ASGI server that is not ours: Hypercorn as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import hypercorn.asyncio
import hypercorn.trio
import pytest
import trio
from h2.exceptions import InvalidBodyLengthError
from hypercorn.config import Config
from hypercorn.middleware.dispatcher import TrioDispatcherMiddleware
from hypercorn.utils import LifespanFailureError

import tailrace
from tailrace_server.asgi import NEEDS_TRIO, create_app, mount_app
from tailrace_server.live import CutOff
from tests.server.front_support import GET, RawClient, ServiceDouble, Truncated
from tests.server.http2_support import answer_with, frames_of

PATH = "/v1/sessions/s/events"
EVENT = {"type": "a", "text": "hello"}
WHYS = pytest.mark.parametrize("why", [CutOff(), RuntimeError("a defect")])


def config() -> Config:
    made = Config()
    made.bind = ["127.0.0.1:0"]
    made.errorlog = None
    made.keep_alive_timeout = 0.3
    return made


@asynccontextmanager
async def under_hypercorn(app: Any) -> AsyncIterator[str]:
    """The address at which it serves."""
    stop = trio.Event()
    serve = partial(hypercorn.trio.serve, app, config(), shutdown_trigger=stop.wait)
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(serve)
        yield url
        stop.set()


@asynccontextmanager
async def cutting(why: Exception, length: int | None) -> AsyncIterator[int]:
    """The port of a server whose answer to ``/cut`` breaks off after 40,000 bytes."""
    service = ServiceDouble()
    answer_with(service, 40, why, length)
    async with under_hypercorn(create_app(service)) as url:
        yield int(url.rpartition(":")[2])


async def test_at_a_prefix_with_the_life_cycle_of_its_server(tmp_path: Path) -> None:
    for count in (1, 2):
        app = mount_app(tmp_path / "data", api_keys=["k"])
        async with under_hypercorn(TrioDispatcherMiddleware({"/streams": app})) as url:
            headers = {"x-api-key": "k"}
            async with httpx.AsyncClient(base_url=f"{url}/streams", headers=headers) as client:
                assert (await client.post(PATH, json=EVENT)).status_code == 204
                assert len((await client.get(PATH)).json()["data"]) == count
                assert (await client.get("/v1/sessions/a%2Fb")).status_code == 404
                assert (await client.get(PATH, headers={"x-api-key": "x"})).status_code == 401
        with tailrace.open(tmp_path / "data") as store:  # unlocked again
            assert store.head(("sessions", "s")).tail == count


@WHYS
@pytest.mark.parametrize("length", [None, 50_000])
async def test_over_http_1_an_answer_that_cannot_be_finished_is_cut_off(
    why: Exception, length: int | None
) -> None:
    async with cutting(why, length) as port:
        async with RawClient(await trio.open_tcp_stream("127.0.0.1", port)) as client:
            await client.send(GET % b"cut")
            with pytest.raises(Truncated):
                await client.answer()


@WHYS
async def test_over_http_2_one_of_known_length_is_malformed_rfc_9113_section_8_1_1(
    why: Exception,
) -> None:
    async with cutting(why, 50_000) as port, frames_of(port) as client:
        with pytest.raises(InvalidBodyLengthError):
            await client.over(await client.ask(b"/cut"))


@WHYS
async def test_over_http_2_one_of_unknown_length_is_not_ended(why: Exception) -> None:
    """Hypercorn has no reset to offer: its connection ends when it has been idle."""
    async with cutting(why, None) as port, frames_of(port) as client:
        frames = await client.ask(b"/cut")
        await client.ends()
        assert (frames.status, len(frames.body), frames.over) == (200, 40_000, False)


def test_a_server_without_trio_is_told_so_and_opens_nothing(tmp_path: Path) -> None:
    async def serve() -> None:
        stop = asyncio.Event()
        app = mount_app(tmp_path / "data")
        await hypercorn.asyncio.serve(app, config(), shutdown_trigger=stop.wait)

    with pytest.raises(LifespanFailureError, match=NEEDS_TRIO):
        asyncio.run(serve())
    assert not (tmp_path / "data").exists()
