"""Many clients make the same new session at once: each first append succeeds, in an order."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.server_process import FRONTS, ServerProcess, serving
from tests.e2e.wire import Client, Reply, events_path, read_all

WRITERS: Final = 50
ROUNDS: Final = 5


def race(server: ServerProcess, session: str, count: int) -> list[Reply]:
    """The answers to one append of each writer; all of them are sent at the same moment."""
    barrier = threading.Barrier(WRITERS)

    def write(number: int) -> Reply:
        with Client(server) as client:
            assert client.get("/healthz").status == 200  # connected before the race
            barrier.wait()
            events = [{"type": "first", "writer": number, "index": n} for n in range(count)]
            return client.post(events_path(session), events)

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(write, range(WRITERS)))


@pytest.mark.parametrize("front", FRONTS)
def test_fifty_first_appends_at_once(front: str, tmp_path: Path) -> None:
    with serving(tmp_path / "data", front=front) as server:
        for turn in range(ROUNDS):
            session, count = f"new-{turn}", 1 + turn % 3
            replies = race(server, session, count)
            assert [reply.status for reply in replies] == [204] * WRITERS
            ends = [reply.next_offset for reply in replies]
            assert sorted(ends) == list(range(count, count * WRITERS + 1, count))
            with Client(server) as client:
                events = read_all(client, session)
            assert [event["offset"] for event in events] == [
                f"{offset:08d}" for offset in range(count * WRITERS)
            ]
            for writer, end in enumerate(ends):
                own = events[end - count : end]
                assert [(event["writer"], event["index"]) for event in own] == [
                    (writer, index) for index in range(count)
                ]
            ids = [event["id"] for event in events]
            assert ids == sorted(set(ids))


@pytest.mark.parametrize("front", FRONTS)
def test_the_answer_is_never_ahead_of_what_is_read(front: str, tmp_path: Path) -> None:
    """Who was answered finds its event at once, at its offset, whatever others do meanwhile."""
    with serving(tmp_path / "data", front=front) as server:

        def write_and_read(number: int) -> None:
            with Client(server) as client:
                for turn in range(20):
                    sent = {"type": "own", "writer": number, "turn": turn}
                    offset = client.post(events_path("shared"), sent).next_offset - 1
                    page = client.get(f"{events_path('shared')}?offset={offset:08d}&limit=1")
                    (event,) = page.json()["data"]
                    assert {name: event[name] for name in sent} == sent
                    # Stream-Next-Offset is where the body ends, not somewhere behind it.
                    assert page.next_offset == offset + 1

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write_and_read, range(8)))
