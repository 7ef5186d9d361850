"""Responses into bytes: one string for the head, one join, one send. Sans-IO."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import structlog

from tailrace_server.front import Refusal, has_body, live_length, whole_length
from tailrace_server.live import LiveResponse
from tailrace_server.protocol.headers import CONTENT_LENGTH
from tailrace_server.protocol.message import Response

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus
}


_log = structlog.get_logger("tailrace.front")


class InvalidHeader(ValueError):
    """A header field holds a line break or a byte that cannot be sent: an error of ours."""


class _Clock:
    """The Date field, formatted once a second. For any thread."""

    def __init__(self) -> None:
        self._of_second = (-1, "", b"")

    def line(self) -> str:
        return self._now()[1]

    def encoded(self) -> bytes:
        return self._now()[2]

    def _now(self) -> tuple[int, str, bytes]:
        second = int(time.time())
        found = self._of_second
        if found[0] != second:
            line = f"Date: {formatdate(second, usegmt=True)}\r\n"
            found = self._of_second = second, line, line.encode("ascii")
        return found


_clock: Final = _Clock()


def date_line() -> bytes:
    """The line that a head has now. The same object within a second, for one thread."""
    return _clock.encoded()


def head(
    status: int, headers: Iterable[tuple[str, str]], framing: str, *, close: bool, http_10: bool
) -> bytes:
    """The response head. ``framing`` is a whole header line, or empty.

    ``http_10``: the client speaks HTTP/1.0, which must be told that its connection stays.
    Raises :class:`InvalidHeader` rather than let a value become a line of its own.
    """
    lines = [_STATUS_LINES.get(status) or f"HTTP/1.1 {status} Unknown\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    breaks = len(lines) + 2
    lines.append(_clock.line())
    if framing:
        lines.append(framing)
        breaks += 1
    if close:
        lines.append("Connection: close\r\n")
        breaks += 1
    elif http_10:
        lines.append("Connection: keep-alive\r\n")
        breaks += 1
    lines.append("\r\n")
    text = "".join(lines)
    if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
        raise InvalidHeader("a response header field holds a line break")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise InvalidHeader(f"a response header field cannot be sent: {error}") from None


def whole(
    response: Response, method: str, *, close: bool, http_10: bool
) -> tuple[bytes, tuple[bytes | bytearray | memoryview, ...], int]:
    """A response as its head, the body pieces to send after it, and their length."""
    length = whole_length(response, method)
    framing = "" if length is None else f"{CONTENT_LENGTH}: {length}\r\n"
    start = head(response.status, response.headers, framing, close=close, http_10=http_10)
    if not length or not has_body(method, response.status):
        return start, (), 0
    return start, response.body, length


def whole_or_500(
    response: Response, method: str, *, close: bool, http_10: bool
) -> tuple[bytes, tuple[bytes | bytearray | memoryview, ...], int]:
    """As :func:`whole`; the answer to a defect if the response cannot be sent."""
    try:
        return whole(response, method, close=close, http_10=http_10)
    except InvalidHeader:
        _log.exception("invalid response")
        response = Refusal(500, "the answer could not be sent").response()
        return whole(response, method, close=close, http_10=http_10)


def joined(response: Response, method: str, *, close: bool) -> bytes:
    """A response to HTTP/1.1 in one piece."""
    start, body, _ = whole_or_500(response, method, close=close, http_10=False)
    return b"".join((start, *body)) if body else start


def live_head(response: LiveResponse, *, close: bool, http_10: bool) -> bytes:
    """The head of a response that is made while it is sent.

    Where its end is not known it is chunked, or for HTTP/1.0 ended by closing.
    """
    length = live_length(response)
    if length is not None:
        framing = f"{CONTENT_LENGTH}: {length}\r\n"
    elif http_10:
        framing, close = "", True
    else:
        framing = "Transfer-Encoding: chunked\r\n"
    return head(response.status, response.headers, framing, close=close, http_10=http_10)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
