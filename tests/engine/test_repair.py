"""``check`` finds every damage and changes nothing; ``repair`` gives up no more than it must."""

from __future__ import annotations

import random

import pytest

import tailrace
from tailrace import Corrupted, RecordsLost, StreamKey, filenames
from tailrace.batch import Kind
from tailrace.check import check
from tailrace.limits import SEGMENT_HEADER_BYTES
from tailrace.manifest import decode_manifest
from tailrace.native import BATCH_HEADER_BYTES, BatchRef, View
from tailrace.repair import repair
from tests.engine.crash_lab import OPTIONS, open_store
from tests.engine.faulty_storage import DROPPED, FaultyStorage
from tests.engine.test_bit_flips import MANY, Sample, batches, sample, segments
from tests.engine.workload import KEYS, Clock


def damaged(of: Sample, name: str, position: int) -> FaultyStorage:
    image = of.disk.image(DROPPED)
    image.damage(name, position, 0x20)
    return image


def all_places(of: Sample) -> list[tuple[str, int]]:
    """A byte of each batch: of its header, or of what follows."""
    image = of.disk.image(DROPPED)
    dice = random.Random(11)
    return [
        (name, offset + dice.choice((dice.randrange(BATCH_HEADER_BYTES), dice.randrange(length))))
        for name in segments(image)
        for offset, length in batches(image, name)
    ]


def in_bucket_creation(of: Sample, name: str, position: int) -> bool:
    content = bytes(of.disk.image(DROPPED).content(name))
    base = int(name.split("/")[1].split(".", maxsplit=1)[0], 16) * len(content)
    return any(
        ref.kind == Kind.CREATE_BUCKET and ref.offset <= position < ref.offset + ref.length
        for ref in View(memoryview(content)).scan(4096, base)
    )


def test_check_of_a_sound_store_finds_nothing() -> None:
    for closed in (True, False):
        image = sample(closed).disk.image(DROPPED)
        steps = image.steps
        report = check("/nowhere", storage=image)
        assert report.ok
        assert report.damages == []
        assert report.derived_damages == []
        assert report.segments == len(segments(image))
        assert image.steps == steps, "check changed something"


def test_check_finds_a_flipped_bit_wherever_it_is() -> None:
    of = sample(True)
    places = all_places(of)
    for name, position in random.Random(12).sample(places, min(len(places), 40 * MANY)):
        image = damaged(of, name, position)
        report = check("/nowhere", storage=image)
        assert not report.ok
        (damage,) = report.damages
        base = int(name.split("/")[1].split(".")[0], 16) * OPTIONS.segment_bytes
        assert damage.file == name
        assert damage.position <= base + position < damage.position + damage.length + 8


def test_a_repaired_store_opens_and_other_streams_lost_nothing() -> None:
    of = sample(False, checkpoints=False)
    repaired = 0
    # Without a bucket's creation nothing in it can stand.
    places = [place for place in all_places(of) if not in_bucket_creation(of, *place)]
    for name, position in random.Random(13).sample(places, min(len(places), 80 * MANY)):
        image = damaged(of, name, position)
        try:
            open_store(image.image(DROPPED), Clock(of.now_ms))
            continue
        except Corrupted:
            repaired += 1
        try:
            verify_repair(of, image, [batch_at(of, name, position)])
        except BaseException as error:
            error.add_note(f"bit flipped in byte {position} of {name}")
            raise
    assert repaired > 5


def test_damage_in_many_places() -> None:
    of = sample(False, checkpoints=False)
    places = [place for place in all_places(of) if not in_bucket_creation(of, *place)]
    dice = random.Random(14)
    for _ in range(10 * MANY):
        chosen = dice.sample(places, dice.randrange(2, 12))
        image = of.disk.image(DROPPED)
        for name, position in chosen:
            image.damage(name, position, 0x20)
        try:
            verify_repair(of, image, [batch_at(of, *place) for place in chosen])
        except BaseException as error:
            error.add_note(f"bits flipped in {chosen}")
            raise


def batch_at(of: Sample, name: str, position: int) -> BatchRef:
    content = bytes(of.disk.image(DROPPED).content(name))
    base = int(name.split("/")[1].split(".", maxsplit=1)[0], 16) * len(content)
    found = View(memoryview(content)).scan(SEGMENT_HEADER_BYTES, base)
    return next(ref for ref in found if ref.offset <= position < ref.offset + ref.length)


def read_each(store: tailrace.Store, key: StreamKey) -> tuple[dict[int, bytes], set[int]]:
    """The records of a stream that can be read, by ordinal, and the ordinals of the lost."""
    head = store.head(key)
    found: dict[int, bytes] = {}
    lost: set[int] = set()
    ordinal = head.start
    while ordinal < head.tail:
        try:
            page = store.read(key, ordinal, max_bytes=3000)
        except RecordsLost as error:
            skipped = range(error.first, error.stop)
            lost |= set(skipped)
            ordinal = error.stop
            continue
        assert page.first == ordinal
        found |= {ordinal + i: bytes(record) for i, record in enumerate(page.records())}
        pieces = store.read_pieces(key, ordinal, max_bytes=3000)
        assert b"".join(pieces.pieces).startswith(page.payload)
        ordinal = page.next
    return found, lost


def verify_repair(of: Sample, image: FaultyStorage, hits: list[BatchRef]) -> None:
    report = repair("/nowhere", storage=image)
    assert report.lost
    assert len(report.saved) == len(report.lost)
    image = image.image(DROPPED)
    assert all(saved in image.names() for saved in report.saved)
    store = open_store(image, Clock(of.now_ms))
    hurt = 0
    for key in KEYS:
        wanted = of.wanted.get(key)
        try:
            found, lost = read_each(store, key)
        except tailrace.Rejected:
            hurt += wanted is not None and wanted != "gone"
            continue
        if wanted is None or wanted == "gone":
            hurt += 1  # its deletion was what was lost
            continue
        if store.head(key).created_at_ms != wanted["created_at_ms"]:
            hurt += 1  # so were its deletion and the next creation
            assert len(hits) > 1
            continue
        # What was trimmed by the damaged batch is back.
        assert store.head(key).start <= wanted["start"]
        whole = dict(enumerate(wanted["records"], wanted["start"]))
        missing = set(whole) - set(found)
        hurt += bool(missing)
        assert all(record == found[at] for at, record in whole.items() if at in found)
        hit = {ref.base_ordinal + i for ref in hits for i in range(ref.record_count)}
        assert missing <= hit, "a stream keeps what was before and behind"
        assert lost <= hit
    # The damaged batch's stream, and forks of it.
    assert hurt <= 4 * len(hits)
    outcome = store.perform(tailrace.CreateBucket("after-repair"), 60)
    assert not isinstance(outcome, tailrace.Rejection)
    store.close()
    again = open_store(image.image(DROPPED), Clock(of.now_ms))
    assert again.bucket("after-repair").streams == 0


@pytest.mark.parametrize("closed", [True, False])
def test_repair_of_a_sound_store_changes_nothing(closed: bool) -> None:
    image = sample(closed).disk.image(DROPPED)
    steps = image.steps
    report = repair("/nowhere", storage=image)
    assert (report.lost, report.saved) == ([], [])
    assert image.steps == steps


def test_what_a_checkpoint_that_cannot_be_read_knew_durable_is_not_cut_off() -> None:
    """Its position alone tells that what stood before it was acknowledged."""
    image = FaultyStorage()
    clock = Clock()
    store = open_store(image, clock)
    store.create_bucket("bucket")
    store.create(("bucket", "a"))
    store._core.upkeep.checkpoint()
    store.append(("bucket", "a"), [b"first"])
    store.append(("bucket", "a"), [b"second"])
    store.close()
    newest, _ = decode_manifest(bytes(image.content("MANIFEST"))).checkpoints
    image = image.image(DROPPED)
    image.damage(filenames.checkpoint(newest), 100, 4)
    image.damage("log/0000000000000000.segment", newest - 20, 8)
    with pytest.raises(Corrupted):
        open_store(image, clock)
    image = image.image(DROPPED)
    assert len(repair("/nowhere", storage=image).lost) == 1
    store = open_store(image.image(DROPPED), clock)
    assert store.head(("bucket", "a")).tail >= 1
    store.close()
