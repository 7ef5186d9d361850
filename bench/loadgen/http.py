"""Requests of the Durable Streams Protocol as groups of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from bench.loadgen.plan import STAMP, Group, Kind, Plan

START: Final = b"-1"
EMPTY_ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nStream-Next-Offset: 00000001\r\nContent-Length: 0\r\n\r\n"
)
STAMP_MARKER: Final = b"~stamp:"

_JSON: Final = b"application/json"
_PREPARE_S: Final = 300.0
_PREPARE_CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Base:
    """Where a server keeps its streams: ``http://host:port/prefix``."""

    host: str
    port: int
    prefix: str

    @property
    def origin(self) -> bytes:
        return f"{self.host}:{self.port}".encode("ascii")


def base(url: str) -> Base:
    parts = urlsplit(url)
    assert parts.scheme == "http"
    assert parts.hostname is not None
    return Base(parts.hostname, parts.port or 80, parts.path.rstrip("/"))


def plan(where: Base, group: Group) -> Plan:
    """One group alone, until it is done; for what is prepared or checked outside the clock."""
    return Plan(host=where.host, port=where.port, groups=[group], window_s=_PREPARE_S)


def head(
    where: Base, method: bytes, path: str, *, content_type: bytes = b"", length: int | None = None
) -> bytes:
    """A request without its body."""
    lines = [method + b" " + path.encode("ascii") + b" HTTP/1.1", b"Host: " + where.origin]
    if content_type:
        lines.append(b"Content-Type: " + content_type)
    if length is not None:
        lines.append(b"Content-Length: " + str(length).encode("ascii"))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _tail(where: Base, query: bytes = b"") -> bytes:
    return query + b" HTTP/1.1\r\nHost: " + where.origin + b"\r\n\r\n"


def _sized(bodies: Sequence[bytes]) -> int:
    """The length of every body: a head serves all of them."""
    (length,) = {len(body) for body in bodies}
    return length


def create(where: Base, paths: Sequence[str], content_type: bytes = _JSON) -> Group:
    """A PUT for each stream; streams that are there already are fine."""
    heads = [head(where, b"PUT", path, content_type=content_type, length=0) for path in paths]
    return Group(
        name="create",
        kind=Kind.REQUEST,
        connections=min(_PREPARE_CONNECTIONS, len(paths)),
        heads=heads,
        statuses=(200, 201),
        once=True,
    )


def fill(where: Base, paths: Sequence[str], bodies: Sequence[bytes]) -> Group:
    """One append to each stream, with its own body as long as there are enough.

    One after the other: the reference server keeps 100 files open, and answers 404 if one was
    closed between a write and its sync because other streams were written.
    """
    length = _sized(bodies)
    return Group(
        name="fill",
        kind=Kind.REQUEST,
        connections=1,
        heads=[head(where, b"POST", path, content_type=_JSON, length=length) for path in paths],
        bodies=bodies,
        once=True,
    )


def append_in_order(where: Base, path: str, bodies: Sequence[bytes]) -> Group:
    """Bodies of any length to one stream, one after the other, once."""
    return Group(
        name="fill",
        kind=Kind.REQUEST,
        connections=1,
        heads=[head(where, b"POST", path, content_type=_JSON, length=len(body)) for body in bodies],
        bodies=bodies,
        once=True,
    )


def append(
    where: Base,
    paths: Sequence[str],
    bodies: Sequence[bytes],
    *,
    connections: int,
    rate: float | None = None,
    steps: int | None = None,
    stamp_at: int | None = None,
    producer_epoch: int | None = None,
) -> Group:
    """Appends without end: streams and bodies in turn. A producer's repetition would be a 204,
    which is no answer to expect (section 5.2.1): nothing is sent twice.
    """
    length = _sized(bodies)
    return Group(
        name="append",
        kind=Kind.REQUEST,
        connections=connections,
        heads=[head(where, b"POST", path, content_type=_JSON, length=length) for path in paths],
        bodies=bodies,
        statuses=(200, 204) if producer_epoch is None else (200, 200),
        rate=rate,
        steps=steps,
        stamp_at=stamp_at,
        producer_epoch=producer_epoch,
    )


def read(
    where: Base,
    paths: Sequence[str],
    *,
    connections: int,
    rate: float | None = None,
    steps: int | None = None,
    marker: bytes = b"",
) -> Group:
    """Reads from the start, one answer each, streams in turn."""
    return Group(
        name="read",
        kind=Kind.REQUEST,
        connections=connections,
        heads=[head(where, b"GET", f"{path}?offset=-1") for path in paths],
        statuses=(200, 200),
        rate=rate,
        steps=steps,
        marker=marker,
    )


def catch_up(
    where: Base,
    paths: Sequence[str],
    marker: bytes,
    *,
    starts: Sequence[bytes] | None = None,
    connections: int = _PREPARE_CONNECTIONS,
    once: bool = True,
) -> Group:
    """Each stream from its start until the answer says that it is up to date."""
    return Group(
        name="catch up",
        kind=Kind.FOLLOW,
        connections=min(connections, len(paths)),
        heads=[b"GET " + path.encode("ascii") + b"?offset=" for path in paths],
        starts=[START] * len(paths) if starts is None else starts,
        tail=_tail(where),
        statuses=(200, 200),
        marker=marker,
        once=once,
    )


def subscribe(
    where: Base, paths: Sequence[str], starts: Sequence[bytes], *, connections: int, live: str
) -> Group:
    """Subscribers (``live``: sse, long-poll) to stamped events, dealt to the streams in turn.

    They must stand behind the group that appends, which is the plan's first.
    """
    return Group(
        name=live,
        kind=Kind.SSE if live == "sse" else Kind.LONG_POLL,
        connections=connections,
        heads=[b"GET " + path.encode("ascii") + b"?offset=" for path in paths],
        starts=starts,
        tail=_tail(where, b"&live=" + live.encode("ascii")),
        marker=STAMP_MARKER,
        stamped=True,
        source=0,
    )


def stamped_body(size: int) -> tuple[bytes, int]:
    """An event of ``size`` bytes with room for a stamp; where that is."""
    front = b'{"type":"user.message","content":[{"type":"text","text":"' + STAMP_MARKER
    body = (front + STAMP).ljust(size - 4, b".") + b'"}]}'
    assert len(body) == size
    return body, len(front)


def fan_out(
    where: Base,
    path: str,
    start: bytes,
    *,
    subscribers: int,
    rate: float,
    live: str,
    size: int,
    steps: int | None = None,
) -> list[Group]:
    """One writer at a fixed rate, and those who listen to it."""
    body, stamp_at = stamped_body(size)
    return [
        append(where, [path], [body], connections=1, rate=rate, steps=steps, stamp_at=stamp_at),
        subscribe(where, [path], [start], connections=subscribers, live=live),
    ]


def fixed_answer(length: int) -> bytes:
    """The head of an answer that says: this is all there is."""
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nStream-Next-Offset: 00000001\r\n"
        b"Stream-Up-To-Date: true\r\nContent-Length: " + str(length).encode("ascii") + b"\r\n\r\n"
    )
