"""What the load generator is told to do, and what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """What the connections of a group do; the numbers are those of load.h."""

    REQUEST = 0
    """One request after the other, or at a fixed rate."""
    FOLLOW = 1
    """Read a target from its start until an answer says that it is up to date."""
    SSE = 2
    """One request whose answer never ends."""
    LONG_POLL = 3
    """Read on from where the last answer ended, for ever."""


class Wire(IntEnum):
    HTTP = 0
    RESP = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Connections that do the same thing. Target and body of a request are taken in turn.

    ``heads``: per target, a request up to its body (REQUEST) or up to the value of ``offset``
    (all others), which is followed by an offset and ``tail``. ``rate``: requests a second of
    the whole group, whatever the answers do; None: each connection sends its next one as soon
    as it has its answer. ``once``: every target once (REQUEST: with the body of the same
    number), not for ever. ``stamp_at``: where in every body a number (per target, from 0) and
    the intended time are written, :data:`STAMP` long. ``marker``: bytes that are counted in
    answers; ``stamped``: a stamp follows them, which must be one more than the last one of
    this connection. ``producer_epoch``: each connection is an idempotent producer in this
    epoch, new to all targets, and numbers its appends to each. ``source``: the group whose
    stamps these subscribers wait for.
    """

    name: str
    kind: Kind
    connections: int
    heads: Sequence[bytes]
    starts: Sequence[bytes] = ()
    tail: bytes = b""
    bodies: Sequence[bytes] = ()
    statuses: tuple[int, int] = (200, 204)
    wire: Wire = Wire.HTTP
    answers: int = 1
    stamp_at: int | None = None
    producer_epoch: int | None = None
    marker: bytes = b""
    stamped: bool = False
    source: int | None = None
    once: bool = False
    steps: int | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        assert self.connections > 0
        assert self.heads
        assert self.kind is Kind.REQUEST or len(self.starts) == len(self.heads)
        assert not self.marker or self.marker[0] not in self.marker[1:]


STAMP = b"00000000-0000000000000000000"
"""Eight digits of the number, nineteen of CLOCK_MONOTONIC in nanoseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Groups that work at the same time against one server.

    Subscribers are all being served before anyone else begins. After ``warm_up_s`` the window
    of ``window_s`` begins, in which is counted; it ends early when everything that has an end
    has come to it. Answers still due are then waited for, ``patience_s`` at most.
    """

    host: str
    port: int
    groups: Sequence[Group]
    window_s: float
    warm_up_s: float = 0.0
    patience_s: float = 20.0
    server_pid: int | None = None


class LoadError(Exception):
    """The plan could not be carried out, or not without errors: its numbers mean nothing."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations: (greatest nanoseconds of a bucket, count), ascending."""

    buckets: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        return sum(count for _, count in self.buckets)

    def percentile_ms(self, fraction: float) -> float:
        """The duration that ``fraction`` of all do not exceed, in milliseconds; 0 of none."""
        wanted = fraction * self.count
        seen = 0
        for top, count in self.buckets:
            seen += count
            if seen >= wanted:
                return top / 1e6
        return 0.0


@dataclass(frozen=True, slots=True)
class GroupResult:
    """``acknowledged``, ``found`` and ``ends`` (the last offset that a follower was told) are per
    target and ``received`` is per connection, of the whole run; ``units``, ``body_bytes`` and
    ``latency`` are of the window.
    """

    name: str
    acknowledged: Sequence[int]
    found: Sequence[int]
    ends: Sequence[str]
    received: Sequence[int]
    units: int
    body_bytes: int
    latency: Histogram
    reconnects: int
    errors: Mapping[str, int]
    error_text: str

    def check(self) -> None:
        """LoadError if any connection was given up."""
        if self.errors:
            counts = ", ".join(f"{count} x {what}" for what, count in self.errors.items())
            raise LoadError(f"{self.name}: {counts}: {self.error_text}")


@dataclass(frozen=True, slots=True)
class Result:
    """``cpu_s`` is the load generator's own and ``server_cpu_s`` the server's, in the window.

    ``drained_s`` and ``drained_cpu_s`` (the server's) are from the beginning of the window until
    everything that was due in it had arrived.
    """

    groups: Sequence[GroupResult]
    measured_s: float
    cpu_s: float
    server_cpu_s: float
    drained_s: float
    drained_cpu_s: float

    def check(self) -> None:
        for group in self.groups:
            group.check()
