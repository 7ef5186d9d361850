"""How live readers over real sockets are ended by time, a stop or a limit, and go on elsewhere."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.server_process import FRONTS, serving, wait_until
from tests.e2e.wire import (
    LIVE_READERS,
    SSE,
    Client,
    EventSource,
    events_of,
    events_path,
    follow,
    gauge,
)


@pytest.mark.parametrize("front", FRONTS)
def test_heartbeat_and_lifetime(front: str, tmp_path: Path) -> None:
    options = ("--sse-heartbeat", "0.05", "--sse-lifetime", "1")
    with serving(tmp_path / "data", *options, front=front) as server, Client(server) as client:
        client.post(events_path("s"), {"type": "a"})

        def heartbeats_came(path: str) -> bool:
            """In the lifetime of a connection, unless the machine let the server do nothing."""
            with EventSource(server, events_path("s") + path) as source:
                messages = list(source)  # heartbeats do not keep it beyond its lifetime
                assert source.ended
            assert [m for m in messages if m.event != "control"] == []
            (retry_ms,) = source.parser.retries
            assert 0 < retry_ms < 10_000
            return source.parser.comments.count("heartbeat") >= 3

        for path in (f"?{SSE}", "/stream"):
            wait_until(lambda path=path: heartbeats_came(path), "heartbeats")  # type: ignore[misc]
        # One that is written to all the time ends too, and the next one goes on behind it.
        with EventSource(server, f"{events_path('s')}?{SSE}") as source:
            stop = threading.Event()

            def write() -> None:
                with Client(server) as writer:
                    while not stop.wait(0.01):
                        writer.post(events_path("s"), {"type": "b"})

            with ThreadPoolExecutor(1) as pool:
                written = pool.submit(write)
                try:
                    messages = list(source)
                finally:
                    stop.set()
                written.result(30)
            assert source.ended
        found = [e["offset"] for m in messages if m.event == "data" for e in events_of(m)]
        assert found == [f"{n:08d}" for n in range(1, 1 + len(found))]
        client.post(events_path("s"), {"type": "c"})
        again = {"Last-Event-ID": messages[-1].id}
        with EventSource(server, f"{events_path('s')}?live=sse", again) as source:
            more = follow(source, 1)
            assert int(more[0]["offset"]) == len(found) + 1


@pytest.mark.parametrize("front", FRONTS)
def test_a_graceful_stop_ends_live_readers_cleanly(front: str, tmp_path: Path) -> None:
    with serving(tmp_path / "data", front=front) as server:
        with Client(server) as client:
            client.post(events_path("s"), {"type": "a", "n": 0})
            sources = [EventSource(server, f"{events_path('s')}?{SSE}") for _ in range(10)]
            for source in sources:
                source.control()
            messages = EventSource(server, f"{events_path('s')}/stream")
            with ThreadPoolExecutor(1) as pool, Client(server) as poller:
                path = f"{events_path('s')}?offset=now&live=long-poll"
                polled = pool.submit(poller.get, path)
                wait_until(lambda: gauge(client, LIVE_READERS) == 12, "everybody to wait")
                client.post(events_path("s"), {"type": "b", "n": 1})
                assert polled.result(30).status == 200
                polled = pool.submit(poller.get, f"{events_path('s')}?offset=now&live=long-poll")
                wait_until(lambda: gauge(client, LIVE_READERS) == 12, "everybody to wait again")
                server.ask_to_stop()
                # Each is told the end in its own way, and no connection is cut.
                reply = polled.result(30)
                assert reply.status == 204
                assert reply.headers["stream-up-to-date"] == "true"
            for source in sources:
                received = list(source)
                assert source.ended
                assert source.parser.retries
                data = [e for m in received if m.event == "data" for e in events_of(m)]
                assert [event["n"] for event in data] == [1]
            assert [message.json()["n"] for message in messages] == [1]
            assert messages.ended
            messages.close()
            for source in sources:
                source.close()
        assert server.wait_end() == 0
        assert "cut off" not in server.logs()
        server.start()
        with Client(server) as client:
            assert [e["n"] for e in client.get(events_path("s")).json()["data"]] == [0, 1]


@pytest.mark.parametrize("front", FRONTS)
def test_at_capacity_newcomers_wait_and_nobody_is_evicted(front: str, tmp_path: Path) -> None:
    options = ("--max-live-readers", "2")
    with serving(tmp_path / "data", *options, front=front) as server, Client(server) as client:
        client.post(events_path("s"), {"type": "a"})
        path = f"{events_path('s')}?{SSE}"
        with EventSource(server, path) as first, EventSource(server, path) as second:
            first.control()
            second.control()
            for refused in (path, f"{events_path('s')}?offset=now&live=long-poll"):
                reply = client.get(refused)
                assert reply.status == 503
                assert int(reply.headers["retry-after"]) >= 1
                assert reply.json()["error"]["type"] == "overloaded_error"
            client.post(events_path("s"), {"type": "b"})
            for source in (first, second):
                assert [event["type"] for event in follow(source, 1)] == ["b"]
        wait_until(lambda: gauge(client, LIVE_READERS) == 0, "room for others")
        with EventSource(server, path) as third:
            third.control()
