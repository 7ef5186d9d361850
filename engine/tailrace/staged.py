"""What waits for the next sync, and what is told of it afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tailrace.batch import Batch
from tailrace.catalog import Change
from tailrace.limits import SEGMENT_HEADER_BYTES
from tailrace.outcome import Outcome
from tailrace.plain_inbox import Answer
from tailrace.plain_rows import PlainRows
from tailrace.stream import StreamState
from tailrace.ticket import Ticket


class Staged(NamedTuple):
    """A batch on its way, or (no ``parts``) an answer that waits for those before it.

    Or, with ``rows``, the batches of many streams, and in ``answers`` what those are told who
    asked for them one by one; or, with ``state``, a plain append, whose
    stream will be in that state. A part that is a bytearray belongs to whoever writes it.
    """

    position: int
    parts: tuple[bytes | bytearray | memoryview, ...]
    batch: Batch | None
    change: Change
    ticket: Ticket | None
    outcome: Outcome | None
    error: BaseException | None = None
    rows: PlainRows | None = None
    state: StreamState | None = None
    answers: Sequence[Answer] = ()


class Publish(NamedTuple):
    """What the committer tells the rest of the store after a sync, on the committing thread."""

    entries: list[Staged]
    end: int


def tickets_of(group: Iterable[Staged]) -> Iterator[Ticket]:
    """Who waits for these."""
    for entry in group:
        if entry.ticket is not None:
            yield entry.ticket
        for ticket, _ in entry.answers:
            yield ticket


def runs_of(group: list[Staged], segment_bytes: int) -> list[list[Staged]]:
    """The batches of a group, one list for each segment they go to."""
    runs: list[list[Staged]] = []
    limit = 0
    for entry in group:
        if not entry.parts:
            continue
        if entry.position >= limit:
            limit = (entry.position // segment_bytes + 1) * segment_bytes
            runs.append([])
        runs[-1].append(entry)
    return runs


def fills_log(
    runs: list[list[Staged]], joined: list[bytearray], position: int, end: int, segment_bytes: int
) -> bool:
    """Whether the runs, each ``joined``, take the log from ``position`` to ``end`` without a gap.

    Not so if a caller was interrupted (a signal's KeyboardInterrupt, say) while it staged one.
    """
    for run, data in zip(runs, joined, strict=True):
        start, last = run[0].position, run[-1]
        if start != position:
            return False
        position += len(data)
        if last.position + sum(map(len, last.parts)) != position:
            return False
        if run is not runs[-1]:
            position = (start // segment_bytes + 1) * segment_bytes + SEGMENT_HEADER_BYTES
    return position == end


def bytes_of(run: list[Staged]) -> bytearray:
    """The batches of a run, back to back. They are taken: nobody else may have them then."""
    first = run[0].parts[0]
    if len(run) == 1 and type(first) is bytearray:
        return first
    return bytearray().join([part for entry in run for part in entry.parts])
