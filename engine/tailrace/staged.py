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
    """One entry of the queue for the next sync. What it is, its fields say:

    * ``batch``: one batch, with the ``change`` that it makes;
    * ``state``: a plain append, after which its stream is in that state;
    * ``rows``: batches of many streams at once. If their appends were asked for one by one,
      ``answers`` has each caller's ticket and outcome;
    * none of these: an answer that waits for the entries before it.

    ``parts``, joined, are the bytes to write at log ``position``; a part that is a bytearray may
    be changed by whoever writes it. ``ticket`` gets ``outcome`` or ``error``.
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
    """A durable group, as the rest of the store is told of it: the log now ends at ``end``."""

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
    """Whether the runs, each ``joined``, fill the log from ``position`` to ``end`` without a gap.

    They do not if a caller was interrupted (by a KeyboardInterrupt, say) while it staged a batch.
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
    """The batches of a run, back to back. Takes their parts: nobody else may use them then."""
    first = run[0].parts[0]
    if len(run) == 1 and type(first) is bytearray:
        return first
    return bytearray().join([part for entry in run for part in entry.parts])
