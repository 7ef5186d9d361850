"""Both fronts: what the bodies of all requests hold together (BodyBudget)."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tailrace
from tailrace.errors import Overloaded
from tailrace_server.body import SMALL_BODY_BYTES, BodyBudget, BodyShare
from tailrace_server.config import ServiceConfig
from tailrace_server.context import Answer, Call, Context
from tailrace_server.front import FrontLimits
from tailrace_server.keys import KeyRing
from tailrace_server.protocol.message import Request
from tailrace_server.routes import Route
from tailrace_server.service import Service
from tests.server.front_support import FRONTS, Running, eventually, running

both = pytest.mark.parametrize("kind", FRONTS)
LARGE = 100_000
LIMITS = FrontLimits(bodies_bytes_max=250_000, linger_s=0.3)


def head(length: int | None, path: str = "/wait") -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode()


def held(server: Running) -> int:
    return server.front.bodies.held


@both
async def test_a_body_without_room_is_a_503_before_it_is_read(kind: str) -> None:
    async with running(kind, LIMITS) as server:
        async with await server.connect() as first, await server.connect() as second:
            await first.send(head(LARGE) + b"x")
            await second.send(head(LARGE) + b"x" * LARGE)
            await eventually(lambda: held(server) == 2 * LARGE)
            async with await server.connect() as third:
                await third.send(head(LARGE))
                answer = await third.answer()
                assert answer.status == 503
                assert answer.header("retry-after") is not None
                assert answer.json()["error"]["type"] == "overloaded_error"  # type: ignore[index]
            # Small ones pass, whatever others hold.
            small = await server.ask(head(1000, "/small") + b"x" * 1000)
            assert small.status == 200
            # What was let in comes to its end, and makes room.
            await first.send(b"x" * (LARGE - 1))
            server.service.release.set()
            for client in (first, second):
                assert (await client.answer()).body == b"released"
            await eventually(lambda: held(server) == 0)
            assert (await server.ask(head(LARGE) + b"x" * LARGE)).status == 200


@both
async def test_small_bodies_count_too(kind: str) -> None:
    small = SMALL_BODY_BYTES - 4000
    async with running(kind, LIMITS) as server:
        whole = head(small) + b"x" * small
        clients = [await server.connect() for _ in range(4)]
        for number, client in enumerate(clients, 1):
            await client.send(whole if number % 2 else whole[:-1000])
            await eventually(lambda want=number * small: held(server) == want)  # type: ignore[misc]
        assert held(server) + small > LIMITS.bodies_bytes_max
        for path in ("/wait", "/shown"):
            refused = await server.ask(head(small, path) + b"x" * small)
            assert (refused.status, refused.header("retry-after")) == (503, "1")
        assert (await server.ask(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n")).status == 204
        server.service.release.set()
        for number, client in enumerate(clients, 1):
            await client.send(b"" if number % 2 else b"x" * 1000)
            assert (await client.answer()).body == b"released"
            await client.stream.aclose()
        await eventually(lambda: held(server) == 0)
        assert (await server.ask(head(small, "/shown") + b"x" * small)).status == 200


@both
async def test_large_bodies_leave_room_for_small_ones(kind: str) -> None:
    async with running(kind, FrontLimits(bodies_bytes_max=800_000)) as server:
        async with await server.connect() as client:
            await client.send(head(650_000))
            await eventually(lambda: held(server) == 650_000)
            assert (await server.ask(head(LARGE) + b"x")).status == 503
            for _ in range(3):
                answer = await server.ask(head(60_000, "/small") + b"x" * 60_000)
                assert answer.status == 200
                await eventually(lambda: held(server) == 650_000)


@both
async def test_a_body_of_unknown_length_holds_what_came_of_it(kind: str) -> None:
    async with running(kind, LIMITS) as server:
        async with await server.connect() as first, await server.connect() as second:
            await first.send(head(2 * LARGE))
            await eventually(lambda: held(server) == 2 * LARGE)
            await second.send(head(None) + b"1000000\r\n" + b"x" * 1000)
            await eventually(lambda: held(server) == 2 * LARGE + 1000)
            await second.send(b"x" * LARGE)
            assert (await second.answer()).status == 503
            await eventually(lambda: held(server) == 2 * LARGE)


@both
async def test_a_body_that_is_alone_finds_room(kind: str) -> None:
    async with running(kind, LIMITS) as server:
        assert (await server.ask(head(LARGE * 10, "/x") + b"x" * LARGE * 10)).status == 200
        chunk = b"%x\r\n" % (LARGE * 10) + b"x" * LARGE * 10 + b"\r\n0\r\n\r\n"
        assert (await server.ask(head(None, "/x") + chunk)).status == 200
        await eventually(lambda: held(server) == 0)


@both
async def test_those_who_leave_make_room(kind: str) -> None:
    async with running(kind, LIMITS) as server:
        for _ in range(5):
            async with await server.connect() as client:
                await client.send(head(LARGE * 2) + b"x" * 1000)
                await eventually(lambda: held(server) == 2 * LARGE)
            await eventually(lambda: held(server) == 0)


@both
async def test_a_streamed_body_holds_nothing(kind: str) -> None:
    async with running(kind, LIMITS) as server, await server.connect() as client:
        await client.send(head(LARGE * 10, "/streamed/count") + b"x" * LARGE * 9)
        await eventually(lambda: server.service.bodies.received >= LARGE * 9)
        assert held(server) == 0
        await client.send(b"x" * LARGE)
        assert (await client.answer()).status == 200


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 4 * SMALL_BODY_BYTES)))
    )
)
def test_the_sum_is_held_and_given_back(steps: list[tuple[int, int | None]]) -> None:
    budget = BodyBudget(6 * SMALL_BODY_BYTES, lambda: 3000)
    shares = [BodyShare(budget) for _ in range(4)]
    wants = [0] * 4
    for index, wanted in steps:
        if wanted is None:
            shares[index].release()
            wants[index] = 0
        else:
            others = budget.held - wants[index]
            if shares[index].grow(wanted):
                wants[index] = max(wants[index], wanted)
                assert wanted <= SMALL_BODY_BYTES or others <= 6 * SMALL_BODY_BYTES * 7 // 8
            else:
                assert others + wanted > 6 * SMALL_BODY_BYTES * 7 // 8
        assert budget.held == 3000 + sum(wants) <= budget.bytes_max
        assert budget.room_elsewhere == budget.bytes_max - sum(wants)
    for share in shares:
        share.release()
    assert budget.held == 3000


async def test_an_error_does_not_keep_its_request(tmp_path: Path) -> None:
    """A refused body of 16 MiB must not wait for the collector."""

    class Body(list[int]):
        pass

    async def refuse(context: Context, call: Call) -> Answer:
        body = Body()
        assert not body
        error = Overloaded("no room", retry_after_s=1)
        raise error

    with tailrace.open(tmp_path) as store:
        route = Route("POST", "/full", refuse)
        service = Service(store, ServiceConfig(), KeyRing(), (route,))
        gc.collect()
        gc.disable()
        try:
            assert (await service.handle(Request("POST", "/full", "", (), b""))).status == 503
            assert not [found for found in gc.get_objects() if isinstance(found, Body)]
        finally:
            gc.enable()
