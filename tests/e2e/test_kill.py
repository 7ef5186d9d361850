"""SIGKILL at random moments under concurrent writers: what was acknowledged is there, once.

One data directory lives through all the kills of a test. Its log has small segments, so that
kills also meet segments being made, filled and sealed. After every restart what is on disk
is compared with what clients were told, event by event.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import tailrace
from tests.e2e.kill_clients import Follower, Janitor, Ledger, Plain, Producer, Sent, Worker
from tests.e2e.server_process import ServerProcess, serving, wait_until
from tests.e2e.wire import Client, events_path, read_all

pytestmark = pytest.mark.long

SEGMENT_BYTES: Final = 256 * 1024
SESSIONS: Final = ("one", "two", "three")
KILLS: Final = {"fast": 44, "hypercorn": 12}
RUN_S_MAX: Final = 0.3
OPENING_S: Final = 0.05
FIRST_STARTS: Final = 10

assert sum(KILLS.values()) >= 50


def has_the_lock(server: ServerProcess) -> bool:
    """Whether the running server has begun to open its directory: LOCK holds its number."""
    lock = server.data_dir / "LOCK"
    assert server.process is not None
    return lock.exists() and lock.read_text("ascii").strip() == str(server.process.pid)


class Campaign:
    """A server, its clients, and what they were promised."""

    def __init__(self, data_dir: Path, front: str, seed: int) -> None:
        with tailrace.open(data_dir, options=tailrace.Options(segment_bytes=SEGMENT_BYTES)):
            pass  # a directory keeps the segment size that it was made with
        self.random = random.Random(seed)
        self.server = ServerProcess(data_dir, front=front)
        self.ledger = Ledger()
        self.producers = [Producer(f"p{n}", SESSIONS[n % 3], self.ledger) for n in range(4)]
        self.plain = [Plain(f"w{n}", SESSIONS[n % 3], self.ledger) for n in range(4)]
        self.janitor = Janitor(self.ledger)
        self.follower = Follower(SESSIONS[0], self.ledger)
        self.kills = 0
        self.start_s = 0.0

    def kill(self) -> None:
        process = self.server.process
        assert process is not None
        self.kills += process.poll() is None  # one that has stopped by itself does not count
        self.server.kill()

    def kill_while_starting(self) -> None:
        """A recovery that is cut short, at any point of it, is recovered from."""
        self.server.launch()
        if self.random.random() < 0.3:
            time.sleep(self.start_s * self.random.uniform(0.3, 1.1))
        else:
            wait_until(lambda: has_the_lock(self.server), "the directory to be taken")
            time.sleep(self.random.uniform(0.0, OPENING_S))
        self.kill()

    def run_until_killed(self, *, stopping: bool) -> None:
        """Everybody at work; then the kill, of a server that is perhaps already stopping."""
        clients: list[Worker] = [*self.producers, *self.plain, self.janitor, self.follower]
        stop = threading.Event()
        threads = []
        for client in clients:
            seed = self.random.getrandbits(32)
            arguments = (self.server, random.Random(seed), stop)
            threads.append(threading.Thread(target=client.work, args=arguments, name=client.name))
        for thread in threads:
            thread.start()
        time.sleep(self.random.uniform(0.0, RUN_S_MAX))
        if stopping:
            self.server.ask_to_stop()
            time.sleep(self.random.uniform(0.0, 0.1))
        self.kill()
        stop.set()
        for thread in threads:
            thread.join()
        for client in clients:
            assert client.failure is None, client.failure

    def compare(self) -> None:
        """What is on disk with what was acknowledged; then the producers' retries."""
        with Client(self.server) as client:
            for session in SESSIONS:
                self.ledger.check_new(session, client)
            self.janitor.check(client)
            for producer in self.producers:
                producer.retry(client)
            for session in SESSIONS:
                self.ledger.check_new(session, client)
                for event in self.ledger.sample(session, self.random, 2):
                    reply = client.get(f"{events_path(session)}?q={event['word']}")
                    assert reply.status == 200, reply
                    assert [hit["offset"] for hit in reply.json()["data"]] == [event["offset"]]
        assert "Traceback" not in self.server.logs(), self.server.logs()

    def was_worth_it(self, kills: int) -> bool:
        """Whether enough was acknowledged, left without an answer, asked again and followed."""
        ledger = self.ledger
        unknown = ledger.unknown_stored + ledger.unknown_lost
        enough = ledger.acknowledged > 10 * kills
        return bool(enough and unknown and ledger.retried and self.follower.seen)


@pytest.mark.timeout(900)  # a hundred starts of a process take what they take
@pytest.mark.parametrize("front", KILLS)
def test_acknowledged_events_survive_kills(front: str, tmp_path: Path) -> None:
    campaign = Campaign(tmp_path / "data", front, seed=len(front))
    rounds = stops = 0
    try:
        campaign.start_s = campaign.server.start()
        # On a slow machine it takes more rounds to do what it is for.
        while campaign.kills < KILLS[front] or not campaign.was_worth_it(KILLS[front]):
            rounds += 1
            assert rounds <= 10 * KILLS[front], "nothing ever happens"
            campaign.run_until_killed(stopping=campaign.random.random() < 0.2)
            if campaign.random.random() < 0.35:
                campaign.kill_while_starting()
            campaign.start_s = (campaign.start_s + campaign.server.start()) / 2
            campaign.compare()
            if rounds % 10 == 0:  # a clean stop between: it leaves a checkpoint
                assert campaign.server.terminate() == 0
                stops += 1
                campaign.server.start()
        ledger = campaign.ledger
        # Nothing that was checked on the way has changed since.
        with Client(campaign.server) as client:
            for session in SESSIONS:
                assert read_all(client, session) == ledger.stored.get(session, [])
    finally:
        campaign.server.kill()
    report = tailrace.check(tmp_path / "data")
    assert not [damage for damage in report.damages if damage.acknowledged]
    assert stops or front != "fast"
    assert report.segments > 1


def test_a_first_start_that_is_killed_leaves_a_usable_directory(tmp_path: Path) -> None:
    choice = random.Random(0)
    for turn in range(FIRST_STARTS):
        server = ServerProcess(tmp_path / str(turn))
        try:
            server.launch()
            wait_until(server.data_dir.exists, "the directory to be made")
            time.sleep(choice.uniform(0.0, OPENING_S))
        finally:
            server.kill()
        with serving(server.data_dir) as again, Client(again) as client:
            assert client.post(events_path("s"), {"type": "a"}).status == 204
            assert [event["type"] for event in read_all(client, "s")] == ["a"]


Stored = list[dict[str, Any]]


def lose_an_acknowledged_event(stored: Stored) -> None:
    del stored[0]


def move_an_acknowledged_event(stored: Stored) -> None:
    stored[0], stored[1:4] = stored[3], stored[0:3]


def store_half_a_request(stored: Stored) -> None:
    del stored[2]


def store_twice(stored: Stored) -> None:
    stored.append(stored[-1])


def store_what_nobody_sent(stored: Stored) -> None:
    stored.append({**stored[-1], "number": 77})


def change_an_event(stored: Stored) -> None:
    stored[0]["text"] = "changed"


def swap_within_a_request(stored: Stored) -> None:
    stored[1], stored[2] = stored[2], stored[1]


def store_a_refused_request(stored: Stored) -> None:
    stored.append(made("w", 3, 0))


def store_out_of_order(stored: Stored) -> None:
    stored[3:] = [made("w", 4, 0), stored[3]]


def repeat_an_id(stored: Stored) -> None:
    stored[2]["id"] = stored[1]["id"]


def lose_what_was_shown(stored: Stored) -> None:
    del stored[3]


def made(writer: str, number: int, index: int) -> dict[str, Any]:
    return {"writer": writer, "number": number, "index": index, "text": f"{number}.{index}"}


def stored_and_ledger() -> tuple[Stored, Ledger]:
    """A log that agrees with its ledger: one acknowledged event, a pair, one of unknown outcome."""
    ledger = Ledger()
    requests = [[made("w", 0, 0)], [made("w", 1, 0), made("w", 1, 1)], [made("w", 2, 0)]]
    for number, events in enumerate(requests):
        ledger.note("w", number, Sent("s", events))
    ledger.note("w", 3, Sent("s", [made("w", 3, 0)], refused=True))
    ledger.note("w", 4, Sent("s", [made("w", 4, 0)]))
    ledger.sent[("w", 0)].acknowledge(1)
    stored = [dict(event) for events in requests for event in events]
    number_them(stored)
    ledger.seen_live["s"].append(dict(stored[3]))
    return stored, ledger


def number_them(stored: Stored) -> None:
    for offset, event in enumerate(stored):
        event |= {"offset": f"{offset:08d}", "id": event.get("id", f"evt_{offset}")}


def test_the_ledger_accepts_what_agrees() -> None:
    stored, ledger = stored_and_ledger()
    ledger.check("s", stored)
    assert (ledger.unknown_stored, ledger.unknown_lost) == (2, 1)


@pytest.mark.parametrize(
    "spoil",
    [
        lose_an_acknowledged_event,
        move_an_acknowledged_event,
        store_half_a_request,
        store_twice,
        store_what_nobody_sent,
        change_an_event,
        swap_within_a_request,
        store_a_refused_request,
        store_out_of_order,
        repeat_an_id,
        lose_what_was_shown,
    ],
)
def test_the_ledger_objects(spoil: Callable[[Stored], None]) -> None:
    stored, ledger = stored_and_ledger()
    spoil(stored)
    number_them(stored)
    with pytest.raises(AssertionError):
        ledger.check("s", stored)
