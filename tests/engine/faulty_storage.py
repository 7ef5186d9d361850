"""A storage double, in memory, that can stop the world at every numbered step.

Every call that changes something (write, sync, truncate, create, rename, unlink, directory
sync) is one *step*. Before each step the double can call a hook, raise :class:`Crash`, or
fail with an OSError. :meth:`FaultyStorage.freeze` says what is durable and what is still
on its way; :meth:`DiskState.image` turns that into what a disk could hold after a crash:

* ``DROPPED``: only what was synced;
* ``KEPT``: all that was written;
* ``KILLED``: only the process died: all that was written is there to be read, and what was not
  synced is still not durable;
* ``torn`` (a seed): every 512-byte sector as of some moment between its last sync and the
  crash, file sizes likewise, and any subset of the directory changes not yet synced.
"""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tailrace.errors import StoreLocked
from tailrace.limits import PAGE_BYTES
from tailrace.storage import 
from tests.engine.disk_bytes import (
    DROPPED,
    KEPT,
    KILLED,
    SECTOR_BYTES,
    Change,
    Directory,
    EntryChange,
    FrozenFile,
    Inode,
    apply,
)

__all__ = [
    "DROPPED",
    "KEPT",
    "KILLED",
    "SECTOR_BYTES",
    "Crash",
    "DiskState",
    "Fault",
    "FaultyFile",
    "FaultyStorage",
    "Step",
]


class Crash(BaseException):
    """The world has stopped. Not an Exception: nothing may catch it and go on."""


class Step(NamedTuple):
    """One numbered change about to happen."""

    number: int
    kind: str  # write, sync, truncate, create, rename, unlink, sync_directory, make_directory
    name: str


@dataclass(slots=True)
class Fault:
    """Fail steps of ``kind`` whose name contains ``name`` with ``error``.

    The first ``after`` matching steps succeed; then ``times`` of them fail (None: all).
    ``hits`` counts the failures.
    """

    kind: str
    error: int
    name: str = ""
    after: int = 0
    times: int | None = 1
    hits: int = 0


class DiskState(NamedTuple):
    """What is durable, and what was on its way, at one moment. Immutable."""

    step: Step
    files: dict[int, FrozenFile]
    directories: dict[str, tuple[dict[str, int], tuple[tuple[str | None, str | None, int], ...]]]

    def image(self, mode: int) -> FaultyStorage:
        """A new storage holding what the disk may hold: DROPPED, KEPT, KILLED, or a seed >= 0."""
        dice = random.Random(f"directories {mode}")
        shuffle = dice.choice(("subset", "prefix", "all"))
        inodes: dict[int, Inode] = {}

        def inode(number: int) -> Inode:
            if number not in inodes:
                frozen = self.files[number]
                if mode == KILLED:
                    inodes[number] = Inode(frozen.bytes_after(KEPT))
                    inodes[number].durable = frozen.durable
                    inodes[number].pending = list(frozen.pending)
                else:
                    seed = mode if mode < 0 else mode * 1_000_003 + number
                    inodes[number] = Inode(frozen.bytes_after(seed))
            return inodes[number]

        storage = FaultyStorage()
        for name, (durable, pending) in self.directories.items():
            entries = dict(durable)
            kept = len(pending) if mode in (KEPT, KILLED) else 0
            if mode >= 0:
                kept = dice.randint(0, len(pending)) if shuffle == "prefix" else len(pending)
            for removed, added, number in pending[:kept]:
                if mode >= 0 and shuffle == "subset" and dice.random() < 0.5:
                    continue
                if removed is not None:
                    entries.pop(removed, None)
                if added is not None:
                    entries[added] = number
            files = {entry: inode(number) for entry, number in entries.items()}
            held = storage.directories[name] = Directory(files, dict(files))
            if mode == KILLED:
                held.durable = {entry: inode(number) for entry, number in durable.items()}
                held.pending = [
                    EntryChange(removed, added, None if number < 0 else inode(number))
                    for removed, added, number in pending
                ]
        return storage


class FaultyMapping:
    """A live view of a file's bytes. The file may not change its size while it lives."""

    def __init__(self, inode: Inode) -> None:
        self._inode = inode
        self._open = True
        self.view = memoryview(inode.content).toreadonly()
        inode.mappings += 1

    def release(self, start: int, stop: int) -> None:
        assert 0 <= start <= stop <= len(self._inode.content)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._inode.mappings -= 1
            try:
                self.view.release()
            except BufferError:
                return  # a reader still holds a slice


class FaultyFile:
    """An open file of a :class:`FaultyStorage`."""

    def __init__(self, storage: FaultyStorage, inode: Inode, name: str, writable: bool) -> None:
        self._storage = storage
        self._inode: Inode | None = inode
        self._name = name
        self._writable = writable

    def _need(self, *, writable: bool = False) -> Inode:
        if self._storage.crashed:
            raise Crash
        if self._inode is None or (writable and not self._writable):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self._name)
        return self._inode

    def size_bytes(self) -> int:
        return len(self._need().content)

    def pread(self, length: int, position: int) -> bytes:
        content = self._need().content
        return bytes(content[position : position + length])

    def pwrite(self, data: bytes | bytearray | memoryview, position: int) -> None:
        self._need(writable=True)
        self._storage.begin("write", self._name)
        self._change(Change(position, bytes(data)))

    def truncate(self, length: int) -> None:
        self._need(writable=True)
        self._storage.begin("truncate", self._name)
        self._change(Change(length, None))

    def allocate(self, length: int) -> None:
        self._storage.begin("truncate", self._name)
        self._change(Change(length, None))

    def zero(self, start: int, stop: int) -> None:
        assert start % PAGE_BYTES == stop % PAGE_BYTES == 0
        self.pwrite(bytes(stop - start), start)

    def _change(self, change: Change) -> None:
        inode = self._need(writable=True)
        with self._storage.mutex:
            end = change.position if change.data is None else change.position + len(change.data)
            resizes = end != len(inode.content) if change.data is None else end > len(inode.content)
            if resizes:
                assert inode.mappings == 0, f"{self._name} changes its size while it is mapped"
                inode.content = bytearray(inode.content)  # slices of closed mappings may live on
            apply(inode.content, change)
            inode.pending.append(change)

    def sync(self) -> None:
        inode = self._need()
        try:
            self._storage.begin("sync", self._name)
        except OSError:
            with self._storage.mutex:
                inode.pending = [change._replace(doomed=True) for change in inode.pending]
            raise
        with self._storage.mutex:
            if any(change.doomed for change in inode.pending):
                content = bytearray(inode.durable)
                for change in inode.pending:
                    if not change.doomed:
                        apply(content, change)
                inode.durable = bytes(content)
                inode.pending = [change for change in inode.pending if change.doomed]
            else:
                inode.durable = bytes(inode.content)
                inode.pending = []

    def map(self) -> FaultyMapping:
        inode = self._need()
        if not inode.content:
            raise ValueError("cannot mmap an empty file")  # as mmap.mmap does
        return FaultyMapping(inode)

    def close(self) -> None:
        self._need()
        self._inode = None


class FaultyStorage:
    """A :class:`tailrace.storage.Storage` in memory. Thread-safe.

    ``on_step`` is called before every step, outside the double's own lock: it may freeze the
    disk, block (to hold up a sync), or raise.
    """

    def __init__(self) -> None:
        self.directories: dict[str, Directory] = {"": Directory()}
        self.mutex = threading.RLock()
        self.steps = 0
        self.on_step: Callable[[Step], None] | None = None
        self.crash_at: int | None = None
        self.crashed = False
        self.faults: list[Fault] = []
        self.free = 1 << 40
        self._last = Step(0, "start", "")
        self._locked = False

    # ---- faults

    def begin(self, kind: str, name: str) -> None:
        """Count a step; crash or fail if that is what is asked for here."""
        with self.mutex:
            if self.crashed:
                raise Crash
            self.steps += 1
            step = self._last = Step(self.steps, kind, name)
        if self.on_step is not None:
            self.on_step(step)
        if self.crash_at is not None and step.number >= self.crash_at:
            self.crashed = True
            raise Crash
        for fault in self.faults:
            if fault.kind != kind or fault.name not in name:
                continue
            if fault.after > 0:
                fault.after -= 1
            elif fault.times is None or fault.hits < fault.times:
                fault.hits += 1
                raise OSError(fault.error, os.strerror(fault.error), name)

    def freeze(self) -> DiskState:
        """The disk at this moment. Cheap: bytes are shared, not copied."""
        with self.mutex:
            files: dict[int, FrozenFile] = {}
            numbers: dict[int, int] = {}

            def number(inode: Inode) -> int:
                if id(inode) not in numbers:
                    numbers[id(inode)] = len(files)
                    files[len(files)] = FrozenFile(inode.durable, tuple(inode.pending))
                return numbers[id(inode)]

            directories = {
                name: (
                    {entry: number(inode) for entry, inode in directory.durable.items()},
                    tuple(
                        (removed, added, -1 if inode is None else number(inode))
                        for removed, added, inode in directory.pending
                    ),
                )
                for name, directory in self.directories.items()
            }
            return DiskState(self._last, files, directories)

    def image(self, mode: int) -> FaultyStorage:
        """What a disk could hold if the world stopped now."""
        return self.freeze().image(mode)

    def names(self) -> list[str]:
        """Every file, with its directory."""
        return sorted(
            f"{directory}/{entry}" if directory else entry
            for directory, held in self.directories.items()
            for entry in held.entries
        )

    def content(self, name: str) -> bytearray:
        """The bytes of ``name`` themselves: a test may flip bits in them."""
        directory, entry = self._find(name)
        return directory.entries[entry].content

    def damage(self, name: str, position: int, mask: int) -> None:
        """Flip the bits of ``mask`` in one byte, durably."""
        directory, entry = self._find(name)
        inode = directory.entries[entry]
        inode.content[position] ^= mask
        inode.durable = bytes(inode.content)

    def remove(self, name: str) -> None:
        """Lose a file, durably."""
        directory, entry = self._find(name)
        directory.entries.pop(entry)
        directory.durable.pop(entry, None)

    # ---- tailrace.storage.Storage

    def _find(self, name: str) -> tuple[Directory, str]:
        parent, _, entry = name.rpartition("/")
        if parent not in self.directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return self.directories[parent], entry

    def lock(self) -> None:
        with self.mutex:
            if self.crashed:
                raise Crash
            if self._locked:
                raise StoreLocked("data directory is in use by another store")
            self._locked = True

    def close(self) -> None:
        self._locked = False

    def make_directory(self, name: str) -> None:
        if name in self.directories:
            return
        assert name.rpartition("/")[0] in self.directories, f"the parent of {name!r} is missing"
        self.begin("make_directory", name)
        self.directories[name] = Directory()

    def list_directory(self, name: str) -> list[str]:
        if self.crashed:
            raise Crash
        if name not in self.directories:
            return []
        prefix = f"{name}/" if name else ""
        below = [
            other[len(prefix) :]
            for other in self.directories
            if other.startswith(prefix) and other != name and "/" not in other[len(prefix) :]
        ]
        return sorted([*self.directories[name].entries, *below])

    def open(self, name: str, *, writable: bool = False, create: bool = False) -> FaultyFile:
        if self.crashed:
            raise Crash
        directory, entry = self._find(name)
        if create:
            if entry in directory.entries:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            self.begin("create", name)
            inode = Inode()
            with self.mutex:
                directory.entries[entry] = inode
                directory.pending.append(EntryChange(None, entry, inode))
        elif entry not in directory.entries:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return FaultyFile(self, directory.entries[entry], name, writable)

    def rename(self, old: str, new: str) -> None:
        directory, old_entry = self._find(old)
        target, new_entry = self._find(new)
        assert directory is target, "a rename between directories is not atomic for the engine"
        if old_entry not in directory.entries:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), old)
        self.begin("rename", new)
        with self.mutex:
            inode = directory.entries.pop(old_entry)
            directory.entries[new_entry] = inode
            directory.pending.append(EntryChange(old_entry, new_entry, inode))

    def unlink(self, name: str) -> None:
        if self.crashed:
            raise Crash
        try:
            directory, entry = self._find(name)
        except FileNotFoundError:
            return
        if entry not in directory.entries:
            return
        self.begin("unlink", name)
        with self.mutex:
            del directory.entries[entry]
            directory.pending.append(EntryChange(entry, None, None))

    def free_bytes(self) -> int:
        return self.free

    def sync_directory(self, name: str) -> None:
        if name not in self.directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        self.begin("sync_directory", name)
        with self.mutex:
            directory = self.directories[name]
            directory.durable = dict(directory.entries)
            directory.pending.clear()
