"""A process that embeds the engine and says what was acknowledged, until it is killed.

``python kill_writer.py DIRECTORY SEED``. One line on standard output for each acknowledged
append, ``<stream> <base> <tail> <writer> <seq>``, before that thread goes on.
Each writer is an idempotent producer that asks the store where it was.
"""

from __future__ import annotations

import os
import random
import sys
import threading

import tailrace
from tailrace import (
    Append,
    Appended,
    CreateBucket,
    Options,
    Producer,
    Rejection,
    StreamKey,
    StreamOptions,
    Ticket,
)

STREAMS = 3
WRITERS = 3


def record(writer: int, seq: int, part: int) -> bytes:
    return b'{"type":"t","text":"w%ds%dp%d %s"}' % (writer, seq, part, b"x" * (seq * 37 % 900))


def parts(writer: int, seq: int) -> int:
    return 1 + (writer + seq) % 3


def say(line: str) -> None:
    os.write(1, line.encode("ascii"))  # one write: lines of two threads never mix


def write(store: tailrace.Store, writer: int, seed: int) -> None:
    dice = random.Random(seed * 100 + writer)
    name = f"writer{writer}"
    after: dict[int, int] = {}
    options = StreamOptions("application/json", searchable=True)
    for stream in range(STREAMS):
        # A new epoch would do as well; asking with seq 0 tells a duplicate's highest seq.
        key = StreamKey("bucket", f"s{stream}")
        first = [record(writer, 0, part) for part in range(parts(writer, 0))]
        operation = Append(key, first, producer=Producer(name, 0, 0), create=options)
        outcome = store.perform(operation)
        assert isinstance(outcome, Appended), outcome
        assert outcome.producer_seq is not None
        after[stream] = outcome.producer_seq + 1
        if not outcome.duplicate:
            say(f"{stream} {outcome.base} {outcome.tail} {writer} 0\n")
    while True:
        pending: list[tuple[int, int, Ticket]] = []
        for _ in range(dice.choice((1, 1, 4))):
            stream = dice.randrange(STREAMS)
            seq = after[stream]
            after[stream] += 1
            records = [record(writer, seq, part) for part in range(parts(writer, seq))]
            key = StreamKey("bucket", f"s{stream}")
            (ticket,) = store.submit([Append(key, records, producer=Producer(name, 0, seq))])
            pending.append((stream, seq, ticket))
        for stream, seq, ticket in pending:
            outcome = ticket.wait()
            assert isinstance(outcome, Appended), outcome
            assert not outcome.duplicate
            say(f"{stream} {outcome.base} {outcome.tail} {writer} {seq}\n")


def main() -> None:
    directory, seed = sys.argv[1], int(sys.argv[2])
    options = Options(segment_bytes=256 * 1024, checkpoint_every_bytes=400 * 1024)
    store = tailrace.open(directory, options=options)
    assert not isinstance(store.perform(CreateBucket("bucket")), Rejection) or seed > 0
    threads = [threading.Thread(target=write, args=(store, n, seed)) for n in range(WRITERS)]
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main()
