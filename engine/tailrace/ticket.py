"""A submitted operation's future answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import NamedTuple

from tailrace import validate
from tailrace.outcome import Outcome
from tailrace.turns import Turns

_logger = logging.getLogger("tailrace")


class Ticket:
    """Answered once, after what it reveals is durable.

    ``outcome`` is the answer, or ``error`` what kept the store from giving one
    (:class:`tailrace.errors.LogPoisoned`). ``context`` belongs to whoever submitted.
    """

    __slots__ = (
        "_gate", "_on_done", "context", "done", "error", "internal", "left", "outcome", "turns",
    )  # fmt: skip

    def __init__(
        self,
        on_done: Callable[[Ticket], None] | None,
        context: object,
        *,
        internal: bool = False,
        turns: Turns | None = None,
    ) -> None:
        """``turns``: exactly one thread will wait, without a timeout, to be woken in its turn.

        ``internal``: submitted by the store itself, and told to nobody.
        """
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.done = False
        self.context = context
        self.internal = internal
        self.turns = turns
        self.left = False
        self._on_done = on_done
        self._gate = threading.Lock()
        self._gate.acquire()

    def wait(self, timeout_s: float | None = None) -> Outcome:
        """Block until answered. After a TimeoutError the operation may still become durable."""
        if timeout_s is not None:
            timeout_s = validate.seconds("timeout_s", timeout_s)
        if self.turns is not None:
            self._wait_for_turn(self.turns)
        elif not self.done:
            if not self._gate.acquire(timeout=-1 if timeout_s is None else timeout_s):
                raise TimeoutError("the operation is not durable yet; it may still become so")
            self._gate.release()  # for the next one that waits
        if self.error is not None:
            raise self.error
        assert self.outcome is not None
        return self.outcome

    def _wait_for_turn(self, turns: Turns) -> None:
        # Also if it is done: whoever has been given a turn must take it.
        try:
            self._gate.acquire()
        except BaseException:
            turns.leave(self)
            raise
        self.turns = None
        turns.taken(self)

    def answer(self, outcome: Outcome | None, error: BaseException | None = None) -> None:
        """Called by the store, once."""
        self.settle(outcome, error)
        self.wake()
        if self._on_done is not None:
            try:
                self._on_done(self)
            except Exception:
                _logger.exception("an on_done callback raised")

    def settle(self, outcome: Outcome | None, error: BaseException | None) -> None:
        """Answer, but let the thread that waits sleep on until :meth:`wake`."""
        assert not self.done
        self.outcome = outcome
        self.error = error
        self.done = True

    def wake(self) -> None:
        """Called by the store; to wake again does nothing."""
        try:
            self._gate.release()
        except RuntimeError:
            pass


class RowsTaken(NamedTuple):
    """What became of :class:`tailrace.rows.Rows` when they were submitted.

    ``ticket`` is for the groups that were staged, its outcome a
    :class:`tailrace.rows.AppendedRows`; None if none was. ``left`` are the indexes of the groups
    that were not: submit their appends one by one to learn the reason.
    """

    ticket: Ticket | None
    left: list[int]


class Group(NamedTuple):
    """What one sync made durable: the tickets answered, and the ids of the streams changed."""

    tickets: list[Ticket]
    stream_ids: set[int]
