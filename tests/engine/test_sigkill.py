"""A real process that embeds the engine is killed at random moments: nothing acknowledged goes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tailrace
from tests.engine import kill_writer
from tests.engine.kill_writer import PRODUCERS, ROWS_STREAMS, ROWS_WRITER, STREAMS, parts, record
from tests.engine.workload import read_all

KILLS = int(os.environ.get("TAILRACE_KILLS", "15"))


def run_until_killed(directory: Path, seed: int, alive_s: float) -> list[tuple[int, ...]]:
    """The acknowledgements of one life of the process; in the first one there are enough."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, kill_writer.__file__, str(directory), str(seed)],
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    first: list[bytes] = []
    while seed == 0 and len([line for line in first if writer_of(line) == ROWS_WRITER]) <= KILLS:
        first.append(process.stdout.readline())
    time.sleep(alive_s)
    assert process.poll() is None, "it stopped by itself"
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=60)
    lines = b"".join([*first, rest]).split(b"\n")[:-1]
    return [tuple(map(int, line.split())) for line in lines]


def writer_of(line: bytes) -> int:
    return int(line.split()[3])


@pytest.mark.timeout(280)
def test_what_was_acknowledged_survives_every_kill_once_and_in_order(tmp_path: Path) -> None:
    dice = random.Random(15)
    acknowledged: dict[tuple[int, int, int], tuple[int, int]] = {}  # (stream, writer, seq)
    for life in range(KILLS):
        # Now and then so early that it dies in recovery.
        alive_s = dice.choice((0.05, 0.12, 0.2, 0.3, 0.5)) if life else 0.3
        for stream, base, tail, writer, seq in run_until_killed(tmp_path, life, alive_s):
            assert (stream, writer, seq) not in acknowledged
            acknowledged[stream, writer, seq] = base, tail
        if life % 5 == 4:
            check(tmp_path, acknowledged)
    assert len(acknowledged) > KILLS
    assert len([writer for _, writer, _ in acknowledged if writer == ROWS_WRITER]) > KILLS
    check(tmp_path, acknowledged)


def check(directory: Path, acknowledged: dict[tuple[int, int, int], tuple[int, int]]) -> None:
    with tailrace.open(directory) as store:
        streams = [
            read_all(store, tailrace.StreamKey("bucket", f"s{n}"), page_bytes=1 << 20)
            for n in (*range(STREAMS), *ROWS_STREAMS)
        ]
        for (stream, writer, seq), (base, tail) in acknowledged.items():
            wanted = [record(writer, seq, part) for part in range(parts(writer, seq))]
            assert streams[stream][base:tail] == wanted
        for number, records in enumerate(streams):
            for writer in (*range(PRODUCERS), ROWS_WRITER):
                prefix = b'{"type":"t","text":"w%ds' % writer
                own = [one for one in records if one.startswith(prefix)]
                wanted, seq = [], 0
                while len(wanted) < len(own):
                    wanted += [record(writer, seq, part) for part in range(parts(writer, seq))]
                    seq += 1
                assert own == wanted, "each batch once, whole, in the producer's order"
                highest = max(
                    (s for n, w, s in acknowledged if (n, w) == (number, writer)), default=-1
                )
                assert seq - 1 >= highest
        dice = random.Random(len(acknowledged))
        for stream, writer, seq in dice.sample(sorted(acknowledged), min(20, len(acknowledged))):
            found = store.search(f"w{writer}s{seq}p0", [("bucket", f"s{stream}")]).hits
            assert acknowledged[stream, writer, seq][0] in {hit.ordinal for hit in found}
