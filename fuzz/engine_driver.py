"""What the engine's fuzz targets share: the command line, and edits that hit structure."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence

_BYTES = (0, 1, 2, 7, 8, 127, 128, 254, 255)
_EDIT = 5  # four bytes of place, one of value


def run(
    description: str | None,
    target: Callable[[bytes], None],
    make: Callable[[random.Random], bytes],
) -> None:
    """Feed ``target`` with what ``make`` draws, for --seconds, from --seed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    dice = random.Random(seed)
    end = time.monotonic() + arguments.seconds
    runs = 0
    while time.monotonic() < end:
        data = make(dice)
        try:
            target(data)
        except BaseException:
            print(f"seed {seed}, run {runs}, input {data.hex()}")
            raise
        runs += 1
    print(f"{runs} inputs, seed {seed}")


def edits(dice: random.Random, size: int, hot: Sequence[int]) -> bytes:
    """A few edits, as bytes; most of them within 100 bytes behind a ``hot`` place."""
    out = bytearray()
    for _ in range(dice.randint(1, 5)):
        place = dice.randrange(size)
        if hot and dice.random() < 0.8:
            place = dice.choice(hot) + dice.randrange(100)
        out += (place % size).to_bytes(4, "little")
        out.append(dice.choice(_BYTES) if dice.random() < 0.7 else dice.randrange(256))
    return bytes(out)


def apply_edits(raw: bytearray, data: bytes) -> None:
    """Apply what :func:`edits` made."""
    for at in range(0, len(data) - _EDIT + 1, _EDIT):
        raw[int.from_bytes(data[at : at + 4], "little") % len(raw)] = data[at + 4]
