"""``repair`` makes a manifest and files of segments again where it can, and says where not."""

from __future__ import annotations

import pytest

import tailrace
from tailrace import Corrupted, NoStore, filenames
from tailrace.check import check
from tailrace.limits import SEGMENT_HEADER_BYTES
from tailrace.manifest import decode_manifest
from tailrace.native import View
from tailrace.repair import repair
from tailrace.segment import create_segment
from tests.engine.crash_lab import OPTIONS, open_store
from tests.engine.faulty_storage import DROPPED, KEPT, Crash, FaultyStorage
from tests.engine.test_bit_flips import Sample, batches, sample, seen_of, segments
from tests.engine.test_repair import read_each
from tests.engine.workload import KEYS, Clock


def image_of(of: Sample) -> FaultyStorage:
    return of.disk.image(DROPPED)


def is_whole(of: Sample, image: FaultyStorage) -> None:
    """Every stream is what it was."""
    store = open_store(image, Clock(of.now_ms))
    for key in KEYS:
        assert seen_of(store, key) == of.wanted.get(key), key
    store.close()


def resize(image: FaultyStorage, name: str, length: int) -> None:
    file = image.open(name, writable=True)
    file.truncate(length)
    file.sync()
    file.close()


# --- the manifest


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("loss", ["gone", "empty", "flipped"])
def test_a_manifest_is_made_again_and_nothing_is_lost(closed: bool, loss: str) -> None:
    of = sample(closed)
    image = image_of(of)
    before = bytes(image.content("MANIFEST"))
    if loss == "gone":
        image.remove("MANIFEST")
    elif loss == "empty":
        resize(image, "MANIFEST", 0)
    else:
        image.damage("MANIFEST", 20, 1)
    with pytest.raises(Corrupted) as refused:
        check("/nowhere", storage=image)
    assert refused.value.mendable
    image = image.image(DROPPED)
    report = repair("/nowhere", storage=image)
    assert len(report.remade) == 1 and "manifest" in report.remade[0]
    assert not report.lost
    image = image.image(DROPPED)
    assert decode_manifest(bytes(image.content("MANIFEST"))) == decode_manifest(before)
    assert ("damaged/MANIFEST" in image.names()) == (loss != "gone")
    assert check("/nowhere", storage=image).ok
    is_whole(of, image.image(DROPPED))


def test_files_that_did_not_count_may_be_in_a_manifest_made_again() -> None:
    """What a crash leaves: an empty segment that was not named yet."""
    of = sample(True)
    image = image_of(of)
    number = len(segments(image))
    store_id = decode_manifest(bytes(image.content("MANIFEST"))).store_id_bytes
    create_segment(image, store_id, number, OPTIONS.segment_bytes)
    image.remove("MANIFEST")
    repair("/nowhere", storage=image)
    is_whole(of, image.image(DROPPED))


def test_a_manifest_is_not_made_up() -> None:
    """Beside the manifest a segment that is replayed, or every checkpoint of a part of a log."""
    of = sample(False, checkpoints=False)
    image = image_of(of)
    image.remove("MANIFEST")
    image.remove(segments(image)[1])
    steps = image.steps
    with pytest.raises(Corrupted) as refused:
        repair("/nowhere", storage=image)
    assert not refused.value.mendable
    assert "MANIFEST" not in image.names() and image.steps == steps


@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.parametrize("gone", [2, 3, 4])
def test_a_manifest_is_not_made_of_a_log_that_ends_before_a_checkpoint(
    gone: int, readable: bool
) -> None:
    """Else the store would open without what it acknowledged, and nothing would say so."""
    of = sample(True)
    image = image_of(of)
    newest, _ = decode_manifest(bytes(image.content("MANIFEST"))).checkpoints
    for name in segments(image)[-gone:]:
        image.remove(name)
    image.remove("MANIFEST")
    if not readable:
        image.damage(filenames.checkpoint(newest), 100, 4)
    with pytest.raises(Corrupted) as refused:
        repair("/nowhere", storage=image)
    assert not refused.value.mendable
    assert "MANIFEST" not in image.names()


@pytest.mark.parametrize("manifest", [True, False])
def test_a_checkpoint_before_a_segment_that_is_not_there_yet_is_no_damage(manifest: bool) -> None:
    """Where a repair gave up the last batch, it sealed the segment, and nothing came after."""
    image = FaultyStorage()
    clock = Clock()
    store = open_store(image, clock)
    store.create_bucket("bucket")
    for name in ("a", "b"):
        store.create(("bucket", name))
        store.append(("bucket", name), [b"record"])
    store.close()
    (end,) = decode_manifest(bytes(image.content("MANIFEST"))).checkpoints
    image = image.image(DROPPED)
    image.damage(segments(image)[0], end - 20, 8)
    assert len(repair("/nowhere", storage=image).lost) == 1
    image = image.image(DROPPED)
    open_store(image, clock).close()
    image = image.image(DROPPED)
    newest, _ = decode_manifest(bytes(image.content("MANIFEST"))).checkpoints
    assert newest == OPTIONS.segment_bytes + SEGMENT_HEADER_BYTES and len(segments(image)) == 1
    if not manifest:
        image.remove("MANIFEST")
    report = repair("/nowhere", storage=image)
    assert len(report.remade) == (not manifest) and not report.lost
    store = open_store(image.image(DROPPED), clock)
    assert [store.head(("bucket", name)).tail for name in ("a", "b")] == [1, 1]
    store.close()


def test_a_store_whose_log_is_gone_is_not_taken_for_none() -> None:
    of = sample(True)
    image = image_of(of)
    image.remove("MANIFEST")
    for name in segments(image):
        image.remove(name)
    names = image.names()
    with pytest.raises(Corrupted) as refused:
        open_store(image, Clock())
    assert not refused.value.mendable
    with pytest.raises(Corrupted):
        repair("/nowhere", storage=image.image(DROPPED))
    assert image.names() == names


def test_a_directory_without_a_store_is_told_from_a_damaged_one() -> None:
    for tool in (check, repair):
        empty = FaultyStorage()
        with pytest.raises(NoStore):
            tool("/nowhere", storage=empty)
        assert empty.names() == []
    with pytest.raises(NoStore):
        tailrace.open("/nowhere", storage=FaultyStorage(), must_exist=True)


# --- segments


@pytest.mark.parametrize("closed", [True, False])
def test_a_damaged_segment_header_is_written_again_and_nothing_is_lost(closed: bool) -> None:
    of = sample(closed)
    for name in segments(image_of(of)):
        for at in (0, 14, 20, 35, 44, 60):
            image = image_of(of)
            image.damage(name, at, 4)
            try:
                report = repair("/nowhere", storage=image)
            except tailrace.UnsupportedFormat:
                assert at == 8
                continue
            assert len(report.remade) == 1 and name in report.remade[0]
            assert not report.lost and len(report.saved) == 1
            is_whole(of, image.image(DROPPED))


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("left", [None, 0, 100, SEGMENT_HEADER_BYTES, 20_000, 40_001])
def test_of_a_segment_that_is_gone_or_cut_only_its_own_records_are_lost(
    closed: bool, left: int | None
) -> None:
    of = sample(closed)
    names = segments(image_of(of))
    for name in names[1:]:  # the first one has the buckets, if no checkpoint has
        image = image_of(of)
        if left is None:
            image.remove(name)
        else:
            resize(image, name, left)
        assert not check("/nowhere", storage=image).ok
        image = image.image(DROPPED)
        report = repair("/nowhere", storage=image)
        assert any(name in message for message in report.remade)
        image = image.image(DROPPED)
        assert len(image.content(name)) == OPTIONS.segment_bytes
        held = lost_ordinals(of, name, 0 if left is None else left)
        store = open_store(image, Clock(of.now_ms))
        for key in KEYS:
            wanted = of.wanted.get(key)
            if wanted is None or wanted == "gone":
                continue
            try:
                head = store.head(key)
            except tailrace.Rejected:
                continue  # its creation was in that segment
            if head.created_at_ms != wanted["created_at_ms"]:
                continue
            found, _ = read_each(store, key)
            whole = dict(enumerate(wanted["records"], wanted["start"]))
            assert all(found[at] == record for at, record in whole.items() if at in found)
            assert set(whole) - set(found) <= held, "what other segments hold is there"
        store.perform(tailrace.CreateBucket("after-repair"), 60)
        store.close()
        assert open_store(image.image(DROPPED), Clock(of.now_ms)).bucket("after-repair")


def lost_ordinals(of: Sample, name: str, left: int) -> set[int]:
    """The ordinals, of any stream, of the records that stand behind byte ``left``."""
    image = image_of(of)
    content = bytes(image.content(name))
    number = filenames.segment_number(name.rpartition("/")[2])
    assert number is not None
    view = View(memoryview(content))
    ends = {offset: offset + length for offset, length in batches(image, name)}
    return {
        ref.base_ordinal + i
        for ref in view.scan(SEGMENT_HEADER_BYTES, number * OPTIONS.segment_bytes)
        if ends[ref.offset] > left
        for i in range(ref.record_count)
    }


def test_a_segment_of_another_store_is_left_alone() -> None:
    of, other = sample(True), sample(False)
    image = image_of(of)
    name = segments(image)[1]
    alien = bytearray(image_of(other).content(name))
    file = image.open(name, writable=True)
    file.pwrite(alien[:SEGMENT_HEADER_BYTES], 0)
    file.sync()
    file.close()
    with pytest.raises(Corrupted, match="belongs to another store") as refused:
        repair("/nowhere", storage=image)
    assert not refused.value.mendable
    assert image.content(name)[:SEGMENT_HEADER_BYTES] == alien[:SEGMENT_HEADER_BYTES]


def test_a_repair_that_is_cut_off_is_finished_by_the_next() -> None:
    of = sample(True)
    name = segments(image_of(of))[1]
    broken = image_of(of)
    broken.remove("MANIFEST")
    broken.damage(name, 0, 1)
    total = broken.image(DROPPED)
    repair("/nowhere", storage=total)
    assert total.steps > 10
    for mode in (DROPPED, KEPT):
        for step in range(1, total.steps + 1):
            image = broken.image(DROPPED)
            image.crash_at = step
            with pytest.raises(Crash):
                repair("/nowhere", storage=image)
            left = image.image(mode)
            repair("/nowhere", storage=left)
            is_whole(of, left.image(DROPPED))
