"""Clients that live through kills of the server, and the ledger of what they were told."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final, Protocol

from tests.e2e.server_process import ServerProcess
from tests.e2e.wire import Client, EventSource, Reply, events_path, read_all

GONE: Final = (OSError, HTTPException)
"""What a client sees of a server that was killed."""
EVENTS_MAX: Final = 6
PADDING_MAX: Final = 2000


@dataclass(slots=True)
class Sent:
    """One append request: its events, and the first offset if it was acknowledged."""

    session: str
    events: list[dict[str, Any]]
    offset: int | None = None
    acknowledged: bool = False
    refused: bool = False
    found: bool = False

    def acknowledge(self, next_offset: int) -> None:
        self.offset = next_offset - len(self.events)
        self.acknowledged = True


@dataclass(slots=True)
class Ledger:
    """All that was sent, all that was acknowledged, and all that was found to be stored."""

    sent: dict[tuple[str, int], Sent] = field(default_factory=dict)
    stored: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    waiting: dict[str, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    last_of_writer: dict[str, int] = field(default_factory=dict)
    seen_live: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    acknowledged: int = 0
    unknown_stored: int = 0
    unknown_lost: int = 0
    retried: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, writer: str, number: int, sent: Sent) -> None:
        """A request is about to be sent."""
        with self.lock:
            self.sent[(writer, number)] = sent
            self.waiting[sent.session].append((writer, number))

    def check_new(self, session: str, client: Client) -> None:
        """Read what was stored since the last check, and check it."""
        known = self.stored.setdefault(session, [])
        if not known and client.get(events_path(session)).status == 404:
            self.check(session, [])
        else:
            self.check(session, read_all(client, session, len(known)))

    def check(self, session: str, new: Sequence[dict[str, Any]]) -> None:
        """Compare events stored since the last check with what was sent since then.

        Requests of unknown outcome may be there or not, but whole; everything acknowledged
        is there, once, where it was said to be.
        """
        known = self.stored.setdefault(session, [])
        at = 0
        while at < len(new):
            at += self._check_request(session, new, at)
        known += new
        ids = [event["id"] for event in known[-len(new) - 1 :]]
        assert ids == sorted(set(ids)), "ids grow within a session"
        for name in self.waiting.pop(session, []):
            sent = self.sent[name]
            assert sent.found or not sent.acknowledged, f"acknowledged, but lost: {name}"
            if not sent.acknowledged and not sent.refused:
                self.unknown_stored += sent.found
                self.unknown_lost += not sent.found
            if not sent.found:
                # It must not turn up later; a retry is noted again.
                del self.sent[name]
        for event in self.seen_live.pop(session, []):
            at = int(event["offset"])
            assert known[at : at + 1] == [event], "a live reader saw what is not stored"

    def _check_request(self, session: str, new: Sequence[dict[str, Any]], at: int) -> int:
        """Check the request whose first event is ``new[at]``; the number of its events."""
        base = len(self.stored[session])
        name = (new[at]["writer"], new[at]["number"])
        sent = self.sent.get(name)
        assert sent is not None, f"nobody sent this, or it was lost before: {new[at]}"
        assert not sent.found, f"stored twice: {name}"
        assert sent.session == session
        assert not sent.refused, f"refused, and stored all the same: {name}"
        found = new[at : at + len(sent.events)]
        assert len(found) == len(sent.events), f"stored by half: {name}"
        for index, (event, wanted) in enumerate(zip(found, sent.events, strict=True)):
            assert {key: event[key] for key in wanted} == wanted
            assert event["offset"] == f"{base + at + index:08d}"
        assert sent.offset in (None, base + at), f"acknowledged at another offset: {name}"
        writer, number = name
        assert self.last_of_writer.get(writer, -1) < number, f"out of order: {name}"
        self.last_of_writer[writer] = number
        sent.found = True
        return len(found)

    def sample(self, session: str, choice: random.Random, count: int) -> list[dict[str, Any]]:
        stored = self.stored[session]
        return choice.sample(stored, min(count, len(stored)))


class Worker(Protocol):
    """A client that works in a thread until the server is gone."""

    name: str
    failure: BaseException | None

    def work(self, server: ServerProcess, choice: random.Random, stop: threading.Event) -> None: ...


class _Writer:
    """What both kinds of writers are. ``number`` counts the requests of this writer."""

    def __init__(self, name: str, session: str, ledger: Ledger) -> None:
        self.name = name
        self.session = session
        self.ledger = ledger
        self.number = 0
        self.failure: BaseException | None = None

    def work(self, server: ServerProcess, choice: random.Random, stop: threading.Event) -> None:
        try:
            with Client(server) as client:
                while not stop.is_set():
                    self.send_one(client, choice)
        except GONE:
            pass  # the kill
        except BaseException as error:  # handed to the test's thread
            self.failure = error

    def send_one(self, client: Client, choice: random.Random) -> None:
        raise NotImplementedError

    def make(self, choice: random.Random) -> Sent:
        """The next request, with words that stand in no other event."""
        number = self.number
        self.number += 1
        count = choice.choice((1, 1, 1, EVENTS_MAX))
        events = [
            {
                "type": "kill.test",
                "writer": self.name,
                "number": number,
                "index": index,
                "word": f"word{self.name}x{number}x{index}",
                "padding": "." * choice.randrange(PADDING_MAX),
            }
            for index in range(count)
        ]
        sent = Sent(self.session, events)
        self.ledger.note(self.name, number, sent)
        return sent

    def acknowledge(self, sent: Sent, reply: Reply) -> None:
        sent.acknowledge(reply.next_offset)
        self.ledger.acknowledged += 1


class Plain(_Writer):
    """Sends each request once, and never learns what became of the last one."""

    def send_one(self, client: Client, choice: random.Random) -> None:
        sent = self.make(choice)
        reply = client.post(events_path(sent.session), sent.events)
        if reply.status == 503:
            sent.refused = True  # the server is stopping
            return
        assert reply.status == 204, reply
        self.acknowledge(sent, reply)


class Producer(_Writer):
    """An idempotent producer: after a restart it sends again what may have been lost."""

    def __init__(self, name: str, session: str, ledger: Ledger) -> None:
        super().__init__(name, session, ledger)
        self.epoch = 0
        self.seq = 0
        self.pending: Sent | None = None
        self.last: Sent | None = None

    def send_one(self, client: Client, choice: random.Random) -> None:
        if self.pending is not None:
            # Refused by a server that is stopping; the next one will take it.
            raise ConnectionError("the server is stopping")
        if self.seq and choice.random() < 0.05:
            self.epoch, self.seq = self.epoch + 1, 0
            self.last = None
        sent = self.pending = self.make(choice)
        reply = self._post(client, sent, self.seq)
        if reply.status == 503:
            sent.refused = True
            return
        assert reply.status == 200, reply
        self._done(sent, reply)

    def retry(self, client: Client) -> None:
        """After a restart, and after the ledger's check: once more what is pending, and the last.

        The answer says whether the first try was stored, and what is stored decides.
        """
        if self.last is not None:
            again = self._post(client, self.last, self.seq - 1)
            assert again.status == 204, (self.name, again)
        sent = self.pending
        if sent is None:
            return
        self.ledger.retried += 1
        number = self.number - 1
        stored_before = sent.found
        if not stored_before:
            sent.refused = False
            self.ledger.note(self.name, number, sent)
        reply = self._post(client, sent, self.seq)
        assert reply.status == (204 if stored_before else 200), (self.name, stored_before, reply)
        if stored_before:
            self.pending, self.last = None, sent
            self.seq += 1
        else:
            self._done(sent, reply)

    def _done(self, sent: Sent, reply: Reply) -> None:
        self.acknowledge(sent, reply)
        self.pending, self.last = None, sent
        self.seq += 1

    def _post(self, client: Client, sent: Sent, seq: int) -> Reply:
        producer = {
            "Producer-Id": self.name,
            "Producer-Epoch": str(self.epoch),
            "Producer-Seq": str(seq),
        }
        return client.post(events_path(sent.session), sent.events, producer)


class Janitor:
    """Makes sessions, closes some, deletes some; what was answered stays so."""

    name = "janitor"

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.failure: BaseException | None = None
        self.number = 0
        self.states: dict[str, frozenset[str]] = {}

    def work(self, server: ServerProcess, choice: random.Random, stop: threading.Event) -> None:
        try:
            with Client(server) as client:
                while not stop.is_set():
                    self._one(client, choice)
        except GONE:
            pass  # the kill
        except BaseException as error:  # handed to the test's thread
            self.failure = error

    def _one(self, client: Client, choice: random.Random) -> None:
        session = f"temporary-{self.number}"
        self.number += 1
        steps = choice.choice((("open",), ("open", "closed"), ("open", "closed", "absent"),
                               ("open", "absent")))  # fmt: skip
        state = "absent"
        for step in steps:
            self.states[session] = frozenset((state, step))
            reply = self._do(client, session, step)
            if reply.status == 503:
                return
            assert reply.status == 204, (session, step, reply)
            self.states[session] = frozenset((step,))
            state = step

    def _do(self, client: Client, session: str, step: str) -> Reply:
        if step == "open":
            return client.post(events_path(session), {"type": "temporary"})
        if step == "closed":
            return client.request("POST", events_path(session), None, {"Stream-Closed": "true"})
        return client.request("DELETE", f"/v1/sessions/{session}")

    def check(self, client: Client) -> None:
        """Every session is in a state it may be in; from now on in that one alone."""
        for session, allowed in self.states.items():
            reply = client.request("HEAD", events_path(session))
            if reply.status == 404:
                state = "absent"
            else:
                assert reply.status == 200, reply
                assert reply.next_offset == 1
                state = "closed" if reply.headers.get("stream-closed") == "true" else "open"
            assert state in allowed, (session, state, allowed)
            self.states[session] = frozenset((state,))


class Follower:
    """A live reader: what it was shown must be durable."""

    name = "follower"

    def __init__(self, session: str, ledger: Ledger) -> None:
        self.session = session
        self.ledger = ledger
        self.failure: BaseException | None = None
        self.seen = 0

    def work(self, server: ServerProcess, choice: random.Random, stop: threading.Event) -> None:
        at = len(self.ledger.stored.get(self.session, ()))
        try:
            self._follow(server, at)
        except GONE:
            pass  # the kill
        except BaseException as error:  # handed to the test's thread
            self.failure = error

    def _follow(self, server: ServerProcess, at: int) -> None:
        source = EventSource(server, f"{events_path(self.session)}?offset={at:08d}&live=sse")
        if source.status in (404, 503):  # not made yet, or stopping
            source.close()
            return
        with source:
            for message in source:
                if message.event != "data":
                    continue
                for event in message.json():
                    assert event["offset"] == f"{at:08d}", "every event once, in order"
                    at += 1
                    self.seen += 1
                    self.ledger.seen_live[self.session].append(event)
