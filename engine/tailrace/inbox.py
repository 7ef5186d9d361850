"""What blocking callers left to be decided by whoever commits (flat combining; Hendler and
others, SPAA 2010).

With many threads on few cores, deciding in one place runs several times faster than in each
thread in turn, whose every step would find the caches full of another's.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Final

from tailrace.batch import HEADER_BYTES
from tailrace.limits import BATCH_BYTES_MAX
from tailrace.operation import Append, Create, Operation, SetMetadata
from tailrace.plain_inbox import Waiting

_WITH_RECORDS: Final = (Append, Create)
_SEQUENCES: Final = (list, tuple)
_COUNTED_MAX: Final = 16
"""So many records, evenly spread, are taken for all of an append."""


class Inbox:
    """First come, first decided. Any thread puts; who holds the commit lock looks and takes.

    ``bytes`` is about how much they would stage. From ``bytes_max`` on nothing more is taken.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Waiting, int]] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, waiting: Waiting) -> bool:
        """False if it is full."""
        size = _bytes_of(waiting[0])
        with self._lock:
            if self._waiting and self.bytes >= self._bytes_max:
                return False
            self.bytes += size
            self._waiting.append((waiting, size))
        return True

    def look(self) -> list[Waiting]:
        """All of them; they stay."""
        return [waiting for waiting, _ in list(self._waiting)]

    def take(self, looked_at: Iterable[Waiting]) -> None:
        """Forget these, which are the first, but for those that were taken before."""
        with self._lock:
            for one in looked_at:
                if self._waiting and self._waiting[0][0] is one:
                    self.bytes -= self._waiting.popleft()[1]
            if not self._waiting:
                self.bytes = 0  # also where a signal came between an operation and its size


def _bytes_of(operation: Operation) -> int:
    """About what its batch takes, going by some of its records.

    Next to nothing if they are made when it is decided, or are more than a batch holds, so that
    it is going to be refused.
    """
    held: object = ()
    if isinstance(operation, _WITH_RECORDS):
        held = operation.records
    elif isinstance(operation, SetMetadata):
        held = (operation.metadata,)
    if not isinstance(held, _SEQUENCES):
        return HEADER_BYTES
    # All of a thousand records would take longer to count than anything else here does.
    some = held if len(held) <= _COUNTED_MAX else held[:: len(held) // _COUNTED_MAX + 1]
    try:
        size = HEADER_BYTES + sum(map(len, some)) * len(held) // (len(some) or 1)
    except TypeError:  # refused, too
        return HEADER_BYTES
    return size if size <= BATCH_BYTES_MAX else HEADER_BYTES
