"""Plain appends in columns: decided a stream at a time, made into batches by one call of C.

Comes to the state that :mod:`tailrace.plain_append` comes to for one append after the other,
but that a stream's records stand in one batch. ``tests/engine/test_plain_rows.py`` holds it to
that. What is not plain in every way is left, to be decided the long way.

Python runs once for each stream here and never for a record; nothing is looked up, called or
made for a stream that need not be.
"""

from __future__ import annotations

from array import array
from typing import Final, NamedTuple

from tailrace.batch import HEADER_BYTES, Flag
from tailrace.catalog import Catalog
from tailrace.errors import InvalidArgument
from tailrace.limits import BATCH_ALIGNMENT_BYTES, BATCH_RECORDS_MAX, SEAL_BYTES
from tailrace.native import build_batches
from tailrace.operation import StreamKey
from tailrace.rows import AppendedRows, Rows
from tailrace.stream import StreamState, after_append

_NOBODY: Final[dict[StreamKey, int]] = {}


class PlainRows(NamedTuple):
    """Batches to stage at the position they were made for, and what follows from them.

    ``offsets`` says where in ``data`` the batch of each stream stands that was taken; ``left``
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
        return len(self.counts) - len(self.left)


def plain_rows(
    catalog: Catalog, rows: Rows, now_ms: int, position: int, room: int, watermark: int
) -> PlainRows:
    """The appends at log ``position``; all are left if they, and a seal, may not fit in ``room``.

    Raises :class:`InvalidArgument` for columns that do not fit together. ``rows`` has passed
    :func:`tailrace.validate.rows`.
    """
    keys, content_types, counts, lengths, payload = rows
    capacity = len(keys) * (HEADER_BYTES + BATCH_ALIGNMENT_BYTES) + 4 * len(lengths)
    capacity += memoryview(payload).nbytes
    fits = capacity + SEAL_BYTES <= room and len(lengths) <= BATCH_RECORDS_MAX
    streams = catalog.streams
    id_of = (catalog.names if fits else _NOBODY).get
    json_flag = Flag.JSON
    states: dict[int, StreamState] = {}
    left: list[int] = []
    stream_ids: list[int] = []
    firsts: list[int] = []
    times: list[int] = []
    flags: list[int] = []
    for key, content_type, count in zip(keys, content_types, counts, strict=True):
        stream_id = id_of(key)
        if stream_id is not None:
            state = streams[stream_id]
            (
                config, tail, _, closed, created_at_ms, _, stream_seq, producers,
                _, _, _, deleted, _, _,
            ) = state  # fmt: skip
            if (
                not closed
                and not deleted
                and content_type == config.content_type
                and config.ttl_ms is None
                and config.expires_at_ms is None
            ):
                if created_at_ms < now_ms:
                    created_at_ms = now_ms
                states[stream_id] = after_append(
                    state, tail + count, created_at_ms, stream_seq, producers
                )
                stream_ids.append(stream_id)
                firsts.append(tail)
                times.append(created_at_ms)
                flags.append(json_flag if config.is_json else 0)
                continue
        left.append(len(stream_ids))
        stream_ids.append(0)
        firsts.append(0)
        times.append(0)
        flags.append(0)
    if len(states) + len(left) != len(keys) or (left and len(set(keys)) != len(keys)):
        raise InvalidArgument("keys", "must have each stream once")
    appended = AppendedRows(array("Q", stream_ids), array("Q", firsts), array("Q", times))
    data, offsets = build_batches(
        *appended, bytes(flags), counts, lengths, payload, position, watermark,
        capacity if states else 0,
    )  # fmt: skip
    return PlainRows(data, states, counts, offsets, appended, left)
