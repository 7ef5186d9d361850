"""A request of the corpora, as bytes, and how most of them are put together."""

from __future__ import annotations

from typing import Final, NamedTuple

KEY: Final = "correct-key"
AUTH: Final = b"Authorization: Bearer correct-key"
JSON: Final = b"Content-Type: application/json"
BODY_BYTES_MAX: Final = 20_000
HEAD_BYTES_MAX: Final = 4_096
TARGET_BYTES_MAX: Final = 2_048
E: Final = b"/v1/sessions/s1/events"
EVENT: Final = b'{"type":"user.message","text":"generate fibonacci numbers"}'


class Case(NamedTuple):
    """One request, as bytes, and the status of its answer."""

    name: str
    request: bytes
    status: int

    @property
    def method(self) -> str:
        return self.request.lstrip().split(b" ", 1)[0].decode("latin-1")


def ask(
    line: bytes, *fields: bytes, body: bytes | None = None, auth: bool = True, host: bool = True
) -> bytes:
    """A request with its Host, key and Content-Length, unless told otherwise."""
    lines = [line if b" HTTP/" in line else line + b" HTTP/1.1"]
    if host:
        lines.append(b"Host: localhost")
    if auth:
        lines.append(AUTH)
    lines += fields
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def post(path: bytes, body: bytes, *fields: bytes) -> bytes:
    return ask(b"POST " + path, JSON, *fields, body=body)


def chunked(line: bytes, body: bytes, *fields: bytes) -> bytes:
    return ask(line, *fields, b"Transfer-Encoding: chunked") + body
