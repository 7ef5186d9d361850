"""The real storage, with a hook before every write, sync and creation of a file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from tailrace.storage import OsFile, OsStorage

Hook = Callable[[str, str], None]


class HookedFile(OsFile):
    def __init__(self, descriptor: int, name: str, hook: Hook) -> None:
        super().__init__(descriptor)
        self._name = name
        self._hook = hook

    def pwrite(self, data: bytes | bytearray | memoryview, position: int) -> None:
        self._hook("write", self._name)
        super().pwrite(data, position)

    def sync(self) -> None:
        self._hook("sync", self._name)
        super().sync()


class HookedStorage(OsStorage):
    """``hook(kind, name)`` may block, or raise OSError. Replace it at any time."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        super().__init__(directory)
        self.hook: Hook = lambda kind, name: None

    def open(self, name: str, *, writable: bool = False, create: bool = False) -> OsFile:
        if create:
            self.hook("create", name)
        file = super().open(name, writable=writable, create=create)
        return HookedFile(file._descriptor, name, self._call)

    def _call(self, kind: str, name: str) -> None:
        self.hook(kind, name)  # the hook of this moment, not the one at open


def hold_log(
    storage: HookedStorage, patience_s: float, *, at: str = "sync", error: OSError | None = None
) -> tuple[threading.Event, threading.Event]:
    """Have syncs (or what ``at`` says) of the log wait for the first event, then raise ``error``.

    The second event says that one of them waits.
    """
    gate, held = threading.Event(), threading.Event()

    def hook(kind: str, name: str) -> None:
        if kind == at and name.endswith(".segment"):
            held.set()
            assert gate.wait(patience_s)
            if error is not None:
                raise error

    storage.hook = hook
    return gate, held
