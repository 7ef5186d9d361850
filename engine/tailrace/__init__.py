"""tailrace: durable, replayable, searchable event streams, as a library.

::

    import tailrace

    with tailrace.open("data") as store:
        store.create_bucket("demo")
        store.create(("demo", "hello"), content_type="application/json", searchable=True)
        store.append(("demo", "hello"), [b'{"type":"greeting","text":"hello, world"}'])
        print(bytes(store.read(("demo", "hello"), 0).payload))
        print(store.search("world", [("demo", "hello")]).hits)
"""

from __future__ import annotations

from tailrace.check import CheckReport, Damage, check
from tailrace.errors import (
    Corrupted,
    InvalidArgument,
    LogPoisoned,
    NoStore,
    Overloaded,
    RecordsLost,
    Rejected,
    StoreClosed,
    StoreLocked,
    TailraceError,
    UnsupportedFormat,
)
from tailrace.offset import decode_offset, encode_offset
from tailrace.operation import (
    Append,
    Create,
    CreateBucket,
    Delete,
    DeleteBucket,
    ForkPoint,
    Operation,
    Producer,
    Records,
    SetMetadata,
    Snapshot,
    Stamp,
    StreamKey,
    StreamOptions,
    Touch,
    Trim,
)
from tailrace.options import Options
from tailrace.outcome import (
    Appended,
    BucketDone,
    Created,
    Deleted,
    Outcome,
    Reason,
    Rejection,
    SnapshotStored,
    Updated,
)
from tailrace.read_result import ReadPieces, ReadResult
from tailrace.repair import LostRecords, RepairReport, repair
from tailrace.rows import AppendedRows, Rows
from tailrace.snapshot import SnapshotReader, SnapshotWriter
from tailrace.store import Store
from tailrace.ticket import Group, RowsTaken, Ticket
from tailrace.views import BucketInfo, DamagedRange, Head, Hit, SearchResult, StreamPage

__version__ = "0.1.0"

open = Store  # noqa: A001 - as in gzip.open: used as tailrace.open

__all__ = [
    "Append",
    "Appended",
    "AppendedRows",
    "BucketDone",
    "BucketInfo",
    "CheckReport",
    "Corrupted",
    "Create",
    "CreateBucket",
    "Created",
    "Damage",
    "DamagedRange",
    "Delete",
    "DeleteBucket",
    "Deleted",
    "ForkPoint",
    "Group",
    "Head",
    "Hit",
    "InvalidArgument",
    "LogPoisoned",
    "LostRecords",
    "Operation",
    "Options",
    "Outcome",
    "NoStore",
    "Overloaded",
    "Producer",
    "ReadPieces",
    "ReadResult",
    "Reason",
    "Records",
    "RecordsLost",
    "Rejected",
    "Rejection",
    "RepairReport",
    "Rows",
    "RowsTaken",
    "SearchResult",
    "SetMetadata",
    "Snapshot",
    "SnapshotReader",
    "SnapshotStored",
    "SnapshotWriter",
    "Stamp",
    "Store",
    "StoreClosed",
    "StoreLocked",
    "StreamKey",
    "StreamOptions",
    "StreamPage",
    "TailraceError",
    "Ticket",
    "Touch",
    "Trim",
    "UnsupportedFormat",
    "Updated",
    "check",
    "decode_offset",
    "encode_offset",
    "open",
    "repair",
]
