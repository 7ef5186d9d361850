"""Plain appends in columns: decided by one call of C, made into batches by another.

The states are those that :mod:`tailrace.plain_append` comes to for one append after the other;
only the records of a group stand in one batch. ``tests/engine/test_plain_rows.py`` holds it to
that. What is not plain in every way is left, to be decided the long way.

Python runs once for each append of a producer here, and never for another group or a record.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple

from immutables import Map

from tailrace.batch import HEADER_BYTES
from tailrace.catalog import Catalog
from tailrace.limits import (
    BATCH_ALIGNMENT_BYTES,
    BATCH_RECORDS_MAX,
    PRODUCER_ID_BYTES_MAX,
    PRODUCER_NUMBER_MAX,
    SEAL_BYTES,
)
from tailrace.native import ProducerColumns, build_batches
from tailrace.native_rows import decide_rows
from tailrace.operation import Producer
from tailrace.plain_append import producer_fields
from tailrace.producer import ProducerState
from tailrace.rows import AppendedRows, Rows
from tailrace.stream import StreamState

_FIELDS_BYTES_MAX: Final = len(producer_fields("i" * PRODUCER_ID_BYTES_MAX))


class _Producers:
    """Who the appends come from, and the columns that batches need of it."""

    def __init__(self, producers: Sequence[Producer | None]) -> None:
        self._producers = producers
        count = len(producers)
        zeros = bytes(8 * count)
        self.columns = ProducerColumns(array("Q", zeros), array("Q", zeros), [b""] * count)

    def decide(self, index: int, known: Map[str, ProducerState]) -> Map[str, ProducerState] | None:
        """What a stream that knows these producers knows after the append; None: it is left."""
        producer = self._producers[index]
        if producer is None:
            return known
        producer_id, epoch, seq = producer
        last = known.get(producer_id)
        if last is None or last.epoch != epoch or last.seq + 1 != seq or seq > PRODUCER_NUMBER_MAX:
            return None
        epoch, seq = last.epoch, last.seq + 1  # integers, whatever they were compared with
        epochs, seqs, fields = self.columns
        epochs[index], seqs[index] = epoch, seq
        fields[index] = producer_fields(producer_id)
        return known.set(producer_id, tuple.__new__(ProducerState, (epoch, seq)))


class PlainRows(NamedTuple):
    """Batches to stage at the position they were made for, and what follows from them.

    ``offsets`` says where in ``data`` the batch of each group stands that was taken; ``left``
    are the indexes of those that were not.
    """

    data: memoryview
    states: dict[int, StreamState]
    counts: array[int]
    offsets: array[int]
    appended: AppendedRows
    left: list[int]

    @property
    def batches(self) -> int:
        """How many there are."""
        return len(self.counts) - len(self.left)


def plain_rows(
    catalog: Catalog, rows: Rows, now_ms: int, position: int, room: int, watermark: int
) -> PlainRows:
    """The appends at log ``position``; all are left if they, and a seal, may not fit in ``room``.

    Raises :class:`InvalidArgument` for columns that do not fit together. ``rows`` has passed
    :func:`tailrace.validate.rows`.
    """
    keys, content_types, counts, lengths, payload, producers = rows
    capacity = len(keys) * (HEADER_BYTES + BATCH_ALIGNMENT_BYTES) + 4 * len(lengths)
    capacity += memoryview(payload).nbytes + _FIELDS_BYTES_MAX * len(producers)
    fits = capacity + SEAL_BYTES <= room and len(lengths) <= BATCH_RECORDS_MAX
    whose = _Producers(producers) if producers else None
    stream_ids, firsts, times, flags, states, left = decide_rows(
        catalog if fits else None,
        keys,
        content_types,
        counts,
        now_ms,
        None if whose is None else whose.decide,
    )
    data, offsets = build_batches(
        stream_ids, firsts, times, bytes(flags), counts, lengths, payload, position, watermark,
        capacity if states else 0, None if whose is None else whose.columns,
    )  # fmt: skip
    return PlainRows(data, states, counts, offsets, AppendedRows(stream_ids, firsts, times), left)
