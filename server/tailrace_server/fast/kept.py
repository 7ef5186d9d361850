"""Rendered answers that are given again: most small reads repeat what was asked just before.

An answer is kept for one known head, with the version that its stream had before the answer was
made, and is given again while the stream has that version. So nobody has to tell when a stream
changes: an answer that no longer holds is found out when it is asked for. Nothing of an answer
but its Date is ever changed.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from tailrace.limits import MIB
from tailrace_server.context import LASTING_BYTES_MAX, Lasting
from tailrace_server.fast import writer
from tailrace_server.fast.answers import Answers, Batch
from tailrace_server.fast.shared import Shared
from tailrace_server.front import InSteps
from tailrace_server.service import Known

ANSWERS_MAX: Final = 4096
ANSWER_BYTES_MAX: Final = LASTING_BYTES_MAX
BYTES_MAX: Final = 8 * MIB
"""Bounds on what is kept: the number of answers, the size of each, the size of all."""


class _Kept:
    """``data`` has the whole line ``date`` at ``date_at``; ``sent`` bytes of it are the body."""

    __slots__ = ("count", "data", "date", "date_at", "key", "sent", "version")

    def __init__(
        self, known: Known, lasting: Lasting, data: bytes, date: bytes, date_at: int
    ) -> None:
        response, self.key, self.version = lasting
        self.data = data
        self.date = date
        self.date_at = date_at
        self.sent = sum(map(len, response.body))
        self.count = known.route, response.status

    def redate(self, date: bytes) -> None:
        end = self.date_at + len(self.date)
        self.data = b"".join((self.data[: self.date_at], date, self.data[end:]))
        self.date = date


class KeptAnswers:
    """The answers kept, by known head. For the Trio thread."""

    def __init__(self, service: InSteps, shared: Shared, answers: Answers) -> None:
        self._version = service.version
        self._shared = shared
        self._answers = answers
        self._date = writer.date_line()
        # The answer that was asked for longest ago comes first.
        self._kept: OrderedDict[Known, _Kept] = OrderedDict()
        self.bytes = 0
        """Size of all answers kept."""

    def __len__(self) -> int:
        return len(self._kept)

    def begin(self) -> None:
        """Look at the clock, once for a turn's requests."""
        self._date = writer.date_line()

    def answer(self, batch: Batch, handle: int, known: Known, started: float) -> bool:
        """Answer a request that has no body, on a connection that stays; False if it cannot."""
        kept = self._kept.get(known)
        if kept is None or self._shared.draining:
            return False
        if self._version(kept.key) is not kept.version:
            self._drop(known)
            return False
        self._kept.move_to_end(known)
        if kept.date is not self._date:
            kept.redate(self._date)
        batch.handles.append(handle)
        batch.pieces.append(kept.data)
        batch.flags.append(0)
        batch.counts[kept.count] += 1
        self._shared.counters.answers_kept += 1
        if self._shared.access_log:
            _, status = kept.count
            self._answers.note(batch, handle, known.request, status, kept.sent, started)
        return True

    def keep(self, known: Known, lasting: Lasting, data: bytes) -> None:
        """Keep ``data``, an answer that was just rendered for a connection that stays."""
        if known in self._kept:
            self._drop(known)
        date = self._date
        # No field's value holds a line break, so in the head only the Date has such a line; or
        # none has, if the clock went on since the turn began.
        date_at = data.find(b"\r\n" + date, 0, data.index(b"\r\n\r\n") + 2) + 2
        if len(data) > ANSWER_BYTES_MAX or date_at < 2:
            return
        self._kept[known] = _Kept(known, lasting, data, date, date_at)
        self.bytes += len(data)
        while self.bytes > BYTES_MAX or len(self._kept) > ANSWERS_MAX:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= len(oldest.data)

    def _drop(self, known: Known) -> None:
        self.bytes -= len(self._kept.pop(known).data)
