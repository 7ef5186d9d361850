"""Reads for sending give the bytes of plain reads, checked as they are, in bounded memory."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import tailrace
from tailrace import limits
from tailrace._native import ffi, lib
from tailrace.errors import Corrupted, InvalidArgument, Rejected

MIB = 1024 * 1024
TEXT = ("buck", "text")
JSON = ("buck", "json")
PAGES = [1, 100, 5000, 16 * 1024, 65_536, 300_000, MIB, 5 * MIB]


@pytest.fixture
def chance() -> random.Random:
    return random.Random(20)


@pytest.fixture
def store(tmp_path: Path, chance: random.Random) -> Iterator[tailrace.Store]:
    """Two streams in turns, batches of every shape, many segments."""
    options = tailrace.Options(segment_bytes=MIB)
    with tailrace.open(tmp_path / "data", options=options) as store:
        store.create_bucket("buck")
        store.create(TEXT, content_type="text/plain")
        store.create(JSON, content_type="application/json")
        for _ in range(300):
            count = chance.choice([1, 1, 3, 20, 200])
            size = chance.choice([1, 10, 300, 3000, 20_000, 100_000] if count < 20 else [1, 300])
            record = b'"' + bytes([chance.randrange(97, 123)]) * size + b'"'
            store.append(chance.choice([TEXT, JSON]), [record] * count)
        yield store


def payload_of(found: tailrace.ReadPieces | tailrace.ReadResult) -> bytes:
    return b"".join(found.pieces)


def check_alike(store: tailrace.Store, key: tuple[str, str], ordinal: int, page: int) -> bool:
    """Read in both ways. The one for sending may end at a batch that does not fit, if half full.

    Whether there was something to read.
    """
    sent = store.read_pieces(key, ordinal, max_bytes=page)
    plain = store.read(key, ordinal, max_bytes=page, stop=sent.next)
    assert (sent.first, sent.next, sent.tail) == (plain.first, plain.next, plain.tail)
    assert (sent.closed, sent.up_to_date) == (plain.closed, plain.up_to_date)
    assert payload_of(sent) == payload_of(plain) == bytes(plain.payload)
    if not sent.up_to_date and len(payload_of(sent)) < page // 2:
        more = store.read(key, ordinal, max_bytes=page, max_records=sent.count + 1)
        assert more.count == sent.count  # it would have been too much
    return sent.count > 0


def test_the_bytes_are_those_of_a_plain_read(store: tailrace.Store, chance: random.Random) -> None:
    for key in (TEXT, JSON):
        tail = store.head(key).tail
        found = [
            check_alike(store, key, chance.randrange(tail + 2), chance.choice(PAGES))
            for _ in range(300)
        ]
        assert sum(found) > 250


def test_a_near_read_gives_the_same_or_nothing(
    store: tailrace.Store, chance: random.Random
) -> None:
    given = 0
    for key in (TEXT, JSON):
        tail = store.head(key).tail
        for _ in range(200):
            ordinal, page = chance.randrange(tail + 2), chance.choice(PAGES)
            near = store.pieces_near(key, ordinal, max_bytes=page)
            if near is None:
                continue
            plain = store.read_pieces(key, ordinal, max_bytes=page)
            assert (near.first, near.next, near.tail) == (plain.first, plain.next, plain.tail)
            assert payload_of(near) == payload_of(plain)
            given += 1
    assert given > 200


def evict(directory: Path) -> None:
    """Have the kernel forget what it holds of the log, where nobody has it mapped."""
    for path in (directory / "log").glob("*.segment"):
        with path.open("r+b") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_a_near_read_does_not_wait_for_a_disk(tmp_path: Path) -> None:
    """Of old segments it looks what is in memory; what is not is for another thread to read."""
    options = tailrace.Options(segment_bytes=MIB)
    with tailrace.open(tmp_path / "data", options=options) as store:
        store.create_bucket("buck")
        store.create(TEXT, content_type="text/plain")
        for _ in range(5):
            store.append(TEXT, [b"x" * 1000] * 900)
        assert store.pieces_near(TEXT, 0) is not None
        store._core.upkeep.checkpoint()
        for segment in store._core.log.segments.values():
            segment.release(0, segment.segment_bytes)
        evict(tmp_path / "data")
        if is_in_memory(store):
            pytest.skip("this file system keeps what it is told to forget")
        assert store.pieces_near(TEXT, 0) is None
        read = store.read_pieces(TEXT, 0)
        near = store.pieces_near(TEXT, 0)
        assert near is not None
        assert payload_of(near) == payload_of(read)


def is_in_memory(store: tailrace.Store) -> bool:
    """Whether the first segment's batches are in memory."""
    data = store._core.log.segments[0].data
    start, stop = limits.SEGMENT_HEADER_BYTES, MIB // 2
    return bool(lib.tr_map_resident(ffi.from_buffer(data), start, stop))


def test_a_near_read_verifies_no_more_than_it_may(tmp_path: Path) -> None:
    with tailrace.open(tmp_path / "data") as store:
        store.create_bucket("buck")
        store.create(TEXT, content_type="text/plain")
        store.append(TEXT, [b"x" * 1000] * (limits.READ_NEAR_BYTES_MAX // 1000))
        assert store.pieces_near(TEXT, 0) is None
        assert store.pieces_near(TEXT, 0, max_bytes=1) is None
        assert store.pieces_near(TEXT, store.head(TEXT).tail) is not None
        assert store.read_pieces(TEXT, 0).count > 1000


def test_a_page_ends_before_a_batch_that_does_not_fit(tmp_path: Path) -> None:
    """Or every page would verify twice what it has room for."""
    with tailrace.open(tmp_path / "data") as store:
        store.create_bucket("buck")
        store.create(TEXT, content_type="text/plain")
        for _ in range(3):
            store.append(TEXT, [b"x" * 1000] * 1000)
        assert store.read_pieces(TEXT, 0, max_bytes=MIB).next == 1000
        assert store.read_pieces(TEXT, 0, max_bytes=2_200_000).next == 2000
        assert store.read_pieces(TEXT, 900, max_bytes=MIB).next > 1900


def test_a_fork_reads_its_source_below_its_point(
    store: tailrace.Store, chance: random.Random
) -> None:
    tail = store.head(TEXT).tail
    fork = ("buck", "fork")
    store.fork(fork, TEXT, ordinal=tail // 2)
    store.append(fork, [b"own" * 10_000, b"short"])
    for _ in range(50):
        check_alike(store, fork, chance.randrange(tail // 2 + 3), chance.choice(PAGES))


def test_what_is_large_is_not_copied(tmp_path: Path) -> None:
    with tailrace.open(tmp_path / "data") as store:
        store.create_bucket("buck")
        store.create(TEXT, content_type="text/plain")
        large = b"x" * limits.READ_MAPPED_RUN_BYTES_MIN
        for record in (b"a", b"b", large, b"c"):
            store.append(TEXT, [record])
        pieces = store.read_pieces(TEXT, 0).pieces
        assert [bytes(piece) for piece in pieces] == [b"ab", large, b"c"]
        assert [piece.readonly for piece in pieces] == [False, True, False]


def told(store: tailrace.Store, key: tuple[str, str], *, pieces: bool) -> bool:
    """Whether a read of the whole stream tells of damage, once it gave what stands before."""
    read = store.read_pieces if pieces else store.read
    ordinal, tail = 0, store.head(key).tail
    try:
        while ordinal < tail:
            ordinal = read(key, ordinal, max_bytes=200 * MIB).next
    except Corrupted as error:
        return error.ordinal == ordinal
    return False


def test_damage_is_seen_in_every_byte(
    store: tailrace.Store, tmp_path: Path, chance: random.Random
) -> None:
    """A flipped byte, in the file that is mapped, is told by both reads alike."""
    seen = 0
    segments = sorted((tmp_path / "data" / "log").glob("*.segment"))
    for path in segments[:3]:
        with path.open("r+b", buffering=0) as file:
            for _ in range(15):
                place = chance.randrange(limits.SEGMENT_HEADER_BYTES, MIB * 9 // 10)
                file.seek(place)
                old = file.read(1)
                file.seek(place)
                file.write(bytes([old[0] ^ 1 << chance.randrange(8)]))
                for key in (TEXT, JSON):
                    seen += told(store, key, pieces=False)
                    assert told(store, key, pieces=False) == told(store, key, pieces=True)
                file.seek(place)
                file.write(old)
    assert seen > 20


def test_pieces_stay_valid_when_their_segment_is_reclaimed(
    store: tailrace.Store, tmp_path: Path
) -> None:
    before = store.read_pieces(TEXT, 0, max_bytes=50 * MIB)
    plain = bytes(store.read(TEXT, 0, max_bytes=50 * MIB).payload)
    for key in (TEXT, JSON):
        store.trim(key, store.head(key).tail)
    for _ in range(2):
        store.append(JSON, [b"1"])
        store._core.upkeep.checkpoint()
    store._core.upkeep.run_once()
    assert not (tmp_path / "data" / "log" / "0000000000000000.segment").exists()
    assert b"".join(before.pieces) == plain
    with pytest.raises(Rejected):
        store.read_pieces(TEXT, 0)


def test_arguments_are_checked(store: tailrace.Store) -> None:
    for bad in (0, limits.READ_BYTES_MAX + 1):
        with pytest.raises(InvalidArgument, match="max_bytes"):
            store.read_pieces(TEXT, 0, max_bytes=bad)
    with pytest.raises(InvalidArgument, match="ordinal"):
        store.read_pieces(TEXT, -1)


def resident_bytes() -> int:
    """Of this process, the mapped files' pages included."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("record_bytes", [MIB, 1000])
def test_reading_100_mb_takes_little_memory(tmp_path: Path, record_bytes: int) -> None:
    """Issue: the memory grows by less than 32 MiB; pages of the log that were read count too."""
    with tailrace.open(tmp_path / "data") as store:
        store.create_bucket("buck")
        store.create(TEXT, content_type="text/plain")
        records = [bytes([65 + n % 26]) * record_bytes for n in range(MIB // record_bytes)]
        for _ in range(100):
            store.append(TEXT, records)
        for segment in store._core.log.segments.values():
            segment.release(0, segment.segment_bytes)
        before = resident_bytes()
        highest = read = ordinal = 0
        while True:
            page = store.read_pieces(TEXT, ordinal)
            read += sum(map(len, page.pieces))
            assert all(piece[0] == piece[record_bytes - 1] for piece in page.pieces)
            highest = max(highest, resident_bytes())
            ordinal = page.next
            if page.up_to_date:
                break
        assert read == 100 * len(records) * record_bytes
        assert highest - before < 32 * MIB
