"""Plain appends of many blocking callers: decided in one loop, made into batches by one call of C.

The result is that of :mod:`tailrace.plain_append` for one after the other, batch for batch and
byte for byte, for a third of the cost. ``tests/engine/test_plain_inbox.py`` holds it to that.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Final, NamedTuple

from tailrace.batch import HEADER_BYTES
from tailrace.catalog import Catalog
from tailrace.limits import SEAL_BYTES
from tailrace.native import build_batches
from tailrace.operation import Append, Operation, StreamKey
from tailrace.outcome import Appended
from tailrace.plain_rows import PlainRows
from tailrace.plan import Partial
from tailrace.rows import AppendedRows
from tailrace.stream import StreamState, after_append
from tailrace.ticket import Ticket

FEWEST: Final = 4  # for less the call of C costs more than it spares
_RECORD_BYTES_MAX: Final = 4096  # longer ones are not worth the copies
_ONE: Final = array("I", (1,))
_new: Final = tuple.__new__

Waiting = tuple[Operation, Partial | None, Ticket]
Answer = tuple[Ticket, Appended]


class PlainRun(NamedTuple):
    """Batches to stage at the position they were made for, one for each of ``answers``."""

    rows: PlainRows
    answers: list[Answer]


class Room(NamedTuple):
    """Bytes: to the segment's end, that a batch may have, and that may be staged."""

    segment: int
    batch: int
    staged: int


def plain_run(
    catalog: Catalog,
    waiting: Iterable[Waiting],
    now_ms: int,
    position: int,
    room: Room,
    watermark: int,
) -> PlainRun | None:
    """The appends that ``waiting`` begins with, as long as they are plain, at log ``position``.

    None if those are less than :data:`FEWEST`.
    """
    to_segment_end, batch_bytes_max, staged_bytes_max = room
    to_segment_end -= SEAL_BYTES
    streams, id_of = catalog.streams, catalog.names.get
    new = _new
    states: dict[int, StreamState] = {}
    stream_ids: list[int] = []
    firsts: list[int] = []
    times: list[int] = []
    flags: list[int] = []
    lengths: list[int] = []
    payload: list[bytes] = []
    answers: list[Answer] = []
    total = 0
    for operation, _, ticket in waiting:
        if type(operation) is not Append or total >= staged_bytes_max:
            break
        key, records, content_type, close, producer, stream_seq, expected, _, expected_id = (
            operation
        )
        # Exact types: nothing that is looked at here can raise.
        if close is not False or producer is not None or stream_seq is not None:
            break
        if expected is not None or expected_id is not None or type(key) is not StreamKey:
            break
        if type(records) not in (list, tuple) or len(records) != 1:  # type: ignore[arg-type]
            break
        try:
            (record,) = records  # type: ignore[misc]
        except ValueError:  # a list that another thread changed since
            break
        if type(record) is not bytes or not 0 < len(record) <= _RECORD_BYTES_MAX:
            break
        bucket, name = key
        if type(bucket) is not str or type(name) is not str:
            break
        stream_id = id_of(key)
        if stream_id is None:
            break
        state = states.get(stream_id) or streams[stream_id]
        _, tail, _, _, created_at_ms, _, stream_seq, producers, _, _, _, _, _, _, plain = state
        if plain is None:
            break
        plain_type, flag = plain
        if content_type is not None and (
            type(content_type) is not str or content_type != plain_type
        ):
            break
        size = len(record)
        if flag:
            size += 1
        length = (HEADER_BYTES + 4 + size + 7) & ~7
        if length > batch_bytes_max or total + length > to_segment_end:
            break
        total += length
        if created_at_ms < now_ms:
            created_at_ms = now_ms
        states[stream_id] = after_append(state, tail + 1, created_at_ms, stream_seq, producers)
        stream_ids.append(stream_id)
        firsts.append(tail)
        times.append(created_at_ms)
        lengths.append(size)
        payload.append(record)
        flags.append(flag)
        if flag:
            payload.append(b",")
        outcome = new(
            Appended, (stream_id, tail, tail + 1, False, False, False, created_at_ms, None, None)
        )
        answers.append((ticket, outcome))
    if len(answers) < FEWEST:
        return None
    appended = AppendedRows(array("Q", stream_ids), array("Q", firsts), array("Q", times))
    counts = _ONE * len(answers)
    data, offsets = build_batches(
        *appended, bytes(flags), counts, array("I", lengths), b"".join(payload), position,
        watermark, total,
    )  # fmt: skip
    return PlainRun(PlainRows(data, states, counts, offsets, appended, []), answers)
