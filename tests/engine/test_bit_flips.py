"""One flipped bit in what was acknowledged is reported, never skipped, never served.

TAILRACE_FLIPS=N multiplies how many places are tried.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import pytest

import tailrace
from tailrace import Corrupted, CreateBucket, StreamKey, UnsupportedFormat
from tailrace.limits import SEGMENT_HEADER_BYTES
from tailrace.native import BATCH_HEADER_BYTES, View
from tests.engine.crash_lab import OPTIONS, open_store, upkeep
from tests.engine.faulty_storage import DROPPED, DiskState, FaultyStorage
from tests.engine.model import Model
from tests.engine.workload import HEAD_FIELDS, KEYS, Clock, Workload, assert_search, read_all

MANY = int(os.environ.get("TAILRACE_FLIPS", "1"))
LAST_BUCKET = "last-of-all"


class Sample(NamedTuple):
    """A store's disk, and what it must show."""

    disk: DiskState
    now_ms: int
    model: Model
    wanted: dict[Any, Any]


@cache
def sample(closed: bool, checkpoints: bool = True) -> Sample:
    """A store with a few segments, stopped cleanly or crashed behind one last, small group."""
    options = OPTIONS if checkpoints else replace(OPTIONS, checkpoint_every_bytes=1 << 40)
    storage, clock, model = FaultyStorage(), Clock(), Model()
    workload = Workload(4, large=0.15, ttl=False)
    store = open_store(storage, clock, options)
    while len(store._core.log.segments) < 5 or len(model.streams) < 5:
        clock.now_ms += 10
        operation = workload.operation(model, clock.now_ms)
        store.perform(operation, 60)
        model.perform(operation, clock.now_ms)
        if workload.dice.random() < 0.02:
            upkeep(store)
    if closed:
        store.close()
    else:
        store.perform(CreateBucket(LAST_BUCKET), 60)
    disk = storage.image(DROPPED).freeze()
    wanted = model.copy().observe(clock.now_ms, KEYS)["streams"]
    return Sample(disk, clock.now_ms, model, wanted)


def segments(storage: FaultyStorage) -> list[str]:
    return [name for name in storage.names() if name.endswith(".segment")]


def batches(storage: FaultyStorage, name: str) -> Iterator[tuple[int, int]]:
    """``(offset, length)`` of each batch in a segment."""
    content = bytes(storage.content(name))
    base = int(name.split("/")[1].split(".", maxsplit=1)[0], 16) * len(content)
    for ref in View(memoryview(content)).scan(SEGMENT_HEADER_BYTES, base):
        yield ref.offset, ref.length


def seen_of(store: tailrace.Store, key: StreamKey) -> Any:
    """A stream as the model shows it; None if there is none. Corrupted if it cannot be read."""
    try:
        head = store.head(key)
    except tailrace.Rejected as error:
        return "gone" if error.rejection.reason is tailrace.Reason.STREAM_GONE else None
    seen = {name: getattr(head, name) for name in HEAD_FIELDS}
    return {**seen, "records": read_all(store, key)}


def verdict(of: Sample, name: str, position: int, mask: int) -> str:
    """``"open"`` or ``"read"`` if the damage was reported there, ``"right"`` if nothing shows it.

    Anything else, most of all a wrong answer, fails the test.
    """
    image = of.disk.image(DROPPED)
    image.damage(name, position, mask)
    report: Exception
    try:
        store = open_store(image, Clock(of.now_ms))
    except (Corrupted, UnsupportedFormat) as error:
        report = error
    else:
        return reads(store, of, name)
    assert name in str(report), f"{report} does not name {name}"
    if isinstance(report, Corrupted) and name.endswith(".segment"):
        base = int(name.split("/")[1].split(".", maxsplit=1)[0], 16) * OPTIONS.segment_bytes
        assert report.file == name
        assert report.position == 0 or base <= report.position <= base + position
    return "open"


def reads(store: tailrace.Store, of: Sample, name: str) -> str:
    """Every stream is right or reported; so is search."""
    reports: list[Corrupted] = []
    for key in KEYS:
        try:
            assert seen_of(store, key) == of.wanted.get(key), key
        except Corrupted as error:
            assert error.stream is not None  # noqa: PT017
            reports.append(error)
    damaged: list[tailrace.DamagedRange] = []
    dice = random.Random(name)
    assert_search(store, of.model.copy(), of.now_ms, dice, most=1, damaged=damaged)
    for part in damaged:
        assert part.file == name
        for ordinal in range(part.first, part.stop):
            with pytest.raises(Corrupted):
                store.read(part.key, ordinal, max_records=1)
    assert all(report.file == name for report in reports)
    return "read" if reports else "right"


def tally(of: Sample, places: list[tuple[str, int]], seed: int) -> dict[str, int]:
    dice = random.Random(seed)
    counts: dict[str, int] = {}
    for name, position in places:
        mask = 1 << dice.randrange(8)
        try:
            found = verdict(of, name, position, mask)
        except BaseException as error:
            error.add_note(f"flipped {mask:#x} in byte {position} of {name}")
            raise
        counts[found] = counts.get(found, 0) + 1
    return counts


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "crashed"])
def test_every_byte_of_batch_headers(closed: bool) -> None:
    of = sample(closed)
    image = of.disk.image(DROPPED)
    dice = random.Random(1)
    places: list[tuple[str, int]] = []
    for name in segments(image):
        found = list(batches(image, name))
        chosen = dice.sample(found, min(len(found), 3 * MANY))
        for offset, _length in [*chosen, *found[-1:]]:
            places += [(name, offset + at) for at in range(BATCH_HEADER_BYTES)]
    assert len(places) > 500
    if not MANY > 1:
        places = dice.sample(places, 500)
    counts = tally(of, places, 2)
    assert counts.get("open", 0) + counts.get("read", 0) > len(places) // 4, counts


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "crashed"])
def test_bytes_of_records_fields_and_padding(closed: bool) -> None:
    of = sample(closed)
    image = of.disk.image(DROPPED)
    dice = random.Random(3)
    places: list[tuple[str, int]] = []
    for name in segments(image):
        for offset, length in batches(image, name):
            if length > BATCH_HEADER_BYTES:
                places += [
                    (name, offset + at)
                    for at in {length - 1, dice.randrange(BATCH_HEADER_BYTES, length)}
                ]
    places = dice.sample(places, min(len(places), 250 * MANY))
    counts = tally(of, places, 4)
    assert counts.get("open", 0) + counts.get("read", 0) > len(places) // 4, counts


def test_segment_headers_and_unused_bytes() -> None:
    of = sample(True)
    image = of.disk.image(DROPPED)
    dice = random.Random(5)
    header: list[tuple[str, int]] = []
    unused: list[tuple[str, int]] = []
    for name in segments(image):
        header += [(name, at) for at in [*range(48), *dice.sample(range(48, 4096), 5)]]
        end = max((offset + length for offset, length in batches(image, name)), default=4096)
        unused += [(name, dice.randrange(end, len(image.content(name)))) for _ in range(10)]
    assert set(tally(of, header, 6)) == {"open"}
    assert set(tally(of, unused, 7)) == {"right"}


def test_the_manifest() -> None:
    of = sample(True)
    size = len(of.disk.image(DROPPED).content("MANIFEST"))
    assert set(tally(of, [("MANIFEST", at) for at in range(size)], 8)) == {"open"}


@pytest.mark.parametrize("kind", ["checkpoint-", ".index", "search/"])
def test_derived_files_are_made_again_and_answers_are_right(kind: str) -> None:
    """A damaged checkpoint is passed over for the one before; indexes are made anew."""
    of = sample(True)
    image = of.disk.image(DROPPED)
    dice = random.Random(9)
    names = [name for name in image.names() if kind in name and image.content(name)]
    assert names, image.names()
    places = [
        (name, at)
        for name in names
        for at in dice.sample(
            range(len(image.content(name))), min(len(image.content(name)), 25 * MANY)
        )
    ]
    assert set(tally(of, places, 10)) == {"right"}


@pytest.mark.parametrize("kind", [".index", "search/"])
def test_derived_files_may_be_lost(kind: str) -> None:
    of = sample(True)
    for name in [n for n in of.disk.image(DROPPED).names() if kind in n]:
        image = of.disk.image(DROPPED)
        image.remove(name)
        store = open_store(image, Clock(of.now_ms))
        for key in KEYS:
            assert seen_of(store, key) == of.wanted.get(key), (name, key)
        assert_search(store, of.model.copy(), of.now_ms, random.Random(1), most=1)


def test_all_derived_files_may_be_lost_at_once() -> None:
    of = sample(True)
    image = of.disk.image(DROPPED)
    for name in image.names():
        if name.endswith(".index") or name.startswith("search/"):
            image.remove(name)
    store = open_store(image, Clock(of.now_ms))
    for key in KEYS:
        assert seen_of(store, key) == of.wanted.get(key), key
    assert_search(store, of.model.copy(), of.now_ms, random.Random(1))


def test_a_lost_file_of_the_log_is_reported() -> None:
    of = sample(True)
    for name in ["MANIFEST", *segments(of.disk.image(DROPPED))]:
        image = of.disk.image(DROPPED)
        image.remove(name)
        with pytest.raises(Corrupted) as caught:
            open_store(image, Clock(of.now_ms))
        assert caught.value.file == name


def test_lost_checkpoints_are_no_loss_while_the_whole_log_is_there() -> None:
    of = sample(True)
    image = of.disk.image(DROPPED)
    assert "log/0000000000000000.segment" in image.names()
    for name in image.names():
        if name.startswith("checkpoint-"):
            image.remove(name)
    store = open_store(image, Clock(of.now_ms))
    for key in KEYS:
        assert seen_of(store, key) == of.wanted.get(key), key


def test_lost_checkpoints_are_reported_if_the_log_has_a_gap() -> None:
    """A reclaimed segment had a deletion in it: a replay without it must not undo that."""
    storage, clock = FaultyStorage(), Clock()
    store = open_store(storage, clock)
    doomed = ("alpha", "doomed")

    def fill_to(segment: int, stream: str) -> None:
        store.append(("alpha", stream), [bytes(5000)], create=tailrace.StreamOptions())
        while store.counters()["durable_position"] + 4000 < segment * OPTIONS.segment_bytes:
            store.append(("alpha", stream), [bytes(3000)])

    store.create_bucket("alpha")
    store.create(doomed, records=[b"x"])
    store.create(("alpha", "passing"))
    fill_to(1, "first")
    store.append(("alpha", "passing"), [bytes(5000)])
    store.delete(doomed)
    for number in range(2, 7):
        fill_to(number, "passing" if number == 2 else f"filler{number}")
        store._core.upkeep.checkpoint()
    store.delete(("alpha", "passing"))
    store.close()
    names = segments(storage)
    assert "log/0000000000000000.segment" in names
    assert "log/0000000000000001.segment" not in names, "the test needs a reclaimed segment"
    for name in storage.names():
        if name.startswith("checkpoint-"):
            storage.remove(name)
    with pytest.raises(Corrupted):
        open_store(storage, clock)
