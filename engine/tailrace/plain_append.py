"""One record, no conditions: the append that nearly every append is, decided in one step.

Rules live in :mod:`tailrace.decide_append`, :mod:`tailrace.catalog` and
:mod:`tailrace.batch`; what is here comes to exactly what they come to, one after the
other, for less than half their cost (profiled: after a sync the caches are cold, and each
call that is not made is about a microsecond). ``tests/engine/test_plain_append.py`` holds
it to that. Whatever is not plain in every way goes the long way.
"""

from __future__ import annotations

from array import array
from typing import Final, NamedTuple

from tailrace.batch import HEADER, HEADER_BYTES, PADDING, VERSION, Batch, Flag
from tailrace.catalog import Catalog, Change
from tailrace.limits import SEAL_BYTES
from tailrace.operation import Append
from tailrace.outcome import Appended
from tailrace.stream import StreamState

_pack: Final = HEADER.pack
_APPEND: Final = 1  # Kind.APPEND, whose enum lookup the hot path spares


class PlainAppend(NamedTuple):
    """A batch to stage at the position it was made for, and what follows from it."""

    length: int
    parts: tuple[bytes | memoryview, ...]
    batch: Batch
    change: Change
    outcome: Appended


def plain_append(
    catalog: Catalog, operation: Append, now_ms: int, position: int, room: int, watermark: int
) -> PlainAppend | None:
    """The append at log ``position``, if it fits into ``room`` bytes with a seal; else None."""
    key, records, content_type, close, producer, stream_seq, expected, _, expected_id = operation
    if close or producer is not None or stream_seq is not None or expected is not None:
        return None
    if expected_id is not None:
        return None
    if type(records) not in (list, tuple) or len(records) != 1:  # type: ignore[arg-type]
        return None
    stream_id = catalog.names.get(key)
    if stream_id is None:
        return None
    state = catalog.streams[stream_id]
    config = state.config
    if state.closed or state.deleted or config.ttl_ms is not None:
        return None
    if config.expires_at_ms is not None:
        return None
    if content_type is not None and content_type != config.content_type:
        return None
    record = records[0]  # type: ignore[index]
    if type(record) is not bytes:
        return None
    payload, flags = (record + b",", Flag.JSON) if config.is_json else (record, 0)
    size = len(payload)
    used = HEADER_BYTES + 4 + size
    length = (used + 7) & ~7
    if length + SEAL_BYTES > room:
        return None
    tail = state.tail
    created_at_ms = max(now_ms, state.last_write_ms)
    ends = array("I", (size,))
    header = _pack(
        0, length, VERSION, _APPEND, flags, 1, position, watermark, stream_id, tail, created_at_ms,
        0, 0, 0, size,
    )  # fmt: skip
    after = StreamState(
        config, tail + 1, state.start, False, created_at_ms, state.last_touch_ms,
        state.stream_seq, state.producers, None, state.metadata, state.forks, False,
        state.detached, state.snapshot,
    )  # fmt: skip
    return PlainAppend(
        length,
        (header, ends.tobytes(), b"", payload, PADDING[length - used]),
        Batch(_APPEND, flags, 0, 0, stream_id, tail, created_at_ms, 0, 0, ends, b"", payload),
        Change((after,)),
        Appended(stream_id, tail, tail + 1, False, False, False, created_at_ms, None, None),
    )
