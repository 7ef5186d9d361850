"""Batch ↔ bytes. A batch is the atomic unit of the log: everything one decision changes.

::

    0        4        8   9   10      12             16                24
    | crc32c | length | v | k | flags | record_count | position        |
    | watermark       | stream_id     | base_ordinal | created_at_ms   |   24 .. 56
    | producer_epoch  | producer_seq  | fields_length| payload_length  |   56 .. 80
    | end of record 0 | end of record 1 | ...  (u32 each, from the payload's start)
    | fields | payload | zeros up to a multiple of 8

``engine/FORMAT.md`` is the specification. Checksums are not made here but for a whole
group at once, by :func:`tailrace.native.seal_batches`.
"""

from __future__ import annotations

import enum
import struct
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from tailrace import native, native_records
from tailrace.fields import Fields, decode_fields
from tailrace.limits import BATCH_ALIGNMENT_BYTES, SEAL_BYTES

HEADER: Final = struct.Struct("<IIBBHIQQQQQQQII")
HEADER_BYTES: Final = native.BATCH_HEADER_BYTES
VERSION: Final = native.BATCH_VERSION
PADDING: Final = tuple(bytes(n) for n in range(BATCH_ALIGNMENT_BYTES))

assert HEADER.size == HEADER_BYTES == SEAL_BYTES
assert BATCH_ALIGNMENT_BYTES == 8  # which is what "+ 7 & ~7" rounds up to, wherever it stands
assert array("I").itemsize == 4


class Kind(enum.IntEnum):
    """What a batch does. The numbers are on disk."""

    APPEND = 1
    CREATE = 2
    DELETE = 3
    TOUCH = 4
    METADATA = 5
    TRIM = 6
    CREATE_BUCKET = 7
    DELETE_BUCKET = 8
    MARK = 9  # nothing but its watermark
    SEAL = 10  # the last batch of a segment that is full
    EXPIRE = 11
    LOST = 12  # stands where `tailrace repair` gave up a damaged batch; holds what was there
    SNAPSHOT = 13


APPEND: Final = int(Kind.APPEND)
"""The same as a plain integer, for the hot path: making an enum's member costs it too much."""


class Flag:
    """Bits of a batch's flags. Plain integers: every append tests them."""

    CLOSES: Final = 1
    JSON: Final = 2  # every record in the payload is followed by one comma
    PRODUCER: Final = 4  # producer_epoch and producer_seq count, and a PRODUCER_ID field is there


# What csrc/batch_build.c writes is what is meant here.
assert (native.BUILD_KIND, native.BUILD_JSON) == (APPEND, Flag.JSON)


class Batch(NamedTuple):
    """One batch, decoded. ``ends[i]`` is where record i ends in the payload, its comma included."""

    kind: int
    flags: int
    position: int
    watermark: int
    stream_id: int
    base_ordinal: int
    created_at_ms: int
    producer_epoch: int
    producer_seq: int
    ends: array[int]
    fields: bytes
    payload: bytes | memoryview

    @classmethod
    def bare(cls, kind: Kind, now_ms: int) -> Batch:
        """A batch that says nothing but its kind."""
        return cls(
            kind=int(kind),
            flags=0,
            position=0,
            watermark=0,
            stream_id=0,
            base_ordinal=0,
            created_at_ms=now_ms,
            producer_epoch=0,
            producer_seq=0,
            ends=array("I"),
            fields=b"",
            payload=b"",
        )

    def field_items(self) -> Fields:
        """The batch's fields by tag; :class:`tailrace.fields.BadFields` if they are not any."""
        return dict(decode_fields(self.fields))


class TooLong(ValueError):
    """``length`` is how many bytes the records would take, which is more than was allowed."""

    def __init__(self, length: int) -> None:
        super().__init__(f"{length} bytes")
        self.length = length


def join_records(
    records: Sequence[bytes], is_json: bool, bytes_max: int = native_records.ENDS_MAX
) -> tuple[array[int], bytes]:
    """``(ends, payload)`` of records as they are stored; ``is_json``: a comma behind each.

    Raises TooLong, and TypeError if they are no sequence or one of them is not bytes.
    """
    records = tuple(records)  # a list is another thread's to change meanwhile
    if not records:
        return array("I"), b""
    count = len(records)
    if count > 1:
        joined = native_records.join_records(
            b"", b"", records, separated=is_json, bytes_max=bytes_max
        )
        if joined is not None:
            with memoryview(joined) as view:
                return array("I", view[: 4 * count].cast("I")), bytes(view[4 * count :])
    records = [record if type(record) is bytes else _bytes_of(record) for record in records]
    separator = 1 if is_json else 0
    length = sum(map(len, records)) + separator * count
    if length > bytes_max:
        raise TooLong(length)
    payload = b",".join([*records, b""]) if is_json else b"".join(records)
    ends = array("I", accumulate([len(record) + separator for record in records]))
    assert ends[-1] == len(payload)
    return ends, payload


def _bytes_of(record: object) -> bytes:
    if isinstance(record, bytes | bytearray | memoryview):
        return bytes(record)
    raise TypeError(f"a record must be bytes, not {type(record).__name__}")


def padded_bytes(record_count: int, fields_length: int, payload_length: int) -> int:
    """The length on disk of a batch with parts of these lengths."""
    return (HEADER_BYTES + 4 * record_count + fields_length + payload_length + 7) & ~7


def encode_batch(batch: Batch, position: int, watermark: int) -> bytes:
    """The bytes of ``batch`` at ``position``, but for its checksum, which is left zero."""
    return b"".join(batch_parts(batch, position, watermark))


def batch_parts(batch: Batch, position: int, watermark: int) -> tuple[bytes | memoryview, ...]:
    """The same in parts, so that a group's batches are joined once and never copied before."""
    ends, fields, payload = batch.ends, batch.fields, batch.payload
    count = len(ends)
    used = HEADER_BYTES + 4 * count + len(fields) + len(payload)
    length = (used + 7) & ~7
    header = HEADER.pack(
        0,
        length,
        VERSION,
        batch.kind,
        batch.flags,
        count,
        position,
        watermark,
        batch.stream_id,
        batch.base_ordinal,
        batch.created_at_ms,
        batch.producer_epoch,
        batch.producer_seq,
        len(fields),
        len(payload),
    )
    return header, ends.tobytes(), fields, payload, PADDING[length - used]


def decode_batch(data: memoryview) -> Batch:
    """The batch at the start of ``data``, whose checksum was verified before.

    The payload is a slice of ``data``. AssertionError if ``data`` is shorter than the batch says.
    """
    (
        _crc,
        length,
        _version,
        kind,
        flags,
        count,
        position,
        watermark,
        stream_id,
        base_ordinal,
        created_at_ms,
        producer_epoch,
        producer_seq,
        fields_length,
        payload_length,
    ) = HEADER.unpack_from(data)
    assert length <= len(data)
    table_end = HEADER_BYTES + 4 * count
    fields_end = table_end + fields_length
    ends = array("I")
    ends.frombytes(data[HEADER_BYTES:table_end])
    return Batch(
        kind,
        flags,
        position,
        watermark,
        stream_id,
        base_ordinal,
        created_at_ms,
        producer_epoch,
        producer_seq,
        ends,
        bytes(data[table_end:fields_end]),
        data[fields_end : fields_end + payload_length],
    )


def split_records(payload: bytes | memoryview, ends: Sequence[int], is_json: bool) -> list[bytes]:
    """The records of a payload, without separators."""
    separator = 1 if is_json else 0
    records: list[bytes] = []
    begin = 0
    for end in ends:
        records.append(bytes(payload[begin : end - separator]))
        begin = end
    return records
