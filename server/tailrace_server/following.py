"""What live readers of a stream have in common: its records as frames, encoded once."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import tailrace
from tailrace.operation import StreamKey
from tailrace_server.keys import Grant


class Encoding(Protocol):
    """How a surface turns records into SSE frames.

    ``name`` tells encodings apart whose frames differ. ``control`` says whether control
    events belong to the format.
    """

    @property
    def name(self) -> str: ...

    @property
    def control(self) -> bool: ...

    def whole(self, result: tailrace.ReadResult) -> int:
        """How many of the records make sense without those behind them: all, as a rule."""

    def encode(self, result: tailrace.ReadResult) -> bytes:
        """The frames of the records, empty if none is for this reader."""


@dataclass(frozen=True, slots=True)
class Follow:
    """One reader: what it reads, from where, and by whose right.

    ``tight`` is how control events are written, see :func:`sse.control`.
    """

    key: StreamKey
    stream_id: int
    start: int
    encoding: Encoding
    cursor: int | None
    grant: Grant
    tight: bool = False


class Batch(NamedTuple):
    """Encoded frames of the records from some ordinal up to ``next``."""

    next: int
    frames: bytes


_BatchKey = tuple[int, int, str]


class BatchCache:
    """The last encoded batches, bounded in bytes. Records never change, so nor do batches."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._batches: OrderedDict[_BatchKey, Batch] = OrderedDict()

    def get(self, key: _BatchKey) -> Batch | None:
        return self._batches.get(key)

    def put(self, key: _BatchKey, batch: Batch) -> None:
        old = self._batches.pop(key, None)
        if old is not None:
            self._bytes -= len(old.frames)
        self._batches[key] = batch
        self._bytes += len(batch.frames)
        while self._bytes > self._bytes_max:
            _, dropped = self._batches.popitem(last=False)
            self._bytes -= len(dropped.frames)
