"""What comes by ASGI, a scope and messages → a request value, or what is answered instead."""

from __future__ import annotations

import re
from typing import Any, Final, cast
from urllib.parse import quote

import trio
from hypercorn.typing import ASGIReceiveCallable

from tailrace_server.body import BodyShare
from tailrace_server.front import (
    CONTENT_LENGTH,
    FrontLimits,
    Refusal,
    body_late,
    body_too_large,
    coding_in_http_10,
    length_and_coding,
    no_room_for_body,
    refuse_host,
    split_target,
    unknown_version,
)
from tailrace_server.protocol.message import HeaderList, Request

_VERSIONS: Final = frozenset({"1.0", "1.1", "2", "3"})
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def read_head(scope: dict[str, Any], limits: FrontLimits) -> Request | Refusal:
    """The request without its body, if it is one that HTTP and ``limits`` allow."""
    headers: HeaderList = tuple(
        (name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t"))
        for name, value in scope["headers"]
    )
    if scope["http_version"] not in _VERSIONS:
        return unknown_version()
    if any(_CONTROL.search(value) for _, value in headers):
        return Refusal(400, "malformed HTTP: a control character in a header field")
    if len(headers) > limits.head_fields_max:
        return Refusal(431, f"more than {limits.head_fields_max} request header fields")
    if sum(len(name) + len(value) + 4 for name, value in headers) > limits.head_bytes_max:
        return Refusal(431, f"the request head is larger than {limits.head_bytes_max} bytes")
    hosts = [value for name, value in headers if name == "host"]
    refused = refuse_host(hosts, required=scope["http_version"] == "1.1")
    if refused is not None:
        return refused
    names = {name for name, _ in headers}
    if "transfer-encoding" in names:
        if scope["http_version"] == "1.0":
            return coding_in_http_10()
        if CONTENT_LENGTH in names:
            return length_and_coding()
    query = scope["query_string"].decode("latin-1")
    target = _raw_path(scope) + (f"?{query}" if query else "")
    place = split_target(scope["method"], target, limits)
    if isinstance(place, Refusal):
        return place
    return Request(scope["method"], place[0], place[1], headers, b"", scope["scheme"])


def _raw_path(scope: dict[str, Any]) -> str:
    """The path as it was sent, below the prefix that the application is mounted at."""
    raw = scope.get("raw_path")
    path = raw.decode("latin-1") if raw is not None else quote(scope["path"])
    prefix = quote((scope.get("root_path") or "").rstrip("/"))
    if prefix and path.startswith(prefix):
        path = path[len(prefix) :] or "/"
    return path


async def read_body(
    head: Request, limits: FrontLimits, share: BodyShare, receive: ASGIReceiveCallable
) -> bytes | Refusal | None:
    """The whole body, for which ``share`` grows; None: the client left in the middle of it."""
    announced = head.header(CONTENT_LENGTH)
    if announced is not None and announced.isdecimal() and not share.grow(int(announced)):
        return no_room_for_body()
    pieces: list[bytes] = []
    length = 0
    start = trio.current_time()
    with trio.move_on_after(limits.body_timeout_s) as timeout:
        while True:
            message = cast(dict[str, Any], await receive())
            if message["type"] == "http.disconnect":
                return None
            piece = message.get("body", b"")
            if piece:
                pieces.append(piece)
                length += len(piece)
                if length > limits.body_bytes_max:
                    return body_too_large(limits)
                if not share.grow(length):
                    return no_room_for_body()
                earned = length / limits.body_bytes_per_s_min
                timeout.deadline = start + limits.body_timeout_s + earned
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return body_late()
