"""What one job of ``http-append`` sends to a system, and how it finds the events again."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from bench.events import STREAMS, small_batches, stream_name
from bench.http_systems import Running
from bench.loadgen import http
from bench.loadgen.plan import Group, GroupResult, Kind, Wire
from bench.loadgen.process import LoadProcess
from bench.peers import redis_server
from bench.peers.redis_server import command
from bench.shapes import LostData
from bench.systems import CEILING, REDIS

_MARKER: Final = b"user.message"
_PIPELINES_PER_STREAM: Final = 4


@dataclass(frozen=True, slots=True)
class Job:
    """Connections that append ``events`` a request, in turn to ``streams``; if ``producers``, each
    as an idempotent producer.
    """

    name: str
    connections: int
    streams: int = STREAMS
    events: int = 1
    producers: bool = False
    rate: float | None = None

    def steps(self, steps: int | None) -> int | None:
        """At least one for every connection, so that each job is what it says."""
        return None if steps is None else max(steps, self.connections)


class Target(Protocol):
    """A system with some streams, which knows what was answered there so far."""

    def group(self, job: Job, steps: int | None) -> Group: ...

    def events(self, job: Job, answers: int) -> int:
        """How many events so many answers stand for."""
        ...

    def check(self, job: Job, done: GroupResult) -> None:
        """LostData unless the streams hold exactly what was answered."""
        ...


def _bodies(events: int) -> list[bytes]:
    """JSON of single events, or arrays of ``events``."""
    batches = small_batches(events)
    return [batch[0] if events == 1 else b"[" + b",".join(batch) + b"]" for batch in batches]


class HttpTarget:
    """A server of the protocol; its streams are made when it is first asked for them."""

    def __init__(self, load: LoadProcess, where: http.Base, streams: int) -> None:
        self._load = load
        self._base = where
        self._paths = [
            f"{where.prefix}/bench/{streams}/{stream_name(number)}" for number in range(streams)
        ]
        self._starts = [http.START] * streams
        self._epochs = itertools.count()
        load.run(http.plan(where, http.create(where, self._paths)))

    def group(self, job: Job, steps: int | None) -> Group:
        return http.append(
            self._base,
            self._paths,
            _bodies(job.events),
            connections=job.connections,
            rate=job.rate,
            steps=job.steps(steps),
            producer_epoch=next(self._epochs) if job.producers else None,
        )

    def events(self, job: Job, answers: int) -> int:
        return answers * job.events

    def check(self, job: Job, done: GroupResult) -> None:
        group = http.catch_up(self._base, self._paths, _MARKER, starts=self._starts)
        (read,) = self._load.run(http.plan(self._base, group)).groups
        answered = [self.events(job, answers) for answers in done.acknowledged]
        if list(read.found) != answered:
            raise LostData(
                f"{self._base.origin.decode()} answered {sum(answered)} events "
                f"and gives back {sum(read.found)}"
            )
        self._starts = [end.encode("ascii") for end in read.ends]


class NothingTarget(HttpTarget):
    """A server that stores nothing has nothing to give back."""

    def check(self, job: Job, done: GroupResult) -> None:
        if sum(done.acknowledged) < done.units:
            raise LostData("answers were counted that did not come")


class RedisTarget:
    """XADD with one field; several events are as many commands, sent at once."""

    def __init__(self, _: LoadProcess, where: http.Base, streams: int) -> None:
        self._base = where
        self._keys = [f"{streams}/{stream_name(number)}" for number in range(streams)]
        self._lengths = [0] * streams

    def group(self, job: Job, steps: int | None) -> Group:
        keys = [key.encode("ascii") for key in self._keys]
        heads: list[bytes]
        bodies: list[bytes] = []
        if job.events == 1:
            empty = b"$0\r\n\r\n"
            heads = [command(b"XADD", key, b"*", b"e", b"").removesuffix(empty) for key in keys]
            bodies = [b"$%d\r\n%s\r\n" % (len(event), event) for (event,) in small_batches(1)]
        else:
            batches = small_batches(job.events)
            heads = [
                b"".join(
                    command(b"XADD", key, b"*", b"e", event)
                    for event in batches[(turn * len(keys) + number) % len(batches)]
                )
                for turn in range(_PIPELINES_PER_STREAM)
                for number, key in enumerate(keys)
            ]
        return Group(
            name="XADD",
            kind=Kind.REQUEST,
            wire=Wire.RESP,
            connections=job.connections,
            heads=heads,
            bodies=bodies,
            answers=job.events,
            rate=job.rate,
            steps=job.steps(steps),
        )

    def events(self, _: Job, answers: int) -> int:
        return answers

    def check(self, _: Job, done: GroupResult) -> None:
        lengths = redis_server.lengths(self._base, self._keys)
        for number, key in enumerate(self._keys):
            answered = sum(done.acknowledged[number :: len(self._keys)])
            stored = lengths[number] - self._lengths[number]
            if stored != answered:
                raise LostData(f"Redis answered {answered} entries of {key} and has {stored}")
        self._lengths = lengths


_KINDS: Final[dict[str, Callable[[LoadProcess, http.Base, int], Target]]] = {
    REDIS: RedisTarget,
    CEILING: NothingTarget,
}


class Targets:
    """The target of each system and number of streams, made when it is first asked for."""

    def __init__(self, environment: Running) -> None:
        self._environment = environment
        self._made: dict[tuple[str, int], Target] = {}

    def get(self, name: str, streams: int) -> Target:
        key = (name, streams)
        if key not in self._made:
            where = self._environment.server(name).base
            self._made[key] = _KINDS.get(name, HttpTarget)(self._environment.load, where, streams)
        return self._made[key]
