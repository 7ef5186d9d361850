"""A request and a response as plain values: the boundary with every front."""

from __future__ import annotations

from dataclasses import dataclass

HeaderList = tuple[tuple[str, str], ...]
Chunk = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Request:
    """One request with its whole body.

    ``path`` is the raw path, still percent-encoded, from its first ``/``; ``query`` the raw
    query string without its ``?``. Header names are lower case, values latin-1 decoded, in
    the order sent, duplicates kept. ``scheme`` is what it came over, ``http`` or ``https``.
    """

    method: str
    path: str
    query: str
    headers: HeaderList
    body: bytes
    scheme: str = "http"

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
