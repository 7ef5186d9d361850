"""Deleted is gone: after an acknowledged DELETE nothing answers for a name until it is made again.

Clients make, append to, fork and delete names of their own, and read everybody's, on every
surface that shows them: what is known of a name throughout a request must be seen in its
answer, whatever any front keeps. TAILRACE_DELETIONS_STEPS makes it last longer.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tailrace_server.protocol import headers
from tests.e2e.server_process import FRONTS, serving
from tests.e2e.wire import JSON, Client, Reply

STEPS: Final = int(os.environ.get("TAILRACE_DELETIONS_STEPS", "50"))
CLIENTS: Final = 6
WORD: Final = "deletable"
OPTIONS: Final = ("--long-poll-timeout", "0.02", "--sse-lifetime", "0.04", "--sse-heartbeat", "1")
READS: Final = {
    "session": (
        *(("HEAD", f"/v1/sessions/%s/{end}") for end in ("events", "events/stream")),
        *(("GET", f"/v1/sessions/%s{end}") for end in ("", "/events", "/events?order=desc")),
        ("GET", "/v1/sessions/%s/events?offset=now&live=long-poll"),
        ("GET", "/v1/sessions/%s/events/stream"),
        ("GET", f"/v1/sessions/%s/events?q={WORD}"),
        *((method, "/ds/sessions/%s") for method in ("HEAD", "GET")),
    ),
    "stream": (
        *((method, "/v1/stream/%s") for method in ("HEAD", "GET")),
        *(("GET", f"/v1/stream/%s?offset={query}") for query in ("-1", "now&live=long-poll")),
        ("GET", "/v1/stream/%s?offset=-1&live=sse"),
    ),
}
PAGES: Final = ("/events", "?offset=-1", "/%s")
"""Whose paths end so give a name's events from the first one on."""
SEARCH: Final = f"/v1/search?q={WORD}&limit=100"
LISTINGS: Final = {
    "/v1/sessions?limit=1000": "id",
    "/v1/sessions?limit=1000&sort=created_at": "id",
    SEARCH: "session_id",
}
DELETES: Final = {
    "session": ("/v1/sessions/%s", "/ds/sessions/%s"),
    "stream": ("/v1/stream/%s",),
}


@dataclass(frozen=True, eq=False)
class Moment:
    """What its owner knows of a name; another object after each change.

    ``there`` is None while a change is under way. ``mark`` is in its first event, if known.
    """

    there: bool | None
    mark: str | None = None


@dataclass
class Name:
    kind: str
    name: str
    now: Moment = Moment(False)
    tag: tuple[str, str | None] = ("", None)
    """An ETag that was given, and the mark of what it was given for."""


@dataclass
class User:
    """One client, which alone changes its ``own`` names."""

    client: Client
    dice: random.Random
    own: list[Name]
    names: list[Name]
    made: int = 0
    seen: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """How often each read was made of what was there, or not, throughout."""

    def tour(self, name: Name) -> None:
        """See a new name in all ways: often enough that answers are kept, made again, deleted."""
        for changes, times in (
            ((self.write,), 2),
            ((self.delete, self.write), 1),
            ((self.delete,), 1),
        ):
            for change in changes:
                change(name)
            for method, path in READS[name.kind] * times:
                self.read(name, method, path)
            for path in LISTINGS:
                self.list_all(path)

    def step(self) -> None:
        name = self.dice.choice(self.own)
        action = self.dice.choice(("change", "change", "read", "read", "list"))
        if action == "list":
            self.list_all(self.dice.choice(list(LISTINGS)))
        elif action == "read":
            self.read_somehow(self.dice.choice(self.names))
        elif name.now.there and self.dice.random() < 0.7:
            self.delete(name)
            for _ in range(self.dice.randrange(3)):
                self.read_somehow(name)
        elif self.dice.random() < 0.3:
            others = [other for other in self.names if other.kind == name.kind]
            self.fork(name, self.dice.choice(others))
        else:
            self.write(name)

    def write(self, name: Name) -> None:
        """Make it, or append to it if it is there."""
        self.made += 1
        mark = f"{name.name} {self.made}"
        event = {"type": "made", "mark": mark, "text": WORD}
        before = name.now
        if before.there:
            place = "/v1/sessions/%s/events" if name.kind == "session" else "/v1/stream/%s"
            assert self.client.post(place % name.name, event).status == 204
            return
        if name.kind == "session":
            self._make(name, "POST", f"/v1/sessions/{name.name}/events", event, {}, mark)
        else:
            self._make(name, "PUT", f"/v1/stream/{name.name}", [event], {}, mark)

    def fork(self, name: Name, source: Name) -> None:
        if name.now.there or source is name:
            return
        mark = source.now.mark
        if name.kind == "session":
            place = f"/v1/sessions/{source.name}/fork"
            made = self._make(name, "POST", place, {"id": name.name}, {}, None)
        else:
            fork = {headers.STREAM_FORKED_FROM: f"/v1/stream/{source.name}"}
            made = self._make(name, "PUT", f"/v1/stream/{name.name}", None, fork, None)
        if made and source in self.own:
            name.now = Moment(True, mark)

    def _make(
        self,
        name: Name,
        method: str,
        path: str,
        value: object,
        more: dict[str, str],
        mark: str | None,
    ) -> bool:
        name.now = Moment(None)
        body = None if value is None else json.dumps(value).encode()
        reply = self.client.request(method, path, body, JSON | more)
        # Its name may still be held by forks of it, and a fork's source may be gone.
        assert reply.status in (201, 204, 404, 409, 410), (method, path, reply)
        there = reply.status < 300
        name.now = Moment(there, mark if there else None)
        return there

    def delete(self, name: Name) -> None:
        if not name.now.there:
            return  # making it again was refused: another's fork still holds the name
        name.now = Moment(None)
        path = self.dice.choice(DELETES[name.kind]) % name.name
        reply = self.client.request("DELETE", path)
        assert reply.status == 204, (path, reply)
        name.now = Moment(False)

    def read_somehow(self, name: Name) -> None:
        method, path = self.dice.choice(READS[name.kind])
        self.read(name, method, path, conditional=self.dice.random() < 0.3)

    def read(self, name: Name, method: str, path: str, *, conditional: bool = False) -> None:
        pages = method == "GET" and path.endswith(PAGES) and path != "/v1/sessions/%s"
        tag, tagged = name.tag
        asked = {headers.IF_NONE_MATCH: tag} if pages and conditional else {}
        before = name.now
        reply = self.client.request(method, path % name.name, None, asked)
        assert reply.status in (200, 204, 304, 404, 410), (method, path, name, reply)
        if before is not name.now or before.there is None:
            return
        said = f"{method} {path % name.name} is answered {reply}, but {before}"
        assert (reply.status < 400) == before.there, said
        self.seen[f"{method} {path}", before.there] += 1
        if pages and before.mark is not None:
            if reply.status == 304:
                assert tagged in (None, before.mark), said
            else:
                assert first_mark(reply) == before.mark, said
                name.tag = reply.headers["etag"], before.mark

    def list_all(self, path: str) -> None:
        before = [(name, name.now) for name in self.names if name.kind == "session"]
        reply = self.client.get(path)
        assert reply.status == 200, reply
        listed = {
            item[LISTINGS[path]] for item in reply.json().get("sessions", reply.json()["data"])
        }
        for name, then in before:
            if then is name.now and then.there is not None:
                # What a fork has from its source may be told as a hit of its source alone.
                hidden = path == SEARCH and then.there and name.name not in listed
                assert hidden or (name.name in listed) == then.there, (path, name, reply)
                self.seen[path, then.there] += not hidden


def first_mark(reply: Reply) -> str:
    found = reply.json()
    events = found["data"] if isinstance(found, dict) else found
    mark = events[0]["mark"]
    assert isinstance(mark, str)
    return mark


def missing(seen: Counter[tuple[str, bool]]) -> Iterable[tuple[str, bool]]:
    reads = [f"{method} {path}" for paths in READS.values() for method, path in paths]
    for what in (*reads, *LISTINGS):
        yield from ((what, there) for there in (False, True) if not seen[what, there])


@pytest.mark.parametrize("front", FRONTS)
def test_deleted_is_gone_until_it_is_made_again(front: str, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    owned = [
        [Name("session", f"s{number}"), Name("stream", f"a/{number}")] for number in range(CLIENTS)
    ]
    names = [name for own in owned for name in own]
    with serving(tmp_path / "data", *OPTIONS, front=front) as server:

        def use(number: int) -> Counter[tuple[str, bool]]:
            with Client(server) as client:
                user = User(client, random.Random(seed + number), owned[number], names)
                for name in user.own:
                    user.tour(name)
                for _ in range(STEPS):
                    user.step()
                return user.seen

        with ThreadPoolExecutor(CLIENTS) as pool:
            seen = sum(pool.map(use, range(CLIENTS)), Counter[tuple[str, bool]]())
    assert not list(missing(seen)), seen
