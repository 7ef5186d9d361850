"""Plain appends in columns: decided a group at a time, made into batches by one call of C.

Comes to the state that :mod:`tailrace.plain_append` comes to for one append after the other,
but that the records of a group stand in one batch. ``tests/engine/test_plain_rows.py`` holds it
to that. What is not plain in every way is left, to be decided the long way.

Python runs once for each group here and never for a record; nothing is looked up, called or
made for a stream that need not be.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final, NamedTuple

from immutables import Map

from tailrace.batch import HEADER_BYTES, Flag
from tailrace.catalog import Catalog
from tailrace.limits import (
    BATCH_ALIGNMENT_BYTES,
    BATCH_RECORDS_MAX,
    PRODUCER_ID_BYTES_MAX,
    PRODUCER_NUMBER_MAX,
    SEAL_BYTES,
)
from tailrace.native import ProducerColumns, build_batches
from tailrace.operation import Producer, StreamKey
from tailrace.plain_append import producer_fields
from tailrace.producer import ProducerState
from tailrace.rows import AppendedRows, Rows
from tailrace.stream import StreamState, after_append

_NOBODY: Final[dict[StreamKey, int]] = {}
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
    capacity += memoryview(payload).nbytes
    fields_bytes_max = _FIELDS_BYTES_MAX * len(producers)
    fits = capacity + fields_bytes_max + SEAL_BYTES <= room and len(lengths) <= BATCH_RECORDS_MAX
    streams = catalog.streams
    id_of = (catalog.names if fits else _NOBODY).get
    json_flag = Flag.JSON
    whose = _Producers(producers) if producers else None
    states: dict[int, StreamState] = {}
    state_of = states.get
    left: list[int] = []
    stream_ids: list[int] = []
    firsts: list[int] = []
    times: list[int] = []
    flags: list[int] = []
    for key, content_type, count in zip(keys, content_types, counts, strict=True):
        stream_id = id_of(key)
        if stream_id is not None:
            state = state_of(stream_id) or streams[stream_id]
            (
                config, tail, _, closed, created_at_ms, _, stream_seq, known,
                _, _, _, deleted, _, _,
            ) = state  # fmt: skip
            if (
                not closed
                and not deleted
                and content_type == config.content_type
                and config.ttl_ms is None
                and config.expires_at_ms is None
            ):
                flag = json_flag if config.is_json else 0
                after: Map[str, ProducerState] | None = known
                if whose is not None:
                    after = whose.decide(len(stream_ids), known)
                    if after is not known:
                        flag |= Flag.PRODUCER
                if after is not None:
                    if created_at_ms < now_ms:
                        created_at_ms = now_ms
                    states[stream_id] = after_append(
                        state, tail + count, created_at_ms, stream_seq, after
                    )
                    stream_ids.append(stream_id)
                    firsts.append(tail)
                    times.append(created_at_ms)
                    flags.append(flag)
                    continue
        left.append(len(stream_ids))
        stream_ids.append(0)
        firsts.append(0)
        times.append(0)
        flags.append(0)
    appended = AppendedRows(array("Q", stream_ids), array("Q", firsts), array("Q", times))
    data, offsets = build_batches(
        *appended, bytes(flags), counts, lengths, payload, position, watermark,
        capacity + fields_bytes_max if states else 0, None if whose is None else whose.columns,
    )  # fmt: skip
    return PlainRows(data, states, counts, offsets, appended, left)
