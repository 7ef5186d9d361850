"""Answers that many clients get alike, sent with one call of the reactor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Final

import structlog

from tailrace.limits import KIB
from tailrace_server.context import Found, Wait
from tailrace_server.fast import writer
from tailrace_server.fast.turn import CLOSE
from tailrace_server.front import failed
from tailrace_server.protocol.message import Chunk, Response

_JOINED_BYTES_MAX: Final = 64 * KIB
"""A larger answer is not copied, neither here nor for a slow client."""

_log = structlog.get_logger("tailrace.front")


class SharedAnswer:
    """An answer that many may get.

    ``place`` is its index in the batch's pieces; None if it is too large to be copied for each
    client: then it is sent from where its ``chunks`` stand.
    """

    __slots__ = ("chunks", "flags", "length", "place", "status")

    def __init__(self, response: Response, close: bool, place: int) -> None:
        start, body, self.length = writer.whole_or_500(response, "GET", close=close, http_10=False)
        self.status = response.status
        self.flags = CLOSE if close else 0
        self.chunks: tuple[Chunk, ...] = (start, *body)
        self.place = place if self.length <= _JOINED_BYTES_MAX else None


class AlikeBatch:
    """Answers for one call: each handle with the place of its answer in ``pieces``."""

    def __init__(self) -> None:
        self.handles: list[int] = []
        self.which: list[int] = []
        self.pieces: list[bytes] = []
        self.flags = bytearray()
        self.bytes = 0
        self.large: list[tuple[int, SharedAnswer]] = []
        self.counts: Counter[tuple[str, int]] = Counter()
        self.looks: dict[Hashable, Found | Wait | None] = {}
        self._answers: dict[tuple[Found, int, bool], SharedAnswer] = {}

    def answer(self, found: Found, cursor: int, close: bool) -> SharedAnswer:
        """The answer, rendered unless it is here already."""
        made = self._answers.get((found, cursor, close))
        if made is None:
            try:
                response = found(cursor)
            except Exception:
                _log.exception("request failed")
                response = failed().response()
            made = self._answers[found, cursor, close] = SharedAnswer(
                response, close, len(self.pieces)
            )
            if made.place is not None:
                self.pieces.append(b"".join(made.chunks))
                self.flags.append(made.flags)
        return made

    def give(self, handles: list[int], answer: SharedAnswer, route: str) -> None:
        """Let these have an answer of this batch."""
        self.counts[(route, answer.status)] += len(handles)
        if answer.place is None:
            self.large += [(handle, answer) for handle in handles]
            self.bytes += answer.length * len(handles)
        else:
            self.handles += handles
            self.which += [answer.place] * len(handles)
            self.bytes += len(self.pieces[answer.place]) * len(handles)
