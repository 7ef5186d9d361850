"""Batches with right checksums and wrong content, through every C helper that reads them.

A batch that passes the check must decode and give up its records without a byte from
outside it; the rest must be refused.
"""

from __future__ import annotations

import random
from array import array
from typing import Final

from fuzz.engine_driver import apply_edits, edits, run
from tailrace import native
from tailrace.batch import HEADER_BYTES, Batch, decode_batch, encode_batch, join_records
from tailrace.fields import BadFields, Tag, encode_fields

BASE_POSITION: Final = 65536
START: Final = 4096


def _base() -> tuple[bytes, list[int]]:
    data = bytearray(START)
    places: list[int] = []
    ordinal = 0
    for count in (1, 3, 0, 40, 2):
        ends, payload = join_records([b"record %d" % n for n in range(count)], count % 2 == 1)
        fields = encode_fields([(Tag.PRODUCER_ID, "p"), (Tag.STREAM_SEQ, "s")]) if count else b""
        batch = Batch(1, 2, 0, 0, 5, ordinal, 99, 0, 0, ends, fields, payload)
        places.append(len(data))
        data += encode_batch(batch, BASE_POSITION + len(data), BASE_POSITION)
        ordinal += count
    return bytes(data) + bytes(256), places


BASE, PLACES = _base()


def seal(raw: bytearray) -> None:
    """Make the checksum of whatever each header claims to be long right."""
    for place in PLACES:
        length = int.from_bytes(raw[place + 4 : place + 8], "little")
        if HEADER_BYTES <= length <= len(raw) - place:
            crc = native.crc32c(bytes(raw[place + 4 : place + length]))
            raw[place : place + 4] = crc.to_bytes(4, "little")


def _gather(view: native.View, ref: native.BatchRef) -> None:
    count = min(ref.record_count, 200)
    out = bytearray(300)
    ends = array("I", bytes(4 * count))
    got = view.gather(
        BASE_POSITION, ref.stream_id, ref.base_ordinal, array("I", [ref.offset]) * count, count,
        out, 0, ends, 0,
    )  # fmt: skip
    assert got.bytes <= len(out)
    assert got.records <= count
    taken = list(ends[: got.records])
    assert taken == sorted(taken)
    assert not taken or taken[-1] == got.bytes
    if got.status == native.GATHER_DONE:
        assert got.records == count


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name atheris calls
    raw = bytearray(BASE)
    apply_edits(raw, data)
    seal(raw)
    frozen = memoryview(bytes(raw))
    view = native.View(frozen)
    for ref in view.scan(START, BASE_POSITION):
        assert ref.offset + ref.length <= len(raw)
        batch = decode_batch(frozen[ref.offset : ref.offset + ref.length])
        assert len(batch.ends) == ref.record_count
        assert HEADER_BYTES + len(batch.fields) + len(batch.payload) <= ref.length
        try:
            batch.field_items()
        except BadFields:
            pass
        if ref.record_count:
            _gather(view, ref)
    found = view.find(START, BASE_POSITION)
    assert START <= found <= len(raw)
    assert START <= view.nonzero_end(START) <= len(raw)
    native.seal_batches(bytearray(raw[START:]))


def make(dice: random.Random) -> bytes:
    return edits(dice, len(BASE), PLACES)


if __name__ == "__main__":
    run(__doc__, TestOneInput, make)
