"""Snapshots as the tests of the engine store and look at them.

An operation says what a snapshot's bytes come to, not what they are: those that a test made up
are kept here, by their digest.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

import tailrace
from tailrace import limits
from tailrace.errors import Rejected
from tailrace.operation import Operation, PutSnapshot, Snapshot, StreamKey
from tailrace.outcome import Outcome
from tests.engine.thread_lab import KEY

DIRECTORY: Final = "snapshots"
LARGE: Final = bytes(range(256)) * 4 * limits.KIB  # 1 MiB
OTHER: Final = StreamKey("bucket", "other")
CONTENTS: Final[dict[bytes, bytes]] = {}
_PIECE_BYTES: Final = 700
_ANY_FILE: Final = 0


def put_snapshot(
    key: StreamKey,
    ordinal: int,
    content: bytes,
    content_type: str = "application/octet-stream",
    match: bytes | None = None,
) -> PutSnapshot:
    digest = hashlib.sha256(content).digest()
    CONTENTS[digest] = content
    snapshot = Snapshot(ordinal, digest, len(content), content_type, _ANY_FILE)
    return PutSnapshot(key, snapshot, match)


def perform(store: tailrace.Store, operation: Operation) -> Outcome:
    """Any operation; a snapshot in the only way there is to store one."""
    if not isinstance(operation, PutSnapshot):
        return store.perform(operation, 60)
    wanted = operation.snapshot
    content = CONTENTS[wanted.digest]
    try:
        with store.begin_snapshot(
            operation.key, wanted.ordinal, content_type=wanted.content_type, match=operation.match
        ) as writer:
            for start in range(0, len(content), _PIECE_BYTES):
                writer.write(content[start : start + _PIECE_BYTES])
            return writer.commit()
    except Rejected as error:
        return error.rejection


def told(snapshot: Snapshot | None) -> tuple[int, str, int, str] | None:
    """A snapshot but for its file."""
    if snapshot is None:
        return None
    return snapshot.ordinal, snapshot.digest.hex(), snapshot.length, snapshot.content_type


def content_of(store: tailrace.Store, key: StreamKey) -> bytes:
    """The bytes of the visible snapshot, read in pieces."""
    pieces = []
    with store.open_snapshot(key) as reader:
        while piece := reader.read(_PIECE_BYTES // 2):
            pieces.append(piece)
    return b"".join(pieces)


def put(
    store: tailrace.Store, ordinal: int, content: bytes, **more: str
) -> tailrace.SnapshotStored:
    """Store a snapshot of the stream that most tests have."""
    with store.begin_snapshot(KEY, ordinal, **more) as writer:  # type: ignore[arg-type]
        writer.write(content)
        return writer.commit()


def files(directory: Path) -> list[str]:
    """The names of all snapshots' files of a store."""
    return sorted(os.listdir(directory / DIRECTORY))
