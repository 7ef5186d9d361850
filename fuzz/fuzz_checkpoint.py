"""Checkpoints with right checksums and wrong content: a catalog, or BadCheckpoint, only."""

from __future__ import annotations

import random

from fuzz.engine_driver import apply_edits, edits, run
from tailrace.checkpoint import BadCheckpoint, decode_checkpoint, encode_checkpoint
from tailrace.native import crc32c
from tests.engine.test_formats import example_catalog

POSITION = 12345
BASE = encode_checkpoint(example_catalog(), POSITION)
_FROM = 16


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name atheris calls
    raw = bytearray(BASE)
    apply_edits(raw, data)
    raw[12:16] = crc32c(bytes(raw[_FROM:])).to_bytes(4, "little")
    try:
        catalog = decode_checkpoint(bytes(raw), POSITION)
    except BadCheckpoint:
        return
    for key, stream_id in catalog.names.items():
        assert catalog.streams[stream_id].config.key == key
    again = decode_checkpoint(encode_checkpoint(catalog, POSITION), POSITION)
    assert again.streams == catalog.streams
    assert again.names == catalog.names


def make(dice: random.Random) -> bytes:
    return edits(dice, len(BASE), [0, 32, 100, 200])


if __name__ == "__main__":
    run(__doc__, TestOneInput, make)
