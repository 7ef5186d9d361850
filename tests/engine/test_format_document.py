"""engine/FORMAT.md says what the code does: every table of it is held to the code."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import NamedTuple

import pytest

from tailrace import batch, checkpoint, fields, manifest, native, offset_index, segment
from tailrace.limits import SEGMENT_HEADER_BYTES

DOCUMENT = Path(__file__).parents[2] / "engine" / "FORMAT.md"
LAYOUT_IN_C = Path(__file__).parents[2] / "csrc" / "batch_layout.inc"


def table(name: str) -> list[list[str]]:
    """The rows of a table of FORMAT.md, cells stripped."""
    text = DOCUMENT.read_text(encoding="utf-8")
    _, found, rest = text.partition(f"<!-- table: {name} -->\n")
    assert found, f"FORMAT.md has no table {name}"
    rows = []
    for line in rest.splitlines():
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[2:]


class Slot(NamedTuple):
    offset: int
    size: int
    name: str
    value: str


def slots(name: str) -> list[Slot]:
    return [Slot(int(row[0]), int(row[1]), row[2], row[3]) for row in table(name)]


def layout(form: struct.Struct) -> list[tuple[int, int]]:
    """``(offset, size)`` of each value of a packed little-endian struct."""
    assert form.format.startswith("<")
    places, at = [], 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", form.format):
        size = struct.calcsize(f"<{count}{code}")
        places.append((at, size))
        at += size
    return places


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("segment-header", segment.HEADER),
        ("batch-header", batch.HEADER),
        ("checkpoint-header", checkpoint.HEADER),
        ("index-header", offset_index.HEADER),
    ],
)
def test_headers_are_laid_out_as_drawn(name: str, form: struct.Struct) -> None:
    drawn = slots(name)
    assert [(slot.offset, slot.size) for slot in drawn] == layout(form)


@pytest.mark.parametrize(
    ("name", "magic", "version"),
    [
        ("segment-header", segment.MAGIC, segment.VERSION),
        ("checkpoint-header", checkpoint.MAGIC, checkpoint.VERSION),
        ("index-header", offset_index.MAGIC, offset_index.VERSION),
    ],
)
def test_magic_words_and_versions(name: str, magic: bytes, version: int) -> None:
    by_name = {slot.name: slot.value for slot in slots(name)}
    assert by_name["magic"] == f"`{magic.decode('ascii')}`"
    assert by_name["version"] == str(version)


def test_every_field_of_a_batch_header_stands_where_it_is_drawn() -> None:
    values = {
        "length": 0,  # put in by the encoder
        "version": batch.VERSION,
        "kind": 7,
        "flags": 0x0504,
        "record_count": 2,
        "position": 1 << 40 | 5,
        "watermark": 1 << 41 | 6,
        "stream_id": 1 << 42 | 7,
        "base_ordinal": 1 << 43 | 8,
        "created_at_ms": 1 << 44 | 9,
        "producer_epoch": 1 << 45 | 10,
        "producer_seq": 1 << 46 | 11,
        "fields_length": 3,
        "payload_length": 6,
    }
    ends, payload = batch.join_records([b"ab", b"cdef"], False)
    made = batch.Batch(
        values["kind"], values["flags"], 0, 0, values["stream_id"], values["base_ordinal"],
        values["created_at_ms"], values["producer_epoch"], values["producer_seq"], ends, b"xyz",
        payload,
    )  # fmt: skip
    data = bytearray(batch.encode_batch(made, values["position"], values["watermark"]))
    native.seal_batches(data)
    values["length"] = len(data)
    drawn = {slot.name: slot for slot in slots("batch-header")}
    assert set(drawn) == {*values, "crc32c"}
    for name, value in values.items():
        slot = drawn[name]
        got = int.from_bytes(data[slot.offset : slot.offset + slot.size], "little")
        assert got == value, name
    assert int.from_bytes(data[:4], "little") == native.crc32c(bytes(data[4:]))
    rest = data[batch.HEADER_BYTES :]
    assert rest[:8] == (2).to_bytes(4, "little") + (6).to_bytes(4, "little")
    assert rest[8:17] == b"xyzabcdef"
    assert not any(rest[17:])


def test_c_has_the_fields_where_they_are_drawn() -> None:
    text = LAYOUT_IN_C.read_text(encoding="utf-8")
    in_c = {name.lower(): int(at) for name, at in re.findall(r"AT_(\w+) = (\d+)", text)}
    drawn = {slot.name.replace("crc32c", "crc"): slot.offset for slot in slots("batch-header")}
    assert in_c
    assert {name: drawn[name] for name in in_c} == in_c
    last = slots("batch-header")[-1]
    assert last.offset + last.size == native.BATCH_HEADER_BYTES


def test_kinds_flags_and_tags_have_the_numbers_written() -> None:
    assert {row[1]: int(row[0]) for row in table("batch-kinds")} == {
        kind.name: kind.value for kind in batch.Kind
    }
    assert {row[1]: int(row[0]) for row in table("batch-flags")} == {
        name: value for name, value in vars(batch.Flag).items() if name.isupper()
    }
    assert {row[1]: int(row[0]) for row in table("fields")} == {
        tag.name: tag.value for tag in fields.Tag
    }


def test_checksums_cover_what_is_written() -> None:
    def covered(name: str) -> str:
        return {slot.name: slot.value for slot in slots(name)}["crc32c"]

    header = segment.encode_header(bytes(range(16)), 3, 65536)
    first, last = map(int, re.findall(r"\d+", covered("segment-header")))
    assert int.from_bytes(header[12:16], "little") == native.crc32c(header[first:last])
    assert len(header) == SEGMENT_HEADER_BYTES == 4096
    from_byte = int(re.findall(r"\d+", covered("index-header"))[0])
    index = offset_index.MemoryIndex().encode(1, 4096)
    assert int.from_bytes(index[12:16], "little") == native.crc32c(index[from_byte:])
    assert offset_index.HEADER_BYTES == 64


def test_the_manifest_has_the_keys_written() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    section = text.partition("## Manifest")[2].partition("\n## ")[0]
    keys = [row.split("|")[1].strip() for row in section.splitlines() if row.startswith("| ")]
    assert keys[1:] == list(manifest.Manifest.__struct_fields__)
    assert f"| format | integer | {manifest.FORMAT} |" in section
