"""The ceiling: the events' bytes, already joined, written to a pre-zeroed file and synced.

No framing, no checksum, no state, nothing to read back by: what the disk and the kernel give.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from bench.events import small_batches
from bench.measure import Budget, Measurement, measure_steps
from bench.shapes import LostData, Shape

_FILE_BYTES: Final = 128 * 1024 * 1024
_ZEROS: Final = bytes(1024 * 1024)


def append(directory: Path, budget: Budget, shape: Shape) -> Measurement:
    """Writes of ``shape.rows`` events; at the end of the file it starts over."""
    blocks = [b"".join(batch) for batch in small_batches(shape.rows)]
    length = len(blocks[0])
    descriptor = os.open(directory / "raw", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        file_bytes = _FILE_BYTES
        if budget.steps is not None:
            file_bytes = min(file_bytes, 2 * budget.steps * length + len(_ZEROS))
        for position in range(0, file_bytes, len(_ZEROS)):
            os.pwrite(descriptor, _ZEROS, position)
        os.fsync(descriptor)
        places = file_bytes // length

        def step(number: int) -> None:
            os.pwrite(descriptor, blocks[number % len(blocks)], number % places * length)
            os.fdatasync(descriptor)

        measurement = measure_steps(step, shape.rows, budget)
        if os.pread(descriptor, length, 0) not in blocks:
            raise LostData("the raw file does not hold what was written to it")
        return measurement
    finally:
        os.close(descriptor)
