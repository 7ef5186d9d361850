"""Handing out answers: a group is durable, or it is not and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tailrace.errors import LogPoisoned, TailraceError
from tailrace.outcome import Outcome
from tailrace.staged import Staged
from tailrace.ticket import Group, Ticket
from tailrace.turns import Turns

Settled = tuple[Ticket, Outcome | None, BaseException | None]


class Answers:
    """``on_group`` is called for each group, after its tickets have their answers."""

    def __init__(self, turns: Turns, on_group: Callable[[Group], None]) -> None:
        self._turns = turns
        self._on_group = on_group
        self._told = True  # on_group knows of the last group that was given

    def give(self, group: list[Staged], changed: set[int], own: Ticket | None) -> bool:
        """Answer the tickets of a group that is durable; it ``changed`` these streams.

        ``own`` is the ticket of the calling thread, which nobody has to wake. True: somebody has
        to see that the turns of those who are woken go on; see :meth:`tailrace.turns.Turns.add`.
        """
        self._told = False
        tickets: list[Ticket] = []
        in_turn: list[Ticket] = []
        for entry in group:
            answers: Sequence[tuple[Ticket, Outcome | None]] = entry.answers
            if entry.ticket is not None:
                answers = ((entry.ticket, entry.outcome),)
            for ticket, outcome in answers:
                if ticket.turns is None:
                    ticket.answer(outcome, entry.error)
                else:
                    ticket.settle(outcome, entry.error)
                    if ticket is own:
                        ticket.turns = None
                    else:
                        in_turn.append(ticket)
                if not ticket.internal:
                    tickets.append(ticket)
        must_go_on = bool(in_turn) and self._turns.add(in_turn)
        self._told = True
        self._on_group(Group(tickets, changed))
        return must_go_on

    def give_rest(self, group: list[Staged], changed: set[int]) -> None:
        """Where :meth:`give` was interrupted: tell who was not told, and wake all, at once."""
        tickets: list[Ticket] = []
        for entry in group:
            answers: Sequence[tuple[Ticket, Outcome | None]] = entry.answers
            if entry.ticket is not None:
                answers = ((entry.ticket, entry.outcome),)
            for ticket, outcome in answers:
                if ticket.done:
                    ticket.wake()
                else:
                    ticket.answer(outcome, entry.error)
                if not ticket.internal:
                    tickets.append(ticket)
        if not self._told:
            self._on_group(Group(tickets, changed))

    def give_at_once(self, settled: Sequence[Settled]) -> None:
        """Give answers that reveal only what is durable already."""
        for ticket, outcome, error in settled:
            ticket.answer(outcome, error)
        told = [ticket for ticket, _, _ in settled if not ticket.internal]
        if told:
            self._on_group(Group(told, set()))

    def refuse(self, tickets: Iterable[Ticket], error: Callable[[], TailraceError]) -> None:
        """Give each an error of its own: raising one changes it."""
        told: list[Ticket] = []
        for ticket in tickets:
            if ticket.done:
                continue  # of a group that was answered before
            ticket.answer(None, error())
            if not ticket.internal:
                told.append(ticket)
        self._on_group(Group(told, set()))


def poisoned(cause: BaseException) -> LogPoisoned:
    """The error that every writer gets once the log is poisoned."""
    error = LogPoisoned(
        f"writing to the log failed ({cause}); writes are refused until the store is "
        "opened again, reads go on"
    )
    error.__cause__ = cause
    return error
