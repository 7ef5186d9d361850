"""The only caller of ``os``, ``fcntl`` and ``mmap`` in the engine.

Everything above speaks to the :class:`Storage` protocol, so that a test can put a
double in its place that tears writes, forgets unsynced bytes, or fails. File names
are relative to the data directory and use ``/``.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Final, Protocol

from tailrace import filenames
from tailrace.errors import StoreLocked
from tailrace.limits import KIB, MIB, PAGE_BYTES
from tailrace.native import map_file, release_mapped, write_out

_ZERO_CHUNK: Final = bytes(MIB)
_ZERO_PIECE_BYTES: Final = 256 * KIB
_FILE_MODE: Final = 0o640


class File(Protocol):
    """One open file. Every method may raise OSError."""

    def size_bytes(self) -> int: ...

    def pread(self, length: int, position: int) -> bytes:
        """Up to ``length`` bytes from ``position``; short only at the end of the file."""
        ...

    def pwrite(self, data: bytes | bytearray | memoryview, position: int) -> None:
        """Write all of ``data``. Not durable until :meth:`sync`."""
        ...

    def sync(self) -> None:
        """Make the file's bytes durable (``fdatasync``)."""
        ...

    def truncate(self, length: int) -> None: ...

    def allocate(self, length: int) -> None:
        """Give a new, empty file ``length`` bytes of the disk, which read as zeros."""
        ...

    def zero(self, start: int, stop: int) -> None:
        """Write zeros over whole pages (``PAGE_BYTES``). Not durable until :meth:`sync`."""
        ...

    def map(self) -> Mapping:
        """The file's bytes as they are now, read only, and as they become."""
        ...

    def close(self) -> None: ...


class Mapping(Protocol):
    """A file's bytes in memory. ``view`` stays valid until :meth:`close`."""

    @property
    def view(self) -> memoryview: ...

    def release(self, start: int, stop: int) -> None:
        """Give these bytes' memory back to the kernel. They can be read as before."""
        ...

    def close(self) -> None: ...


class Storage(Protocol):
    """A data directory. Every method may raise OSError."""

    def lock(self) -> None:
        """Take the directory for this store; :class:`StoreLocked` if someone else has it."""
        ...

    def make_directory(self, name: str) -> None:
        """Create ``name`` if it is missing, and make its entry durable."""
        ...

    def list_directory(self, name: str) -> list[str]:
        """The names in ``name``, sorted; empty if there is no such directory."""
        ...

    def open(self, name: str, *, writable: bool = False, create: bool = False) -> File:
        """Open ``name``. ``create`` makes a new, empty file and fails if there is one."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Replace ``new`` by ``old``. Durable after :meth:`sync_directory`."""
        ...

    def unlink(self, name: str) -> None:
        """Remove ``name`` (no error if it is not there). Durable after :meth:`sync_directory`."""
        ...

    def sync_directory(self, name: str) -> None: ...

    def free_bytes(self) -> int:
        """What the disk still has room for."""
        ...

    def close(self) -> None:
        """Give up the lock."""
        ...


class _OsMapping:
    def __init__(self, descriptor: int) -> None:
        length = os.fstat(descriptor).st_size
        if length == 0:
            raise ValueError("cannot map an empty file")
        self.view = map_file(descriptor, length)

    def release(self, start: int, stop: int) -> None:
        release_mapped(self.view, start, stop)

    def close(self) -> None:
        try:
            self.view.release()
        except BufferError:
            # A reader still holds a slice: the mapping goes when the last slice does.
            return


class OsFile:
    """:class:`File` on a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def size_bytes(self) -> int:
        return os.fstat(self._descriptor).st_size

    def pread(self, length: int, position: int) -> bytes:
        chunks: list[bytes] = []
        while length > 0:
            chunk = os.pread(self._descriptor, length, position)
            if not chunk:
                break
            chunks.append(chunk)
            length -= len(chunk)
            position += len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def pwrite(self, data: bytes | bytearray | memoryview, position: int) -> None:
        written = os.pwrite(self._descriptor, data, position)
        if written == len(data):
            return
        with memoryview(data) as rest:
            while written < len(data):
                step = os.pwrite(self._descriptor, rest[written:], position + written)
                if step == 0:
                    raise OSError(errno.EIO, "write made no progress")
                written += step

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def truncate(self, length: int) -> None:
        os.ftruncate(self._descriptor, length)

    def allocate(self, length: int) -> None:
        os.posix_fallocate(self._descriptor, 0, length)

    def zero(self, start: int, stop: int) -> None:
        """In small pieces, each written out before the next.

        Syncs of other files then wait for one piece at most, not for megabytes of zeros that the
        page cache has gathered. The pages stay in the cache, which makes writes to them cheaper.
        """
        assert start % PAGE_BYTES == stop % PAGE_BYTES == 0
        for position in range(start, stop, _ZERO_PIECE_BYTES):
            piece = min(stop - position, _ZERO_PIECE_BYTES)
            write_zeros(self, position, position + piece)
            write_out(self._descriptor, position, piece)

    def map(self) -> Mapping:
        return _OsMapping(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class OsStorage:
    """:class:`Storage` on a directory of the file system."""

    def __init__(self, directory: str | os.PathLike[str], *, create: bool = True) -> None:
        """Without ``create`` a missing directory is a FileNotFoundError."""
        self._root = os.fspath(directory)
        self._lock_descriptor: int | None = None
        if os.path.exists(self._root) and not os.path.isdir(self._root):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self._root)
        if create and not os.path.isdir(self._root):
            os.makedirs(self._root, mode=0o750, exist_ok=True)
            self.sync_directory(os.pardir)
        elif not os.path.isdir(self._root):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._root)

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name) if name else self._root

    def lock(self) -> None:
        descriptor = os.open(
            self._path(filenames.LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            who = f"process {holder}" if holder else "another process"
            raise StoreLocked(
                f"data directory {self._root!r} is in use by {who}; "
                "stop it, or choose another directory"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        self._lock_descriptor = descriptor

    def make_directory(self, name: str) -> None:
        os.makedirs(self._path(name), mode=0o750, exist_ok=True)
        self.sync_directory(os.path.dirname(name))

    def list_directory(self, name: str) -> list[str]:
        try:
            return sorted(os.listdir(self._path(name)))
        except FileNotFoundError:
            return []

    def open(self, name: str, *, writable: bool = False, create: bool = False) -> OsFile:
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return OsFile(os.open(self._path(name), flags, _FILE_MODE))

    def rename(self, old: str, new: str) -> None:
        os.replace(self._path(old), self._path(new))

    def unlink(self, name: str) -> None:
        try:
            os.unlink(self._path(name))
        except FileNotFoundError:
            return

    def sync_directory(self, name: str) -> None:
        descriptor = os.open(self._path(name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self) -> int:
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None


def write_zeros(file: File, start: int, stop: int) -> None:
    """Write zeros from byte ``start`` to ``stop``."""
    while start < stop:
        step = min(len(_ZERO_CHUNK), stop - start)
        file.pwrite(memoryview(_ZERO_CHUNK)[:step], start)
        start += step


def replace_file(storage: Storage, directory: str, name: str, content: bytes) -> None:
    """Put ``content`` at ``directory/name`` so that a crash leaves the old file or the new."""
    path = f"{directory}/{name}" if directory else name
    temporary = path + filenames.TEMPORARY_SUFFIX
    storage.unlink(temporary)
    file = storage.open(temporary, writable=True, create=True)
    try:
        file.pwrite(content, 0)
        file.sync()
    finally:
        file.close()
    storage.rename(temporary, path)
    storage.sync_directory(directory)


def read_file(storage: Storage, name: str) -> bytes:
    """All bytes of ``name``."""
    file = storage.open(name)
    try:
        return file.pread(file.size_bytes(), 0)
    finally:
        file.close()
