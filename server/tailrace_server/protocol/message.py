"""A request and a response as plain values: the boundary with every front."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

HeaderList = tuple[tuple[str, str], ...]
Chunk = bytes | bytearray | memoryview


class BodyStream(Protocol):
    """A request body that is read while it arrives, by one reader, until the answer is made.

    Nothing is read from the client while nobody asks, and such a time does not count
    against the client. A client that waits for ``100 Continue`` gets it at the first call.
    """

    def receive(self) -> Awaitable[bytes]:
        """The next piece of the body, not empty; ``b""`` once it has ended.

        Raises :class:`BodyAborted`, and again at every later call.
        """
        ...


class BodyAborted(Exception):
    """A streamed body will not come to its end.

    Its client left or was too slow, or what it sent is no body. Whoever catches it to clean
    up raises it again: the service answers with ``answer``, if there is anyone to read it.
    """

    def __init__(self, message: str, answer: Response) -> None:
        super().__init__(message)
        self.answer = answer


@dataclass(slots=True)
class Request:
    """One request: with its whole body, or of a streamed route with the stream of its body.

    ``path`` is the raw path, still percent-encoded, from its first ``/``; ``query`` the raw
    query string without its ``?``. Header names are lower case, values latin-1 decoded, in
    the order sent, duplicates kept. ``scheme`` is what it came over, ``http`` or ``https``.
    While there is a ``stream``, ``body`` is empty.
    """

    method: str
    path: str
    query: str
    headers: HeaderList
    body: bytes
    scheme: str = "http"
    stream: BodyStream | None = None

    def header(self, name: str) -> str | None:
        """The value of header ``name`` (any case), None if it was not sent.

        Repeated headers are joined with ``", "`` (RFC 9110 section 5.3), so a header that
        may be sent once only is caught by its own grammar when it comes twice.
        """
        wanted = name.lower()
        found: str | None = None
        for candidate, value in self.headers:
            if candidate == wanted:
                value = value.strip(" \t")
                found = value if found is None else f"{found}, {value}"
        return found


@dataclass(frozen=True, slots=True)
class Response:
    """One response.

    ``headers`` are complete except Content-Length, Date and Connection, which the front
    adds (no Content-Length on 204 and 304). ``body`` is a run of chunks; a front sends
    none of it in answer to HEAD.
    """

    status: int
    headers: HeaderList
    body: tuple[Chunk, ...] = ()
