"""What one poll of the reactor found, as values; see ``csrc/front/reactor.h`` and ``collect.h``."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tailrace_server._reactor import lib

REQUEST: Final[int] = lib.TR_ROW_REQUEST
HANDOVER: Final[int] = lib.TR_ROW_HANDOVER
REFUSED: Final[int] = lib.TR_ROW_REFUSED
LEAVING: Final[int] = lib.TR_ROW_LEAVING
LEFT: Final[int] = lib.TR_ROW_LEFT
HEAD: Final[int] = lib.TR_ROW_HEAD
CLOSE: Final[int] = lib.TR_ANSWER_CLOSE


class Row(NamedTuple):
    """One line of what a poll found; see ``struct tr_row``. Offsets ``head`` are in the arena."""

    handle: int
    kind: int
    method: int
    keep_alive: int
    head: int
    head_length: int
    body_length: int
    target: int
    target_length: int
    first_field: int
    field_count: int
    length_value: int
    length_value_length: int
    seq_value: int
    seq_value_length: int
    number: int
    taken: int


class Polled(NamedTuple):
    """``rows`` are tuples in the form of :class:`Row`; requests' bytes are slices of ``arena``.

    Rows that were taken as columns are not among them.
    ``accept_error``: the errno of an accept for which there were no means, or 0.
    """

    arena: bytes
    rows: Iterator[tuple[Any, ...]]
    accept_error: int


class Columns(NamedTuple):
    """Appends of records and nothing else, put together in groups; see ``struct tr_columns``.

    For each group: its lane in ``lanes``, its Producer-Seq in ``seqs`` (typecode ``Q``; 0 if it is
    nobody's), how many rows it has in ``counts``, how many records in ``records``.
    For each row, group after group: its handle in ``handles`` (as bytes), and in ``ends`` how many
    records its group has up to the end of that row. For each record: its length in ``lengths``.
    ``payload`` is good until the next poll. ``body_bytes`` is the length of all the bodies.
    """

    lanes: list[int]
    seqs: array[int]
    counts: array[int]
    records: array[int]
    handles: bytes
    ends: array[int]
    lengths: array[int]
    payload: memoryview
    body_bytes: int


class Taken(NamedTuple):
    """A connection that was taken from the reactor.

    ``input`` was read but not yet given as a request; ``output`` is still to be sent, and with
    ``closing`` nothing more is to be answered after it. ``tag`` was given to
    :meth:`Reactor.adopt`.
    """

    descriptor: int
    input: bytes
    output: bytes
    closing: bool
    tag: int
