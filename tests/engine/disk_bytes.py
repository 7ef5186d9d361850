"""What is on a disk of a file: as it is read, as it is durable, and the changes between the two.

A failed sync leaves its bytes readable but never durable, whatever is synced after it,
because that is what Linux does (the pages are marked clean).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final, NamedTuple

SECTOR_BYTES: Final = 512
DROPPED: Final = -1
KEPT: Final = -2
KILLED: Final = -3


class Change(NamedTuple):
    """A write (``data``) at ``position``, or a resize to ``position`` (``data`` None)."""

    position: int
    data: bytes | None
    doomed: bool = False  # its sync failed: no later sync makes it durable


class EntryChange(NamedTuple):
    """A directory change: ``removed`` name goes (if any), ``added`` name points to a file."""

    removed: str | None
    added: str | None
    inode: Inode | None


class Inode:
    """A file's bytes: as read now, as durable, and the changes between the two."""

    __slots__ = ("content", "durable", "mappings", "pending")

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)
        self.durable = content
        self.pending: list[Change] = []
        self.mappings = 0


@dataclass(slots=True)
class Directory:
    """The names of files, like their bytes: as found now, as durable, and the changes."""

    entries: dict[str, Inode] = field(default_factory=dict)
    durable: dict[str, Inode] = field(default_factory=dict)
    pending: list[EntryChange] = field(default_factory=list)


def _resize(content: bytearray, length: int) -> None:
    if length < len(content):
        del content[length:]
    else:
        content.extend(bytes(length - len(content)))


def apply(content: bytearray, change: Change) -> None:
    if change.data is None:
        _resize(content, change.position)
        return
    end = change.position + len(change.data)
    if end > len(content):
        _resize(content, end)
    content[change.position : end] = change.data


def _tear(durable: bytes, pending: tuple[Change, ...], dice: random.Random) -> bytes:
    """``durable`` with each sector, and the size, as of some moment during ``pending``."""
    if not pending:
        return durable
    latest = len(pending)
    chance = dice.choice((0.1, 0.5, 0.9))  # of a sector being up to date

    def moment() -> int:
        return latest if dice.random() < chance else dice.randint(0, latest)

    content = bytearray(durable)
    versions: dict[int, int] = {}
    size_version = moment()
    size = len(durable)
    for number, change in enumerate(pending, 1):
        if change.data is None:
            if number <= size_version:
                size = change.position
                if size < len(content):
                    content[size:] = bytes(len(content) - size)
            continue
        start, end = change.position, change.position + len(change.data)
        if number <= size_version:
            size = max(size, end)
        if end > len(content):
            _resize(content, end)
        for sector in range(start // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1 if end else 0):
            if versions.setdefault(sector, moment()) < number:
                continue
            low = max(start, sector * SECTOR_BYTES)
            high = min(end, (sector + 1) * SECTOR_BYTES)
            content[low:high] = change.data[low - start : high - start]
    _resize(content, size)
    return bytes(content)


class FrozenFile(NamedTuple):
    """A file at one moment. Immutable."""

    durable: bytes
    pending: tuple[Change, ...]

    def bytes_after(self, mode: int) -> bytes:
        """What is read of it after a crash: DROPPED, KEPT, or torn by a seed >= 0."""
        if mode == DROPPED:
            return self.durable
        if mode == KEPT:
            content = bytearray(self.durable)
            for change in self.pending:
                apply(content, change)
            return bytes(content)
        return _tear(self.durable, self.pending, random.Random(mode))
