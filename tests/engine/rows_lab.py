"""Plain appends handed over in columns, and told apart again as if each had been asked alone."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import tailrace
from tailrace.operation import Append
from tailrace.outcome import Appended, Outcome
from tailrace.rows import AppendedRows, Rows
from tailrace.stream import is_json_type

PATIENCE_S = 60


def columns(appends: Sequence[Append]) -> Rows:
    """A group for each append: that many appends of one record each, or a producer's one."""
    payload = bytearray()
    lengths = array("I")
    types: list[str] = []
    for append in appends:
        assert append.content_type is not None and not callable(append.records)
        types.append(append.content_type)
        comma = b"," if is_json_type(append.content_type) else b""
        for record in append.records:
            payload += record + comma
            lengths.append(len(record) + len(comma))
    keys = [append.key for append in appends]
    counts = array("I", [len(append.records) for append in appends])  # type: ignore[arg-type]
    producers = [append.producer for append in appends]
    return Rows(keys, types, counts, lengths, payload, producers if any(producers) else ())


def submit_as_rows(
    store: tailrace.Store, appends: Sequence[Append]
) -> tuple[list[tuple[Append, tailrace.Ticket, int]], list[Append]]:
    """Those that were taken, each with its ticket and index in that, and those that are left."""
    taken = store.submit_rows(columns(appends), "context")
    assert taken.left == sorted(set(taken.left))
    left = [appends[i] for i in taken.left]
    if taken.ticket is None:
        assert len(left) == len(appends)
        return [], left
    assert taken.ticket.context == "context"
    kept = [i for i in range(len(appends)) if i not in taken.left]
    assert kept
    return [(appends[i], taken.ticket, i) for i in kept], left


def outcome_of_rows(append: Append, ticket: tailrace.Ticket, number: int) -> Outcome:
    """What one append of all the records would have been answered."""
    rows = ticket.wait(PATIENCE_S)
    assert isinstance(rows, AppendedRows)
    assert rows.stream_ids[number]
    first = rows.firsts[number]
    assert not callable(append.records)
    tail = first + len(append.records)
    found = Appended(
        rows.stream_ids[number], first, tail, False, False, False, rows.created_at_ms[number]
    )
    if append.producer is None:
        return found
    _, epoch, seq = append.producer
    return found._replace(producer_epoch=epoch, producer_seq=seq)


def perform_as_rows(
    store: tailrace.Store, appends: Sequence[Append]
) -> tuple[list[Append], list[Outcome]]:
    """The appends in the order they were staged in, and their outcomes.

    What is left is submitted afterwards, an append with all its records at a time.
    """
    taken, left = submit_as_rows(store, appends)
    outcomes = [outcome_of_rows(*one) for one in taken]
    for ticket in store.submit(left):
        outcomes.append(ticket.wait(PATIENCE_S))
    return [append for append, _, _ in taken] + left, outcomes


@contextmanager
def one_group(store: tailrace.Store) -> Iterator[None]:
    """Whatever is submitted meanwhile, to a store without threads, becomes durable together."""
    committer = store._core.committer
    committer._see_to_commit = lambda patience_s: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        del committer._see_to_commit
    with committer.commit_lock:
        committer.commit()
