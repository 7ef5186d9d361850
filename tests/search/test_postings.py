"""The roaring bitmaps of the C helpers against the reference library."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from tailrace.search.native_score import decode_bitmap, encode_bitmap

SHAPES = {
    "empty": [],
    "one": [7],
    "array": list(range(0, 9000, 3)),
    "largest array": list(range(0, 8192, 2)),
    "bitmap": list(range(0, 60_000, 2)),
    "run": list(range(10, 60_000)),
    "full": list(range(65_536)),
    "all kinds": [
        *range(0, 9000, 3),
        *range(65_536, 65_536 + 60_000, 2),
        *range(3 * 65_536, 3 * 65_536 + 5000),
    ],
    "many windows": [k * 65_536 + 5 for k in range(9)],
    "many windows with runs": [k * 65_536 + i for k in range(9) for i in range(50)],
    "the last id": [2**32 - 1],
}


def kinds(ids: list[int]) -> BitMap:
    bitmap = BitMap(ids)
    bitmap.run_optimize()
    return bitmap


def test_shapes_are_written_as_the_library_reads_them() -> None:
    for name, ids in SHAPES.items():
        assert list(BitMap.deserialize(encode_bitmap(ids))) == ids, name


def test_shapes_are_read_as_the_library_writes_them() -> None:
    for name, ids in SHAPES.items():
        plain = BitMap(ids).serialize()
        runs = kinds(ids).serialize()
        assert decode_bitmap(plain, len(ids)) == ids, name
        assert decode_bitmap(runs, len(ids)) == ids, name


def test_each_container_takes_its_smallest_kind() -> None:
    for name, ids in SHAPES.items():
        assert len(encode_bitmap(ids)) <= len(kinds(ids).serialize()), name


@given(
    st.sets(st.integers(0, 300_000), max_size=300), st.integers(0, 250_000), st.integers(0, 9000)
)
def test_any_set_goes_there_and_back(some: set[int], start: int, length: int) -> None:
    ids = sorted(some | set(range(start, start + length)))
    data = encode_bitmap(ids)
    assert list(BitMap.deserialize(data)) == ids
    assert decode_bitmap(data, len(ids)) == ids
    if ids:
        assert decode_bitmap(data, len(ids) - 1) is None
    assert decode_bitmap(data + b"\0", len(ids)) is None
    assert decode_bitmap(data[:-1], len(ids)) is None


@settings(max_examples=300)
@given(st.sampled_from(sorted(SHAPES)), st.data())
def test_damaged_bytes_are_refused_or_another_set(name: str, data: st.DataObject) -> None:
    raw = bytearray(kinds(SHAPES[name]).serialize())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, min(len(raw), 600) - 1))] = data.draw(st.integers(0, 255))
    ids = decode_bitmap(bytes(raw), 1 << 20)
    if ids is not None:
        assert ids == sorted(set(ids))
