"""Bytes of one connection into requests. Sans-IO; llhttp (through httptools) does the grammar.

llhttp in its strict mode already refuses what request smuggling lives on: conflicting or
repeated Content-Length, Content-Length beside Transfer-Encoding, bare CR or LF, folded
header lines, spaces before a colon, control bytes in names and values. Added here is what
it leaves to its user: bounds, Host, the transfer codings we know, HTTP versions, and
requests that offer an upgrade (which are answered as if they did not).
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

import httptools

from tailrace.limits import KIB
from tailrace_server.body import FrontBody
from tailrace_server.front import (
    CONTENT_LENGTH,
    FrontLimits,
    Refusal,
    body_too_large,
    coding_in_http_10,
    no_websocket,
    refuse_host,
    split_target,
    unknown_method,
    unknown_version,
)
from tailrace_server.protocol.message import HeaderList, Request

_FRAMING_BYTES_FREE: Final = 64 * KIB
_FRAMING_BYTES_PER_BODY_BYTE: Final = 8
"""Chunk sizes and extensions may take this much beside the body itself: chunks of one byte
still pass, endless chunk extensions do not."""

_TOKEN_BYTES: Final = frozenset(
    b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

_COMMON_NAMES: Final = (
    "accept accept-encoding accept-language access-control-request-headers "
    "access-control-request-method anthropic-beta anthropic-version authorization "
    "cache-control connection content-length content-type expect host if-none-match "
    "last-event-id origin producer-epoch producer-id producer-seq referer stream-closed "
    "stream-expires-at stream-forked-from stream-fork-offset stream-seq stream-ttl "
    "transfer-encoding upgrade user-agent x-api-key"
).split()
_NAMES: Final = {
    spelling.encode(): name for name in _COMMON_NAMES for spelling in (name, name.title())
}
"""Header names as they usually come, already decoded; only a shortcut."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request: complete, or its body is a stream.

    ``keep_alive``: the client wants to go on with the connection.
    """

    request: Request
    keep_alive: bool
    http_10: bool


class _Stop(Exception):
    """Leaves llhttp from a callback; the refusal is already noted."""


class RequestParser:
    """Feed it bytes as they come; take events until there are none.

    ``streams`` tells of a head whether its body is to be streamed, which no bound applies to.
    After a refusal nothing more is parsed: where the next request would begin is unknown.
    """

    def __init__(
        self, limits: FrontLimits, streams: Callable[[Request], bool] = lambda head: False
    ) -> None:
        self._limits = limits
        self._streams = streams
        self._llhttp = httptools.HttpRequestParser(self)
        self._events: deque[Message | Refusal] = deque()
        self.refusal: Refusal | None = None
        """What is wrong with the last of the bytes fed."""
        self._first_byte: int | None = None
        self._messages = 0
        self.in_message = False
        """The first byte of a request has come, its last one has not."""
        self.in_body = False
        """A head is complete, its body is not."""
        self.expects_continue = False
        """The client waits for ``100 Continue`` before it sends the body that is missing."""
        self.head_admitted = False
        """The caller's note that it has looked at the head of the request ``in_body``."""
        self.body_bytes = 0
        """What has come of the body."""
        self.body_length = 0
        """What was announced of it."""
        self._replaying_head = False
        self._target = b""
        self._raw_fields: list[tuple[bytes, bytes]] = []
        self._fields: HeaderList = ()
        self._framing: bytes | None = None
        self._body: list[bytes] = []
        self._streamed: FrontBody | None = None
        self._begin()

    def next_event(self) -> Message | Refusal | None:
        """The next complete request or, after the last good one, the refusal of what follows."""
        return self._events.popleft() if self._events else None

    def pending_head(self) -> Request:
        """The request whose body is incomplete, without the body. Only while ``in_body``."""
        return Request(self._method, self._path, self._query, self._fields, b"")

    def stream_body(self, body: FrontBody) -> Message:
        """Take the request ``in_body`` for complete; its body goes to ``body`` from now on."""
        for piece in self._body:
            body.add(piece)
        self._body = []
        self._streamed = body
        request = dataclasses.replace(self.pending_head(), stream=body)
        return Message(request, self._keep_alive, self._http_10)

    def feed(self, data: bytes) -> None:
        if self.refusal is not None:
            return
        if self._first_byte is None and data:
            self._first_byte = data[0]
        # What a head has taken is known, unless it began behind other requests of this data.
        head_is_first = not self.in_body and not self._events
        was_in_body = self.in_body
        rest: bytes | memoryview = data
        while rest:
            try:
                self._llhttp.feed_data(rest)
                break
            except httptools.HttpParserUpgrade as upgrade:
                rest = memoryview(rest)[upgrade.args[0] :]
                self._decline_upgrade()
            except httptools.HttpParserError as error:
                self._refuse(self.refusal or self._explain(error))
                return
        if head_is_first and self.in_message and not self.in_body and not self._events:
            self._head_fed_bytes += len(data)
            if self._head_fed_bytes > self._limits.head_bytes_max:
                self._refuse(self._head_too_large())
        elif was_in_body and self.in_body:
            self._body_fed_bytes += len(data)
            allowed = _FRAMING_BYTES_FREE + _FRAMING_BYTES_PER_BODY_BYTE * self.body_bytes
            if self._body_fed_bytes > allowed:
                self._refuse(Refusal(400, "chunk extensions are far larger than the body"))

    # -- called by llhttp

    def on_message_begin(self) -> None:
        if not self._replaying_head:
            self._begin()
            self._messages += 1
            self.in_message = True

    def on_url(self, part: bytes) -> None:
        if self._replaying_head:
            return
        self._target += part
        if len(self._target) > self._limits.target_bytes_max:
            self._stop(
                Refusal(
                    414, f"the request target is longer than {self._limits.target_bytes_max} bytes"
                )
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._replaying_head:
            return
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._limits.head_bytes_max:
            self._stop(self._head_too_large())
        if self.in_body:
            return  # a trailer field: bounded above, otherwise ignored (RFC 9110 section 6.5.1)
        self._raw_fields.append((name, value))
        if len(self._raw_fields) > self._limits.head_fields_max:
            self._stop(
                Refusal(431, f"more than {self._limits.head_fields_max} request header fields")
            )

    def on_headers_complete(self) -> None:
        if self._replaying_head:
            return
        version = self._llhttp.get_http_version()
        self._http_10 = version == "1.0"
        if not self._http_10 and version != "1.1":
            self._stop(unknown_version())
        fields = []
        hosts = []
        length = 0
        for raw_name, raw_value in self._raw_fields:
            name = _NAMES.get(raw_name) or raw_name.decode("latin-1").lower()
            value = raw_value.decode("latin-1").strip(" \t")
            fields.append((name, value))
            if name == "host":
                hosts.append(value)
            elif name == CONTENT_LENGTH:
                self._framing = CONTENT_LENGTH.encode() + b": " + raw_value
                # llhttp allowed digits only, and few enough of them for 64 bits.
                length = int(value)
            elif name == "transfer-encoding":
                self._framing = b"Transfer-Encoding: chunked"
                self._check_coding(value)
            elif name == "expect":
                self.expects_continue = value.lower() == "100-continue" and not self._http_10
        refused = refuse_host(hosts, required=not self._http_10)
        if refused is not None:
            self._stop(refused)
        self._method = self._llhttp.get_method().decode("ascii")
        place = split_target(self._method, self._target.decode("latin-1"), self._limits)
        if isinstance(place, Refusal):
            self._stop(place)
        self._path, self._query = place
        self._fields = tuple(fields)
        self.body_length = length
        if length > self._limits.body_bytes_max and not self._streams(self.pending_head()):
            self._stop(body_too_large(self._limits))
        self._keep_alive = self._llhttp.should_keep_alive()
        self._upgrade = self._llhttp.should_upgrade()
        if self._upgrade and any(
            name == "upgrade" and "websocket" in value.lower() for name, value in fields
        ):
            self._stop(no_websocket())
        self.in_body = True

    def on_body(self, part: bytes) -> None:
        self.body_bytes += len(part)
        if self._streamed is not None:
            self._streamed.add(part)
            return
        if self.body_bytes > self._limits.body_bytes_max and not self._streams(self.pending_head()):
            self._stop(body_too_large(self._limits))
        self._body.append(part)

    def on_message_complete(self) -> None:
        if self._upgrade and self._framing is not None:
            return  # llhttp skips the body; _decline_upgrade() brings it back
        self.in_message = self.in_body = self.expects_continue = False
        if self._streamed is not None:
            self._streamed.whole = True
            self._streamed = None
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        request = Request(self._method, self._path, self._query, self._fields, body)
        self._events.append(Message(request, self._keep_alive, self._http_10))

    # -- inside

    def _begin(self) -> None:
        """Forget the request before."""
        self._target = b""
        self._raw_fields = []
        self._head_bytes = 0
        self._head_fed_bytes = 0
        self._method = self._path = self._query = ""
        self._fields = ()
        self._framing = None
        self._http_10 = self._keep_alive = self._upgrade = False
        self._body = []
        self.body_bytes = self.body_length = 0
        self._body_fed_bytes = 0
        self.expects_continue = self.head_admitted = False

    def _check_coding(self, value: str) -> None:
        if self._http_10:
            self._stop(coding_in_http_10())
        if value.lower() != "chunked":
            self._stop(Refusal(501, "the only transfer coding known here is chunked"))

    def _decline_upgrade(self) -> None:
        """Go on in HTTP/1.1 after a request that offered something else (RFC 9110 section 7.8).

        llhttp takes all that follows such a head for the other protocol. If a body was
        announced, a new parser is put where the old one was: behind an equal head.
        """
        if self._framing is not None:
            self._upgrade = False
            self._llhttp = httptools.HttpRequestParser(self)
            self._replaying_head = True
            self._llhttp.feed_data(b"POST / HTTP/1.1\r\n" + self._framing + b"\r\n\r\n")
            self._replaying_head = False

    def _head_too_large(self) -> Refusal:
        return Refusal(431, f"the request head is larger than {self._limits.head_bytes_max} bytes")

    def _stop(self, refusal: Refusal) -> NoReturn:
        self.refusal = refusal
        raise _Stop

    def _refuse(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self.in_body = False
        self._events.append(refusal)

    def _explain(self, error: httptools.HttpParserError) -> Refusal:
        """llhttp's reason as an answer; its text quotes nothing of the input."""
        if isinstance(error, httptools.HttpParserInvalidMethodError):
            if self._messages == 1 and self._first_byte not in _TOKEN_BYTES:
                return Refusal(400, "this is not HTTP; TLS needs a front started with --certfile")
            return unknown_method()
        if str(error) == "Invalid HTTP version":
            return unknown_version()
        return Refusal(400, f"malformed HTTP: {error}")
