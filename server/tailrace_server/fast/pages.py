"""Catch-up reads of a turn that differ in their targets alone: read with one call.

When many clients come back, each asks for another stream, or from another offset, so no head is
like one that is known, and few come again. What can be said of them is said once: of all that
their heads have behind the target (:data:`context.Siblings`). A head that does come again
soon is learned like any other, as its answer may last.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import structlog

from tailrace.operation import StreamKey
from tailrace_server.context import LastingStep, PlainPage
from tailrace_server.fast.answers import Answers, Batch
from tailrace_server.fast.kept import ANSWERS_MAX
from tailrace_server.fast.page_answer import PageForms
from tailrace_server.fast.reactor import METHODS
from tailrace_server.fast.shared import Shared
from tailrace_server.fast.turn import Row
from tailrace_server.front import InSteps, Refusal, split_target
from tailrace_server.protocol.message import Chunk
from tailrace_server.service import Known

_GET: Final = METHODS.index("GET")
_LEADERS_MAX: Final = 256
_NUMBER: Final = Row._fields.index("number")

_log = structlog.get_logger("tailrace.front")

_Fields = tuple[Any, ...]
"""A row, in the form of :class:`turn.Row`."""


class _Asked(NamedTuple):
    row: _Fields
    route: str
    head: int


class PagesPath:
    """``taken``: how many requests were answered this way. For the Trio thread.

    At most ANSWERS_MAX heads, and a turn's, are remembered to have been met.
    """

    def __init__(self, service: InSteps, shared: Shared, answers: Answers) -> None:
        self._service = service
        self._shared = shared
        self._answers = answers
        self.forms = PageForms()
        self._leaders: dict[bytes, Known] = {}
        # Hashes of heads that were asked for lately: the next time, their answers may be kept.
        self._met: set[int] = set()
        self._rows: list[_Asked] = []
        self._wanted: list[tuple[StreamKey, int]] = []
        self.taken = 0

    def begin(self) -> None:
        """A turn begins."""
        if len(self._met) >= ANSWERS_MAX:
            self._met.clear()

    def forget_all(self) -> None:
        """Every head is to be looked at again."""
        self._leaders.clear()
        self._met.clear()

    def lead(self, head: bytes, behind: bytes, known: Known) -> None:
        """A head was understood that has these bytes behind its target."""
        if known.siblings is not None:
            met = hash(head)
            if met in self._met and isinstance(known.step, LastingStep):
                known.step.again = True
            self._met.add(met)
            if len(self._leaders) >= _LEADERS_MAX:
                self._leaders.clear()
            self._leaders[behind] = known

    def take(self, row: _Fields, arena: bytes) -> bool:
        """Note a row to be answered by :meth:`answer`; False if it is not of this kind."""
        _, _, method, keep_alive, head, head_length, body_length, target, target_length = row[:9]
        if method != _GET or body_length or not keep_alive:
            return False
        begin = head + target
        end = begin + target_length
        leader = self._leaders.get(arena[end : head + head_length])
        if leader is None or leader.siblings is None:
            return False
        met = hash(arena[head : head + head_length])
        if met in self._met or self._shared.access_log or self._shared.draining:
            return False
        place = split_target("GET", arena[begin:end].decode("ascii"), self._shared.limits)
        wanted = None if isinstance(place, Refusal) else leader.siblings(*place)
        if wanted is None:
            return False
        self._rows.append(_Asked(row, leader.route, met))
        self._wanted.append(wanted)
        return True

    def answer(self, batch: Batch) -> list[_Fields]:
        """Answer the rows that were taken; those that must go the general way."""
        if not self._rows:
            return []
        rows, self._rows = self._rows, []
        wanted, self._wanted = self._wanted, []
        pages: list[PlainPage | None]
        try:
            pages = self._service.pages(wanted)
        except Exception:
            # A defect, and one request's must not become everybody's.
            _log.exception("reads failed")
            pages = [None] * len(rows)
        left = []
        for (row, route, head), page in zip(rows, pages, strict=True):
            found = None if page is None else self._made(page)
            if found is None:
                left.append(row)
                if row[_NUMBER]:
                    self._met.add(head)
                continue
            self._answers.put(batch, row[0], *found, 0)
            batch.counts[(route, 200)] += 1
            self._met.add(head)
        self.taken += len(rows) - len(left)
        self._shared.counters.requests += len(rows) - len(left)
        return left

    def _made(self, page: PlainPage) -> tuple[bytes, tuple[Chunk, ...], int] | None:
        """See :meth:`PageForms.answer`; None also if that fails, for one request alone."""
        try:
            return self.forms.answer(page)
        except Exception:
            _log.exception("read failed")
            return None
