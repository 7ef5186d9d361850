"""What waits for the next sync, and what is told of it afterwards."""

from __future__ import annotations

from typing import NamedTuple

from tailrace.batch import Batch
from tailrace.catalog import Change
from tailrace.outcome import Outcome
from tailrace.plain_rows import PlainRows
from tailrace.ticket import Ticket


class Staged(NamedTuple):
    """A batch on its way, or (no ``parts``) an answer that waits for those before it.

    Or, with ``rows``, the batches of many streams.
    """

    position: int
    parts: tuple[bytes | memoryview, ...]
    batch: Batch | None
    change: Change
    ticket: Ticket | None
    outcome: Outcome | None
    error: BaseException | None = None
    rows: PlainRows | None = None


class Publish(NamedTuple):
    """What the committer tells the rest of the store after a sync, on the committing thread."""

    entries: list[Staged]
    end: int


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
