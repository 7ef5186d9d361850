"""Bytes on disk, there and back: whole, cut at every byte, with bytes behind, damaged."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from tailrace import Corrupted, Producer, Snapshot, StreamKey, UnsupportedFormat, native
from tailrace.batch import (
    HEADER_BYTES,
    Batch,
    Flag,
    Kind,
    decode_batch,
    encode_batch,
    join_records,
    padded_bytes,
    split_records,
)
from tailrace.catalog import BucketState, Catalog
from tailrace.checkpoint import BadCheckpoint, decode_checkpoint, encode_checkpoint
from tailrace.fields import REPEATED, BadFields, Tag, decode_fields, encode_fields
from tailrace.manifest import FORMAT, Manifest, decode_manifest, encode_manifest
from tailrace.offset_index import BadIndex, MappedIndex, MemoryIndex, Run
from tailrace.producer import ProducerState
from tailrace.segment import check_header, encode_header
from tailrace.stream import StreamConfig, StreamState

U64 = st.integers(0, 2**64 - 1)


def cut_and_lengthened(data: bytes) -> list[bytes]:
    """``data`` cut at every byte, and with bytes behind it."""
    step = max(1, len(data) // 400)
    return [data[:end] for end in range(0, len(data), step)] + [data + b"\0", data + data]


def flipped(data: bytes) -> list[bytes]:
    step = max(1, len(data) // 300)
    made = []
    for at in range(0, len(data), step):
        copy = bytearray(data)
        copy[at] ^= 1 << at % 8
        made.append(bytes(copy))
    return made


# ---- fields


@given(st.dictionaries(st.sampled_from(Tag), st.binary(max_size=50)))
def test_fields_come_back(values: dict[Tag, bytes]) -> None:
    items = sorted(values.items())
    data = encode_fields(items)
    assert decode_fields(data) == items
    assert decode_fields(memoryview(data)) == items


def test_fields_cut_anywhere_are_refused_or_whole() -> None:
    items = [(Tag.BUCKET, b"alpha"), (Tag.TTL_MS, bytes(8)), (Tag.METADATA, b"")]
    data = encode_fields(items)
    boundaries = {len(encode_fields(items[:n])): items[:n] for n in range(4)}
    for end in range(len(data) + 1):
        if end in boundaries:
            assert decode_fields(data[:end]) == boundaries[end]
        else:
            with pytest.raises(BadFields):
                decode_fields(data[:end])


@pytest.mark.parametrize(
    "tags",
    [[1, 1], [2, 1], [0], [20], [65535], [40, 39]],
)
def test_fields_twice_out_of_order_or_unknown_are_refused(tags: list[int]) -> None:
    data = b"".join(tag.to_bytes(2, "little") + bytes(4) for tag in tags)
    with pytest.raises(BadFields):
        decode_fields(data)


def test_only_repeated_fields_may_repeat() -> None:
    assert {Tag.PRODUCER} == REPEATED
    items = [(Tag.PRODUCER, b"a"), (Tag.PRODUCER, b"b")]
    assert decode_fields(encode_fields(items)) == items


# ---- batches


records = st.lists(st.binary(max_size=60), max_size=8)


def sealed(batch: Batch, position: int) -> bytearray:
    data = bytearray(encode_batch(batch, position, batch.watermark))
    assert native.seal_batches(data) == 1
    return data


@given(
    records, st.booleans(), st.binary(max_size=40), st.sampled_from(Kind), U64, U64, U64, U64, U64
)
def test_batches_come_back(
    records: list[bytes], is_json: bool, fields: bytes, kind: Kind, stream_id: int,
    base: int, created: int, epoch: int, seq: int,
) -> None:  # fmt: skip
    ends, payload = join_records(records, is_json)
    flags = Flag.JSON if is_json else 0
    batch = Batch(
        int(kind), flags, 8192, 4096, stream_id, base, created, epoch, seq, ends, fields,
        payload,
    )  # fmt: skip
    data = sealed(batch, 8192)
    assert len(data) == padded_bytes(len(records), len(fields), len(payload))
    assert len(data) % 8 == 0
    got = decode_batch(memoryview(data))
    assert got._replace(payload=bytes(got.payload)) == batch
    assert split_records(got.payload, got.ends, is_json) == records
    assert len(got.ends) == len(records)


def example_batch(position: int = 8192) -> bytearray:
    ends, payload = join_records([b"first", b"", b"third one"], False)
    fields = encode_fields([(Tag.PRODUCER_ID, "p")])
    batch = Batch(1, 4, position, 4096, 7, 3, 1_700_000_000_000, 1, 2, ends, fields, payload)
    return sealed(batch, position)


def test_a_batch_is_checked_in_its_place_only() -> None:
    data = example_batch()
    view = native.View(memoryview(data))
    assert view.check(0, 8192) == native.BATCH_OK
    assert view.check(0, 8200) == native.BATCH_BAD
    assert view.check(8, 8192) == native.BATCH_BAD


def test_a_batch_cut_at_any_byte_is_bad() -> None:
    data = bytes(example_batch())
    for end in range(1, len(data)):
        view = native.View(memoryview(data[:end]))
        assert view.check(0, 8192) == native.BATCH_BAD
        assert list(view.scan(0, 8192)) == []


def test_a_batch_with_any_bit_flipped_is_bad() -> None:
    data = example_batch()
    for at in range(len(data)):
        for bit in range(8):
            data[at] ^= 1 << bit
            assert native.View(memoryview(bytes(data))).check(0, 8192) == native.BATCH_BAD
            data[at] ^= 1 << bit


def test_batches_are_scanned_until_something_else() -> None:
    first = example_batch(4096)
    second = example_batch(4096 + len(first))
    data = bytes(first) + bytes(second) + bytes(200)
    view = native.View(memoryview(data))
    refs = list(view.scan(0, 4096))
    assert [ref.offset for ref in refs] == [0, len(first)]
    assert all(ref.stream_id == 7 and ref.record_count == 3 for ref in refs)
    assert view.check(len(first) + len(second), 4096) == native.BATCH_ZERO
    assert view.find(1, 4096) == len(data), "offsets of batches are multiples of 8"
    assert view.find(8, 4096) == len(first)
    assert view.find(len(first) + 8, 4096) == len(data)
    assert view.nonzero_end(0) <= len(first) + len(second)
    assert view.nonzero_end(len(data) - 8) == len(data) - 8


def test_a_batch_that_claims_a_huge_length_is_bad() -> None:
    for at, size in ((4, 4), (12, 4), (72, 4), (76, 4)):
        data = example_batch()
        data[at : at + size] = b"\xff" * size
        assert native.View(memoryview(bytes(data))).check(0, 8192) == native.BATCH_BAD
        assert native.seal_batches(data) in (0, 1)


@given(st.binary(max_size=300), st.integers(0, 2**64 - 1))
def test_no_bytes_crash_the_scanner(data: bytes, base: int) -> None:
    view = native.View(memoryview(data))
    for offset in range(0, len(data) + 16, 8):
        assert view.check(offset, base) in (native.BATCH_BAD, native.BATCH_ZERO)
    assert list(view.scan(0, base)) == []
    assert view.find(0, base) == len(data)
    assert native.seal_batches(bytearray(data)) >= 0


@given(st.binary(max_size=2000), st.integers(0, 2**32 - 1))
def test_crc32c_by_instruction_and_by_table_agree(data: bytes, start: int) -> None:
    assert native.crc32c(data, start) == native.crc32c_portable(data, start)
    middle = len(data) // 3
    assert native.crc32c(data[middle:], native.crc32c(data[:middle])) == native.crc32c(data)


def test_crc32c_is_rfc_3720s() -> None:
    assert native.crc32c(bytes(32)) == 0x8A9136AA
    assert native.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert native.crc32c(bytes(range(32))) == 0x46DD794E
    assert native.crc32c(b"123456789") == 0xE3069283
    assert HEADER_BYTES == 80


# ---- checkpoints


def example_catalog() -> Catalog:
    catalog = Catalog()
    catalog.buckets["alpha"] = BucketState("alpha", 5, 2)
    catalog.buckets["empty"] = BucketState("empty", 6, 0)
    plain = StreamConfig(
        3, StreamKey("alpha", "plain"), "text/plain", False, None, None, False, False, 7, None,
        None, 0, 0, 0,
    )  # fmt: skip
    fork = StreamConfig(
        4, StreamKey("alpha", "förk"), "application/json; x=y", True, 60_000, None, True, True, 8,
        3, StreamKey("alpha", "plain"), 9, 2, 11,
    )  # fmt: skip
    expiring = fork._replace(
        stream_id=9, key=StreamKey("alpha", "gone"), ttl_ms=None, expires_at_ms=99, source_id=None,
        source_key=None, base=0, fork_ordinal=0, fork_sub_offset=0,
    )  # fmt: skip
    producers = Map({"p": ProducerState(1, 2), "ü" * 100: ProducerState(2**53 - 1, 0)})
    states = [
        StreamState(plain, 12, 4, True, 70, 71, "seq", producers, Producer("p", 1, 2), b"\0meta", 2,
                    False, False, Snapshot(5, b"d" * 32, 2**40, "text/x; a=b", 2**64 - 1), None),
        StreamState(fork, 20, 4, False, 80, 90, None, Map(), None, b"", 0, False, False, None,
                    None),
        StreamState(expiring, 0, 0, False, 1, 1, None, Map(), None, b"", 1, True, True, None,
                    None),
    ]  # fmt: skip
    for state in states:
        catalog.streams[state.config.stream_id] = state
        if not state.detached:
            catalog.names[state.config.key] = state.config.stream_id
    catalog.next_stream_id = 77
    return catalog


def test_a_checkpoint_comes_back() -> None:
    catalog = example_catalog()
    got = decode_checkpoint(encode_checkpoint(catalog, 12345), 12345)
    assert got.buckets == catalog.buckets
    assert got.names == catalog.names
    assert got.streams == catalog.streams
    assert got.next_stream_id == 77
    empty = decode_checkpoint(encode_checkpoint(Catalog(), 1), 1)
    assert (empty.streams, empty.buckets, empty.next_stream_id) == ({}, {}, 1)


@pytest.mark.parametrize("damage", [cut_and_lengthened, flipped])
def test_a_checkpoint_that_is_not_whole_is_refused(damage: Callable[[bytes], list[bytes]]) -> None:
    data = encode_checkpoint(example_catalog(), 12345)
    for bad in damage(data):
        with pytest.raises(BadCheckpoint):
            decode_checkpoint(bad, 12345)
    with pytest.raises(BadCheckpoint):
        decode_checkpoint(data, 12346)


# ---- manifest


def example_manifest() -> Manifest:
    return Manifest(1, "ab" * 16, 65536, (0, 2, 2**40), (123, 99))


def test_a_manifest_comes_back() -> None:
    manifest = example_manifest()
    assert decode_manifest(encode_manifest(manifest)) == manifest
    assert manifest.store_id_bytes == b"\xab" * 16


@pytest.mark.parametrize("damage", [cut_and_lengthened, flipped])
def test_a_manifest_that_is_not_whole_is_refused(damage: Callable[[bytes], list[bytes]]) -> None:
    for bad in damage(encode_manifest(example_manifest())):
        with pytest.raises(Corrupted) as caught:
            decode_manifest(bad)
        assert caught.value.file == "MANIFEST"


def signed(line: bytes) -> bytes:
    return line + b"\n%08x\n" % native.crc32c(line)


def test_a_manifest_of_another_format_is_unsupported() -> None:
    with pytest.raises(UnsupportedFormat, match=f"format {FORMAT + 1}"):
        decode_manifest(signed(b'{"format":%d,"anything":[]}' % (FORMAT + 1)))


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[]", b'{"format":"1"}', b'{"format":1}', b"\xff",
     b'{"format":1,"store_id":"00","segment_bytes":1,"segments":[],"checkpoints":[],"more":1}'],
)  # fmt: skip
def test_a_manifest_with_a_right_checksum_and_wrong_content_is_refused(line: bytes) -> None:
    with pytest.raises(Corrupted):
        decode_manifest(signed(line))


# ---- offset index


def example_index() -> MemoryIndex:
    index = MemoryIndex()
    assert index.add(9, 100, 3, 4096)
    assert index.add(2, 0, 1, 4200)
    assert not index.add(9, 103, 1, 4300)
    assert index.add(2**60, 5, 2, 4400)
    return index


def test_an_index_comes_back() -> None:
    index = example_index()
    mapped = MappedIndex(memoryview(index.encode(6, 5000)), 6)
    assert mapped.data_end == 5000
    assert sorted(mapped.runs()) == sorted(index.runs())
    assert sorted(mapped.runs()) == [Run(2, 0, 1), Run(9, 100, 4), Run(2**60, 5, 2)]
    for stream_id, first, count in index.runs():
        for ordinal in range(first, first + count):
            for most in (1, 2, 100):
                expected = index.entries(stream_id, ordinal, most)
                assert mapped.entries(stream_id, ordinal, most) == expected
    assert mapped.entries(9, 101, 100) == array("I", [4096, 4096, 4300])
    empty = MappedIndex(memoryview(MemoryIndex().encode(1, 4096)), 1)
    assert list(empty.runs()) == []


@pytest.mark.parametrize("damage", [cut_and_lengthened, flipped])
def test_an_index_that_is_not_whole_is_refused(damage: Callable[[bytes], list[bytes]]) -> None:
    data = example_index().encode(6, 5000)
    for bad in damage(data):
        with pytest.raises(BadIndex):
            MappedIndex(memoryview(bad), 6)
    with pytest.raises(BadIndex):
        MappedIndex(memoryview(data), 7)


# ---- segment headers


def test_a_segment_header_is_held_to_every_byte() -> None:
    store_id = bytes(range(16))
    header = encode_header(store_id, 5, 65536)
    assert len(header) == 4096
    check_header(header, "log/x", store_id, 5, 65536)
    for at in [*range(60), 100, 4095]:
        bad = bytearray(header)
        bad[at] ^= 0x10
        with pytest.raises((Corrupted, UnsupportedFormat)):
            check_header(bytes(bad), "log/x", store_id, 5, 65536)
    for other in ((bytes(16), 5, 65536), (store_id, 6, 65536), (store_id, 5, 131072)):
        with pytest.raises(Corrupted):
            check_header(header, "log/x", *other)
    with pytest.raises(Corrupted):
        check_header(header[:4095], "log/x", store_id, 5, 65536)
