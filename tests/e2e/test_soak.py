"""Mixed load with clients that leave at random: nothing acknowledged is lost, nothing leaks.

A short form of ``make soak``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.e2e.server_process import ServerProcess
from tests.e2e.soak import Findings, Sample, check_stored, furnish, soak
from tests.e2e.soak_clients import Course, stream_path
from tests.e2e.wire import JSON, Client
from tests.effort import lengthened

pytestmark = pytest.mark.long

SECONDS: Final = lengthened(12.0)
PACE_S: Final = 0.4


def test_everything_acknowledged_is_there_and_memory_does_not_grow(tmp_path: Path) -> None:
    findings = soak(tmp_path, SECONDS, pace_s=PACE_S)
    print("\n".join(findings.lines()))
    assert not findings.problems
    for what in ("appends", "appends given up", "resets", "events by SSE", "events by long-poll",
                 "small reads", "streams made and deleted"):  # fmt: skip
        assert findings.told[what] > 0, what


def test_growth_is_told_from_noise() -> None:
    flat = Findings({}, [Sample(i / 4, 100.0 + i % 3, 200.0) for i in range(200)], 0)
    assert abs(flat.growth_mib()) <= 1.0
    leak = Findings({}, [Sample(i / 4, 100.0 + i / 10, 200.0) for i in range(200)], 0)
    assert leak.growth_mib() > 10.0
    assert round(leak.slope_kib_per_minute("own")) == 4 * 60 * 1024 // 10


def test_what_is_missing_or_made_up_is_told(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        furnish(server)
        course = Course(server.host, server.port, PACE_S)
        course.acknowledged |= {(0, 0), (0, 1)}
        course.sent[0] = 2
        with Client(server) as client:
            assert client.request("POST", stream_path(0), b'{"w":0,"n":0}', JSON).status == 204
            assert client.request("POST", stream_path(0), b'{"w":0,"n":2}', JSON).status == 204
            assert client.request("POST", stream_path(1), b'{"w":0,"n":0}', JSON).status == 204
        records, problems = check_stored(course, server)
    assert records == 3
    assert problems == [
        "an event that nobody sent there: 0, 2",
        "an event that nobody sent there: 0, 0",
        "1 acknowledged events are lost: [(0, 1)]",
    ]
