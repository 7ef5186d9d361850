"""The server under mixed load for minutes: ``python -m tests.e2e.soak --seconds 480``.

Appends over 64 to 256 connections, SSE readers, long polls, small reads, streams made and
deleted; clients leave at random, some in the middle of a request. In the end the server is told
to stop while they go on. Its memory must not grow, its log must be without errors, and, after it
was started again, everything that it acknowledged must be there, once and in order.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from tests.e2e.server_process import ServerProcess
from tests.e2e.soak_clients import (
    CROWD,
    SMALL_EVENTS,
    SMALL_PATH,
    STREAMS,
    Course,
    come_and_go,
    stream_path,
)
from tests.e2e.wire import JSON, Client

PACE_S: Final = 0.6
"""With it about 250 requests a second come at high tide."""
SAMPLE_S: Final = 0.25
STOPPING_S: Final = 0.5
WARM_UP: Final = 0.25
"""The part of the time in which memory may find its size."""
GROWTH_MIB_MAX: Final = 12.0
RECORD_BYTES: Final = 64
"""What a stored record may cost in memory besides: its place in the index of a live segment."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory of the server in MiB: its own, and with the pages of mapped files."""

    seconds: float
    own: float
    resident: float


@dataclass
class Findings:
    """What a soak showed. ``problems`` is empty if all was well."""

    told: dict[str, int]
    samples: list[Sample]
    records: int
    problems: list[str] = field(default_factory=list)

    def settled(self) -> list[Sample]:
        end = self.samples[-1].seconds
        return [sample for sample in self.samples if sample.seconds >= WARM_UP * end]

    def slope_kib_per_minute(self, what: str) -> float:
        """Of the line that fits the samples best, after the warm-up."""
        settled = self.settled()
        fit = statistics.linear_regression(
            [sample.seconds for sample in settled], [getattr(sample, what) for sample in settled]
        )
        return fit.slope * 1024 * 60

    def growth_mib(self) -> float:
        """Own memory in the last quarter over that of the first after the warm-up: medians."""
        settled = self.settled()
        part = max(1, len(settled) // 4)
        first = statistics.median(sample.own for sample in settled[:part])
        return statistics.median(sample.own for sample in settled[-part:]) - first

    def lines(self) -> list[str]:
        last = self.samples[-1]
        own, resident = (self.slope_kib_per_minute(what) for what in ("own", "resident"))
        growth = f"grew by {self.growth_mib():.2f} MiB, slope {own:+.1f} KiB/min"
        return [
            ", ".join(f"{count:,} {what}" for what, count in sorted(self.told.items())),
            f"{self.records:,} records are stored, all that were acknowledged among them",
            f"own memory {last.own:.1f} MiB in the end, {growth}",
            f"with mapped files {last.resident:.1f} MiB, slope {resident:+.1f} KiB/min",
            *(f"PROBLEM: {problem}" for problem in self.problems),
        ]


def _sample(pid: int, seconds: float) -> Sample:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    fields = dict(line.split(":", 1) for line in text.splitlines())
    own, resident = (
        sum(int(fields[name].split()[0]) for name in names) / 1024
        for names in (("RssAnon", "RssShmem"), ("VmRSS",))
    )
    return Sample(seconds, own, resident)


def furnish(server: ServerProcess) -> None:
    with Client(server) as client:
        for number in range(STREAMS):
            assert client.request("PUT", stream_path(number), None, JSON).status == 201
        small = json.dumps(SMALL_EVENTS).encode("ascii")
        assert client.request("PUT", SMALL_PATH, small, JSON).status == 201


async def _load(course: Course, server: ServerProcess, seconds: float) -> list[Sample]:
    """The crowd, until the server has ended on SIGTERM; samples until it is told."""
    assert server.process is not None
    pid = server.process.pid
    samples: list[Sample] = []
    seeds = random.SystemRandom()
    course.began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for visit, count in CROWD:
            for number in range(count):
                nursery.start_soon(come_and_go, course, visit, number, seeds.getrandbits(64))
        while (passed := trio.current_time() - course.began) < seconds:
            samples.append(_sample(pid, passed))
            await trio.sleep(SAMPLE_S)
        course.over.set()
        server.ask_to_stop()
        await trio.sleep(STOPPING_S)
        status = await trio.to_thread.run_sync(server.wait_end)
        assert status == 0, f"it ended with {status}"
    return samples


def _stored(client: Client, path: str) -> list[dict[str, Any]]:
    """All events of a stream, page by page."""
    events: list[dict[str, Any]] = []
    offset = "-1"
    while True:
        reply = client.request("GET", f"{path}?offset={offset}")
        assert reply.status == 200, reply
        events += reply.json()
        offset = reply.headers["stream-next-offset"]
        if reply.headers.get("stream-up-to-date") == "true":
            return events


def check_stored(course: Course, server: ServerProcess) -> tuple[int, list[str]]:
    """How many records there are, and what is missing, repeated, out of order or made up."""
    records, problems = 0, []
    missing = set(course.acknowledged)
    with Client(server) as client:
        for number in range(STREAMS):
            seen: dict[int, int] = {}
            for event in _stored(client, stream_path(number)):
                writer, place = event["w"], event["n"]
                records += 1
                missing.discard((writer, place))
                if writer % STREAMS != number or place >= course.sent.get(writer, 0):
                    problems.append(f"an event that nobody sent there: {writer}, {place}")
                elif place <= seen.get(writer, -1):
                    problems.append(f"of {writer}, {place} comes after {seen[writer]}")
                seen[writer] = place
    if missing:
        problems.append(f"{len(missing)} acknowledged events are lost: {sorted(missing)[:5]}")
    return records, problems


def _check_log(server: ServerProcess) -> list[str]:
    return [
        f"the log has: {line}"
        for line in server.logs().splitlines()
        if any(word in line for word in ("Traceback", "internal_error", "error", "critical"))
    ]


def soak(folder: Path, seconds: float, *, pace_s: float = PACE_S) -> Findings:
    """Run it below ``folder``; what it showed."""
    with ServerProcess(folder / "data") as server:
        furnish(server)
        course = Course(server.host, server.port, pace_s)
        samples = trio.run(_load, course, server, seconds)
        problems = _check_log(server)
        server.start()
        records, wrong = check_stored(course, server)
        problems += wrong
        status = server.terminate()
        if status != 0:
            problems.append(f"started again, it ended with {status}")
        problems += _check_log(server)
    if course.told["ended by the server"]:
        problems.append(f"{course.told['ended by the server']} connections were ended early")
    findings = Findings(dict(course.told), samples, records, problems)
    allowed = GROWTH_MIB_MAX + records * RECORD_BYTES / 2**20
    if findings.growth_mib() > allowed:
        problems.append(f"memory grew by {findings.growth_mib():.1f} MiB, more than {allowed:.1f}")
    return findings


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument(
        "--pace", type=float, default=PACE_S, help="mean seconds between a client's requests"
    )
    parser.add_argument("--dir", type=Path, default=None, help="where the data directory is made")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        findings = soak(Path(folder), arguments.seconds, pace_s=arguments.pace)
    print("\n".join(findings.lines()))
    return 1 if findings.problems else 0


if __name__ == "__main__":
    sys.exit(main())
