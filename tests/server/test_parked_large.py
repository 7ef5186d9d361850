"""Long-polls whose answers are large, or not taken (issue 4; protocol section 5.7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.front_support import eventually
from tests.server.parked_support import all_taken, poll_request, serving
from tests.server.streams.stream_support import at


@pytest.mark.parametrize(("size", "tasks"), [(40_000, 10), (400_000, 0)])
async def test_a_client_that_takes_nothing_costs_only_itself(
    tmp_path: Path, size: int, tasks: int
) -> None:
    """What is large stays where it stands until its client takes it."""
    async with serving(tmp_path, send_buffer=4096) as server:
        await server.make("a")
        stalled = [await server.poll("a", receive_buffer=2048) for _ in range(10)]
        await server.parked(10)
        quick = [await server.poll("a") for _ in range(10)]
        await server.parked(20)
        record = size * "x"
        await server.append("a", record)
        for answer in await all_taken(quick):
            assert answer.json() == [record]
        # Those get theirs when they care to read it.
        await eventually(lambda: server.figure("tasks") == tasks)
        for answer in await all_taken(stalled):
            assert answer.json() == [record]
        assert server.figure("handed_over") == tasks


@pytest.mark.parametrize("count", [1, 3, 40])
async def test_5_7_large_answers_need_no_task(tmp_path: Path, count: int) -> None:
    async with serving(tmp_path) as server:
        await server.make("a")
        record = 400_000 * "x"
        waiting = await server.polls(count, "a")
        await server.append("a", record)
        answers = [await client.answer() for client in waiting]
        assert all(answer.json() == [record] for answer in answers)
        assert all(answer.header("stream-next-offset") == "00000001" for answer in answers)
        # Their connections are as they were.
        for client in waiting:
            await client.send(poll_request(at("a")))
        await server.parked(count)
        await server.append("a", "small")
        assert all(answer.json() == ["small"] for answer in await all_taken(waiting))
        assert server.figure("parked_calls") == 2
        assert server.figure("handed_over") == 0
        await eventually(lambda: len(server.front._reactor.lent) == 0)


async def test_a_drain_lets_large_answers_be_taken(tmp_path: Path) -> None:
    async with serving(tmp_path, send_buffer=4096) as server:
        await server.make("a")
        slow = [await server.poll("a", receive_buffer=2048) for _ in range(3)]
        await server.parked(3)
        record = 400_000 * "x"
        await server.append("a", record)
        await eventually(lambda: len(server.front._reactor.lent) == 3)
        server.front.drain()
        for client in slow:
            assert (await client.answer()).json() == [record]
            assert await client.ended()
        await eventually(lambda: server.front.connections == 0)
