"""A system with no thread left: 503 with ``Retry-After``, and nothing half done or left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypercorn.trio
import pytest
import trio
from hypercorn.config import Config
from trio._core import _thread_cache

import tailrace
from tailrace.threads import NoThread
from tailrace_server import broadcast
from tailrace_server.asgi import mount_app
from tailrace_server.fast import parked
from tailrace_server.threads import in_thread, in_thread_or_here
from tests.no_threads import no_threads as none_can_start
from tests.server.audience_support import batches, live_server
from tests.server.front_support import eventually
from tests.server.parked_support import all_taken, serving, taken
from tests.server.service_support import Client, Got
from tests.server.snapshots import snapshot_support as snapshots
from tests.server.streams.stream_support import at

SMALL = tailrace.Options(segment_bytes=tailrace.limits.SEGMENT_BYTES_MIN)
RECORDS = [f"{number}" + 20_000 * "x" for number in range(12)]
EVENTS = "/v1/sessions/s/events"


@contextmanager
def no_threads() -> Iterator[None]:
    """Nor do Trio's idle ones wait for work."""
    with pytest.MonkeyPatch.context() as patch, none_can_start():
        patch.setattr(_thread_cache, "THREAD_CACHE", _thread_cache.ThreadCache())
        yield


async def test_work_that_has_no_thread_is_not_begun_unless_it_must_be() -> None:
    limiter = trio.CapacityLimiter(1)
    with no_threads():
        with pytest.raises(NoThread) as raised:
            await in_thread(lambda: pytest.fail("begun"), limiter)
        assert raised.value.retry_after_s > 0
        assert await in_thread_or_here(lambda: "done", limiter) == "done"
    assert limiter.borrowed_tokens == 0
    assert await in_thread(lambda: "done", limiter) == "done"


async def test_what_work_raises_is_its_own() -> None:
    def work() -> None:
        raise RuntimeError("a defect")

    for call in (in_thread, in_thread_or_here):
        with pytest.raises(RuntimeError, match="a defect"):
            await call(work)


async def test_long_polls_that_must_read_from_disk_are_told_to_come_again(tmp_path: Path) -> None:
    """Those that wait in the front, and those that wait in a task."""
    async with serving(tmp_path, options=SMALL) as server:
        await server.make("a")
        for record in RECORDS:
            await server.append("a", record)
        assert not server.service.context.store.is_resident(("flat", "a"), 0)
        with no_threads():
            answers = await all_taken([await server.poll("a", "offset=-1") for _ in range(3)])
            alone = await server.client("GET", at("a") + "?offset=-1&live=long-poll")
            assert [answer.status for answer in answers] == [503, 503, 503]
            assert {answer.header("retry-after") for answer in answers} == {"1"}
            refused(alone)
            assert (server.figure("parked"), server.readers) == (0, 0)
            early = await server.poll("a")
            await server.parked(1)
            await server.append("a", "new")
            assert (await taken(early)).json() == ["new"]
        assert (await taken(await server.poll("a", "offset=-1"))).json() == [*RECORDS, "new"]


async def test_many_long_polls_are_answered_without_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parked, "_CALL_HANDLES_MAX", 0)
    async with serving(tmp_path) as server:
        await server.make("a")
        waiting = await server.polls(5, "a")
        with no_threads():
            await server.append("a", 1)
            assert [answer.json() for answer in await all_taken(waiting)] == 5 * [[1]]


async def test_an_audience_is_served_without_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "_CALL_MEMBERS_MAX", 0)
    async with live_server(tmp_path) as server:
        followers = await server.audience("a", 3)
        with no_threads():
            await server.append("a", 1)
            for follower in followers:
                await batches(follower.tail, 2)


def refused(answer: Got) -> None:
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.json["error"]["type"] == "overloaded_error"


async def test_what_a_handler_does_in_threads_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, options=SMALL) as server:
        client = server.client
        for record in RECORDS:
            event = {"type": "a", "text": record}
            assert (await client("POST", EVENTS, event)).status == 204
        await snapshots.numbers(client)
        large = b'{"type":"a"}' + 300_000 * b" "
        with no_threads():
            refused(await client("POST", EVENTS, large))
            refused(await client("GET", f"{EVENTS}?offset=-1"))
            refused(await client("GET", "/ds/sessions/s?offset=-1"))
            refused(await client("GET", f"{EVENTS}?offset=-1&live=sse"))
            refused(await client("GET", "/v1/search?q=x"))
            refused(await snapshots.put(client, 2))
        assert (await client("GET", "/v1/sessions/s")).json["event_count"] == len(RECORDS)
        assert snapshots.files(tmp_path) == 0
        assert (await client("POST", EVENTS, large)).status == 204
        assert (await snapshots.put(client, 2)).status == 204
        with no_threads():
            refused(await client("GET", snapshots.at(2)))
            refused(await client("GET", "/ds/demo/a/bootstrap"))


async def test_a_reader_that_falls_behind_is_told_to_come_again(tmp_path: Path) -> None:
    async with serving(tmp_path, options=SMALL) as server:
        await server.make("a")
        for record in RECORDS:
            await server.append("a", record)
        far = await far_follower(server.client)
        assert far.startswith("retry: ")


async def far_follower(client: Client) -> str:
    """The last frame that a reader from the start gets."""
    bridge = client.service.context.bridge
    read = bridge.read
    reads = 0

    async def counted(*arguments: object, **options: object) -> object:
        nonlocal reads
        reads += 1
        if reads == 1:  # what is done before the answer has begun
            return await read(*arguments, **options)  # type: ignore[arg-type]
        with no_threads():
            return await read(*arguments, **options)  # type: ignore[arg-type]

    bridge.read = counted  # type: ignore[method-assign, assignment]
    tail = await client.tail(at("a") + "?offset=-1&live=sse")
    await tail.end()
    return tail.frames()[-1]


async def test_a_mounted_store_is_closed_without_a_thread(tmp_path: Path) -> None:
    app = mount_app(tmp_path / "data")
    config = Config()
    config.bind, config.errorlog = ["127.0.0.1:0"], None
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: serve(app, config, stop, task_status))
        with no_threads():
            stop.set()
            await eventually(lambda: not nursery.child_tasks)
    tailrace.open(tmp_path / "data").close()  # unlocked again


async def serve(
    app: object, config: Config, stop: trio.Event, task_status: trio.TaskStatus[object]
) -> None:
    await hypercorn.trio.serve(
        app,  # type: ignore[arg-type]
        config,
        shutdown_trigger=stop.wait,
        task_status=task_status,
    )
