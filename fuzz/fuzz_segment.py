"""Whole stores whose log has right checksums and wrong content, opened, read and searched.

Each input edits the batches of a valid log; checksums are made right again. The store must
refuse to open (Corrupted), or every stream must be read or refused: nothing else may be raised.
"""

from __future__ import annotations

import logging
import random
from dataclasses import replace

import tailrace
from fuzz.engine_driver import apply_edits, edits, run
from tailrace.native import View, crc32c
from tests.engine.crash_lab import OPTIONS, open_store
from tests.engine.faulty_storage import KEPT, FaultyStorage
from tests.engine.model import Model
from tests.engine.workload import KEYS, Clock, Workload

NAME = "log/0000000000000000.segment"
START = 4096


def _base() -> tuple[FaultyStorage, int]:
    storage, clock, model = FaultyStorage(), Clock(), Model()
    workload = Workload(3, large=0.0, ttl=False)
    options = replace(OPTIONS, checkpoint_every_bytes=1 << 40)
    store = open_store(storage, clock, options)
    while store.counters()["durable_position"] < 50_000:
        operation = workload.operation(model, clock.now_ms)
        store.perform(operation, 60)
        model.perform(operation, clock.now_ms)
    return storage, clock.now_ms


STORAGE, NOW_MS = _base()
STATE = STORAGE.freeze()
BATCHES = [
    (ref.offset, ref.length)
    for ref in View(memoryview(bytes(STORAGE.content(NAME)))).scan(START, 0)
]
END = BATCHES[-1][0] + BATCHES[-1][1]


def seal(raw: bytearray) -> None:
    for place, _ in BATCHES:
        length = int.from_bytes(raw[place + 4 : place + 8], "little")
        if 80 <= length <= len(raw) - place:
            crc = crc32c(bytes(raw[place + 4 : place + length]))
            raw[place : place + 4] = crc.to_bytes(4, "little")


def read(store: tailrace.Store, key: tailrace.StreamKey) -> None:
    """Every page of a stream, whatever is in it."""
    ordinal = store.head(key).start
    while True:
        page = store.read(key, ordinal, max_bytes=4096)
        assert page.next == ordinal + page.count
        assert len(page.payload) == (page.ends[-1] if page.count else 0)
        if page.up_to_date or ordinal > 10_000_000:
            return
        assert page.count > 0
        ordinal = page.next


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name atheris calls
    image = STATE.image(KEPT)
    content = image.content(NAME)
    edited = bytearray(content[START:END])
    apply_edits(edited, data)
    content[START:END] = edited
    seal(content)
    try:
        store = open_store(image, Clock(NOW_MS))
    except tailrace.Corrupted:
        return
    for key in KEYS:
        try:
            read(store, key)
        except (tailrace.Corrupted, tailrace.Rejected):
            continue
    try:
        store.search("common", None, limit=1000)
    except tailrace.Corrupted:
        return
    store.close()


def make(dice: random.Random) -> bytes:
    return edits(dice, END - START, [place - START for place, _ in BATCHES])


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    run(__doc__, TestOneInput, make)
