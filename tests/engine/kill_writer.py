"""A process that embeds the engine and says what was acknowledged, until it is killed.

``python kill_writer.py DIRECTORY SEED``. One line on standard output for each acknowledged
append, ``<stream> <base> <tail> <writer> <seq>``, before that thread goes on.
Each writer is an idempotent producer that asks the store where it was; but for the last, which
hands over its appends in columns, to streams of its own, and sees by their tails where it was.
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
    Create,
    CreateBucket,
    Created,
    Options,
    Producer,
    Rejection,
    StreamKey,
    StreamOptions,
    Ticket,
)
from tests.engine.rows_lab import perform_as_rows

STREAMS = 3  # of the producers
PRODUCERS = 3
ROWS_STREAMS = range(STREAMS, STREAMS + 3)
ROWS_WRITER = PRODUCERS
OPTIONS = StreamOptions("application/json", searchable=True)


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
    for stream in range(STREAMS):
        # A new epoch would do as well; asking with seq 0 tells a duplicate's highest seq.
        key = StreamKey("bucket", f"s{stream}")
        first = [record(writer, 0, part) for part in range(parts(writer, 0))]
        operation = Append(key, first, producer=Producer(name, 0, 0), create=OPTIONS)
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


def write_rows(store: tailrace.Store, seed: int) -> None:
    dice = random.Random(seed)
    after: dict[int, int] = {}
    for stream in ROWS_STREAMS:
        outcome = store.perform(Create(StreamKey("bucket", f"s{stream}"), OPTIONS))
        assert isinstance(outcome, Created), outcome
        after[stream] = tail = 0
        while tail < outcome.tail:
            tail += parts(ROWS_WRITER, after[stream])
            after[stream] += 1
        assert tail == outcome.tail, "half a batch is there"
    while True:
        chosen = [stream for stream in ROWS_STREAMS if dice.random() < 0.7] or [STREAMS]
        seqs = [after[stream] for stream in chosen]
        asked = []
        for stream, seq in zip(chosen, seqs, strict=True):
            records = [record(ROWS_WRITER, seq, n) for n in range(parts(ROWS_WRITER, seq))]
            # To one stream as a producer: what is durable of its numbers must be of its records.
            producer = Producer("rows", 0, seq) if stream == ROWS_STREAMS[-1] else None
            key = StreamKey("bucket", f"s{stream}")
            asked.append(Append(key, records, OPTIONS.content_type, producer=producer))
            after[stream] += 1
        staged, outcomes = perform_as_rows(store, asked)
        for append, outcome in zip(staged, outcomes, strict=True):
            assert isinstance(outcome, Appended), outcome
            assert not outcome.duplicate
            at = asked.index(append)
            say(f"{chosen[at]} {outcome.base} {outcome.tail} {ROWS_WRITER} {seqs[at]}\n")


def main() -> None:
    directory, seed = sys.argv[1], int(sys.argv[2])
    options = Options(segment_bytes=256 * 1024, checkpoint_every_bytes=400 * 1024)
    store = tailrace.open(directory, options=options)
    assert not isinstance(store.perform(CreateBucket("bucket")), Rejection) or seed > 0
    threads = [threading.Thread(target=write, args=(store, n, seed)) for n in range(PRODUCERS)]
    threads.append(threading.Thread(target=write_rows, args=(store, seed)))
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main()
