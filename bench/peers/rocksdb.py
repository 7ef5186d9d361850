"""RocksDB through rocksdict: one synchronous write batch per durable write.

Raw mode, so that keys and values are bytes as they are; a key is the stream's number and
the ordinal, both big-endian, so that a stream is one range. Other options are the defaults.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from rocksdict import Options, Rdict, WriteBatch, WriteOptions

from bench.events import STREAMS
from bench.measure import Budget, Measurement, measure_steps
from bench.shapes import LostData, RowSource, Shape

KEY: Final = struct.Struct(">QQ")


def open_database(directory: Path) -> Rdict:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    return Rdict(str(directory / "rocksdb"), options)


def append(directory: Path, budget: Budget, shape: Shape) -> Measurement:
    """Write batches of ``shape.rows`` puts."""
    source = RowSource(shape, range(STREAMS))
    database = open_database(directory)
    try:
        synced = WriteOptions()
        synced.sync = True
        key = KEY.pack

        def step(number: int) -> None:
            batch = WriteBatch(raw_mode=True)
            put = batch.put
            for stream, ordinal, body in source.rows(number):
                put(key(stream, ordinal), body)
            database.write(batch, synced)

        measurement = measure_steps(step, shape.rows, budget)
    finally:
        database.close()
    _check(directory, source)
    return measurement


def _check(directory: Path, source: RowSource[int]) -> None:
    database = open_database(directory)
    try:
        for row in source.newest():
            if database.get(KEY.pack(row.stream, row.ordinal)) != row.body:
                raise LostData(f"RocksDB lost row {row.ordinal} of stream {row.stream}")
            if database.get(KEY.pack(row.stream, row.ordinal + 1)) is not None:
                raise LostData(f"RocksDB has a row too many in stream {row.stream}")
    finally:
        database.close()
