"""The plain append, which nearly every append is, decided in one step.

*Plain* is records without conditions, from nobody, or from a known producer with its next number
(protocol section 5.2.1). Whatever is not plain in every way goes the long way.

The rules live in :mod:`tailrace.decide_append`, :mod:`tailrace.catalog` and
:mod:`tailrace.batch`. This module comes to exactly what those come to one after the other, for
less than half their cost (profiled: after a sync the caches are cold, and each call that is not
made saves about a microsecond). ``tests/engine/test_plain_append.py`` holds it to that.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from tailrace.batch import APPEND, HEADER, HEADER_BYTES, PADDING, VERSION, Flag
from tailrace.catalog import Catalog
from tailrace.fields import Tag, encode_fields
from tailrace.limits import BATCH_ALIGNMENT_BYTES, BATCH_RECORDS_MAX, PAGE_BYTES, SEAL_BYTES
from tailrace.native_records import join_records
from tailrace.operation import Append
from tailrace.outcome import Appended
from tailrace.producer import ProducerState
from tailrace.stream import StreamState, after_append

_pack: Final = HEADER.pack
_new: Final = tuple.__new__
_IDS_KEPT: Final = 4096
_NO_HEADER: Final = bytes(HEADER_BYTES)
_SPARE_BYTES: Final = BATCH_ALIGNMENT_BYTES + PAGE_BYTES


class PlainAppend(NamedTuple):
    """A batch to stage at the position it was made for, and what follows from it.

    One part, a bytearray, is the whole batch, and has room for :data:`PAGE_BYTES` behind it.
    """

    length: int
    parts: tuple[bytes | bytearray, ...]
    state: StreamState
    outcome: Appended


@lru_cache(_IDS_KEPT)
def producer_fields(producer_id: str) -> bytes:
    """The fields of a batch that a producer appended."""
    return encode_fields([(Tag.PRODUCER_ID, producer_id)])


def plain_append(
    catalog: Catalog, operation: Append, now_ms: int, position: int, room: int, watermark: int
) -> PlainAppend | None:
    """The append at log ``position``, if it fits into ``room`` bytes with a seal; else None."""
    key, records, content_type, close, producer, stream_seq, expected, _, expected_id = operation
    if close or stream_seq is not None or expected is not None:
        return None
    if expected_id is not None:
        return None
    if type(records) not in (list, tuple):
        return None
    records = tuple(records)  # type: ignore[arg-type]  # a list may change meanwhile
    if not records or len(records) > BATCH_RECORDS_MAX:
        return None
    stream_id = catalog.names.get(key)
    if stream_id is None:
        return None
    state = catalog.streams[stream_id]
    plain = state.plain
    if plain is None:
        return None
    plain_type, flags = plain
    if content_type is not None and content_type != plain_type:
        return None
    producers = state.producers
    epoch = seq = None
    is_json = bool(flags)
    fields = b""
    if producer is not None:
        producer_id, epoch, seq = producer
        known = producers.get(producer_id)
        if known is None or known.epoch != epoch or known.seq + 1 != seq:
            return None
        flags |= Flag.PRODUCER
        fields = producer_fields(producer_id)
        producers = producers.set(producer_id, _new(ProducerState, (epoch, seq)))
    tail = state.tail
    created_at_ms = max(now_ms, state.last_write_ms)
    count = len(records)
    front = HEADER_BYTES + 4 * count + len(fields)
    whole = None
    if count == 1:
        record = records[0]
        if type(record) is not bytes or len(record) > room:
            return None
        payload = record + b"," if is_json else record
        used = front + len(payload)
    else:
        whole = join_records(
            _NO_HEADER, fields, records, separated=is_json, bytes_max=room,
            spare_bytes=_SPARE_BYTES,
        )  # fmt: skip
        if whole is None:
            return None
        used = len(whole)
    length = (used + 7) & ~7
    if length + SEAL_BYTES > room:
        return None
    size = used - front
    header = _pack(
        0, length, VERSION, APPEND, flags, count, position, watermark, stream_id, tail,
        created_at_ms, epoch or 0, seq or 0, len(fields), size,
    )  # fmt: skip
    parts: tuple[bytes | bytearray, ...]
    if whole is None:
        parts = (header, size.to_bytes(4, "little"), fields, payload, PADDING[length - used])
    else:
        whole[:HEADER_BYTES] = header
        whole += PADDING[length - used]
        parts = (whole,)
    after = after_append(state, tail + count, created_at_ms, state.stream_seq, producers)
    # Not Appended(...), and so on: a Python function between takes longer than all the rest.
    outcome = _new(
        Appended,
        (stream_id, tail, tail + count, False, False, False, created_at_ms, epoch, seq),
    )
    return _new(PlainAppend, (length, parts, after, outcome))
