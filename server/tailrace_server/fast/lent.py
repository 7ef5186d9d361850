"""Answers in pieces: memory that is lent to the reactor until it has sent them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, Final

from tailrace_server._reactor import ffi, lib
from tailrace_server.protocol.message import Chunk

_TOKENS_PER_CALL: Final = 256


class Lent:
    """The pieces of answers that are still to be sent by the reactor of ``pointer``."""

    def __init__(self, pointer: Any) -> None:
        self._pointer = pointer
        self._tokens = count()
        self._pieces: dict[int, list[Any]] = {}
        self._released = ffi.new("uint64_t[]", _TOKENS_PER_CALL)

    def __len__(self) -> int:
        """How many answers are still to be sent."""
        return len(self._pieces)

    def send(self, handle: int, pieces: Sequence[Chunk], flags: int) -> bool:
        """See :meth:`Reactor.answer_pieces`."""
        held = [ffi.from_buffer("uint8_t[]", piece) for piece in pieces]
        spans = ffi.new("struct tr_span[]", [(span, len(span)) for span in held])
        token = next(self._tokens)
        # Before the call: another thread may get the token back before this call returns.
        self._pieces[token] = held
        found = lib.tr_reactor_answer_pieces(self._pointer, handle, spans, len(held), flags, token)
        if found != lib.TR_PIECES_KEPT:
            del self._pieces[token]
        return bool(found != lib.TR_PIECES_STALE)

    def release(self) -> None:
        """Let go of all that the reactor needs no more."""
        found = _TOKENS_PER_CALL
        while found == _TOKENS_PER_CALL:
            found = lib.tr_reactor_released(self._pointer, self._released, _TOKENS_PER_CALL)
            for token in ffi.unpack(self._released, found):
                del self._pieces[token]
