"""Answers in pieces, and what is lent to the reactor for them until it has no more need of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, Final

from tailrace_server._reactor import ffi, lib
from tailrace_server.protocol.message import Chunk

_RELEASED: Final = 256


class Lent:
    """The pieces of answers that are still to be sent by the reactor of ``pointer``."""

    def __init__(self, pointer: Any) -> None:
        self._pointer = pointer
        self._tokens = count()
        self._pieces: dict[int, list[Any]] = {}
        self._released = ffi.new("uint64_t[]", _RELEASED)

    def __len__(self) -> int:
        """How many answers are still to be sent."""
        return len(self._pieces)

    def send(self, handle: int, pieces: Sequence[Chunk], flags: int) -> bool:
        """See :meth:`Reactor.answer_pieces`."""
        held = [ffi.from_buffer("uint8_t[]", piece) for piece in pieces]
        spans = ffi.new("struct tr_span[]", [(span, len(span)) for span in held])
        token = next(self._tokens)
        # Before the call: another thread may be told that it is over before this one returns.
        self._pieces[token] = held
        found = lib.tr_reactor_answer_pieces(self._pointer, handle, spans, len(held), flags, token)
        if found != lib.TR_PIECES_KEPT:
            del self._pieces[token]
        return bool(found != lib.TR_PIECES_STALE)

    def release(self) -> None:
        """Let go of what the reactor needs no more."""
        found = _RELEASED
        while found == _RELEASED:
            found = lib.tr_reactor_released(self._pointer, self._released, _RELEASED)
            for token in ffi.unpack(self._released, found):
                del self._pieces[token]
