"""What every front must do alike, so that the same request gets the same answer from each.

A front turns bytes into :class:`~tailrace_server.protocol.message.Request`, hands it to
the service and turns the answer into bytes. What it refuses by itself (a method nobody
implements, a request target that is not a path, a body over the bound) is refused here,
in the JSON form that the service's own errors have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from tailrace.limits import KIB, MIB
from tailrace.operation import Operation, StreamKey
from tailrace.rows import Rows
from tailrace.ticket import RowsTaken
from tailrace_server.context import Found, PlainPage, Planned, Wait
from tailrace_server.engine_bridge import GroupContext, RowsContext
from tailrace_server.live import LiveResponse
from tailrace_server.protocol import errors, headers
from tailrace_server.protocol.message import HeaderList, Request, Response
from tailrace_server.service import Known

CONTENT_LENGTH: Final = headers.CONTENT_LENGTH.lower()

_log = structlog.get_logger("tailrace.front")

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that reach the service. Any other gets 501 (RFC 9110 section 9.1)."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

HALF_CLOSE_GRACE_S: Final = 0.25
"""A client that closed its sending side may still be reading (``printf ... | nc -N``), or
may be gone: TCP says the same of both. A safe request gets this long to be answered
before it is taken for abandoned; a live response gets nothing, it would never end."""

_ERROR_TYPES: Final = {
    408: "timeout_error",
    413: errors.TOO_LARGE,
    414: errors.TOO_LARGE,
    431: errors.TOO_LARGE,
    500: errors.INTERNAL,
    501: "not_supported_error",
    503: errors.OVERLOADED,
    505: "not_supported_error",
}


class Handler(Protocol):
    """What a front needs of the service."""

    async def handle(self, request: Request) -> Response | LiveResponse:
        """Answer a whole request. Cancelling it ends the wait, not what was staged."""
        ...

    def check_head(self, request: Request) -> Response | None:
        """An early refusal of a request whose body has not been read, or None."""
        ...

    def streams(self, request: Request) -> bool:
        """Whether this request is to be handled before its body is read, with a stream of it.

        Asked about heads that :meth:`check_head` has no objection to, and about bodies that
        are larger than others may be.
        """
        ...


class InSteps(Handler, Protocol):
    """What a front needs beside that to work on many requests at a time."""

    @property
    def generation(self) -> int:
        """Another number whenever :meth:`know` may say something else than before."""
        ...

    def know(self, request: Request) -> Known | Response | None:
        """All that a head (``request`` has no body) says by itself.

        A response refuses it; None leaves it to :meth:`handle`. Responses are counted.
        """
        ...

    def plan(self, known: Known, body: bytes, seq: int | None = None) -> Planned | None:
        """What to stage, to answer or to wait for; None leaves it to :meth:`handle`.

        ``seq`` is the number of ``Producer-Seq``, which may be another one than the head had
        that was understood, if ``known.with_seq`` is there.
        """
        ...

    def pages(self, asked: Sequence[tuple[StreamKey, int]]) -> list[PlainPage | None]:
        """The answers to what ``known.siblings`` say is asked for; None leaves it to :meth:`plan`.

        They are not counted.
        """
        ...

    def look(self, known: Known, wait: Wait, *, over: bool) -> Found | Wait | None:
        """What there is to answer after a wait, whose time may be over; see :class:`Wait`."""
        ...

    @property
    def version(self) -> Callable[[StreamKey], object | None]:
        """Tells whether what is ``Lasting`` still holds; see :meth:`tailrace.Store.version`."""
        ...

    def stage(self, operations: Sequence[Operation], contexts: Sequence[GroupContext]) -> None:
        """Stage what was planned; each context is told. TailraceError: nothing was staged."""
        ...

    def stage_rows(self, rows: Rows, context: RowsContext) -> RowsTaken:
        """Stage appends of lanes (:class:`context.Lane`); the context is told of them.

        TailraceError: nothing was staged.
        """
        ...

    def fault(self, known: Known, error: Exception) -> Response:
        """The answer when staging, or what was staged, failed. From any thread."""
        ...

    def answered(self, route: str, status: int, count: int) -> None:
        """Count answers to what was planned. From any thread."""
        ...


@dataclass(frozen=True, slots=True)
class FrontLimits:
    """Bounds on what a client may make a front hold or wait for.

    head_bytes_max: request line and header fields together (431).
    target_bytes_max: the request target alone (414).
    head_fields_max: number of header fields (431).
    body_bytes_max: decoded body (413).
    bodies_bytes_max: such bodies together, from their heads to their answers; one that finds no
        room gets 503 with ``Retry-After``, before it is read if it does not come with its head.
    connections_max: open connections; one more gets 503 with ``Retry-After``.
    head_timeout_s: from the first byte of a request to the end of its head (408).
    body_timeout_s: for a body, plus a second for every ``body_bytes_per_s_min`` (408).
    idle_timeout_s: between two requests on a connection; then it is closed.
    send_timeout_s: a client that takes no byte of its answer for so long is cut off.
    linger_s: how long a connection that we end is still read, so that the client sees the
        answer before the reset (RFC 9112 section 9.6).
    """

    head_bytes_max: int = 32 * KIB
    target_bytes_max: int = 8 * KIB
    head_fields_max: int = 100
    body_bytes_max: int = 16 * MIB
    bodies_bytes_max: int = 256 * MIB
    connections_max: int = 10_000
    head_timeout_s: float = 15.0
    body_timeout_s: float = 30.0
    body_bytes_per_s_min: int = 16 * KIB
    idle_timeout_s: float = 75.0
    send_timeout_s: float = 30.0
    linger_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer given by the front itself. ``message`` says what was wrong and what to do."""

    status: int
    message: str
    retry_after_s: int | None = None

    def response(self) -> Response:
        """The answer as JSON, in the form of the service's errors."""
        kind = _ERROR_TYPES.get(self.status, errors.INVALID_REQUEST)
        extra: HeaderList = ()
        if self.retry_after_s is not None:
            extra = ((headers.RETRY_AFTER, str(self.retry_after_s)),)
        return errors.error_response(self.status, kind, self.message, extra)


def split_target(method: str, target: str, limits: FrontLimits) -> tuple[str, str] | Refusal:
    """The raw path and the raw query (without ``?``) of a request target.

    Takes the origin form, the absolute form, and ``*`` for OPTIONS (RFC 9112 section 3.2).
    Nothing is decoded: ``%2F`` in a path is not a separator, and only the router knows.
    """
    if method not in METHODS:
        return unknown_method()
    if len(target) > limits.target_bytes_max:
        return Refusal(414, f"the request target is longer than {limits.target_bytes_max} bytes")
    if not target.startswith("/"):
        if target == "*" and method == "OPTIONS":
            return "*", ""
        scheme, separator, rest = target.partition("://")
        if not separator or scheme.lower() not in ("http", "https"):
            return Refusal(400, "the request target must be a path that begins with /")
        slash, mark = rest.find("/"), rest.find("?")
        if slash < 0 or 0 <= mark < slash:
            target = "/" if mark < 0 else "/" + rest[mark:]
        else:
            target = rest[slash:]
    if "#" in target:
        return Refusal(400, "a request target has no fragment; write # as %23")
    path, _, query = target.partition("?")
    return path, query


_HOST: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()*+;=%]*(:[0-9]*)?|\[[0-9A-Fa-f:.]+\](:[0-9]*)?")


def refuse_host(hosts: Sequence[str], *, required: bool) -> Refusal | None:
    """What is wrong with a request's Host fields (RFC 9112 section 3.2), if anything."""
    if len(hosts) > 1:
        return Refusal(400, "more than one Host header field")
    if not hosts:
        return Refusal(400, "the Host header field is missing") if required else None
    if _HOST.fullmatch(hosts[0]) is None:
        return Refusal(400, "the Host header field is not a host, or host:port")
    return None


def body_too_large(limits: FrontLimits) -> Refusal:
    return Refusal(
        413,
        f"the request body is larger than {limits.body_bytes_max} bytes; "
        "send it as several requests",
    )


def head_late() -> Refusal:
    return Refusal(408, "the request head did not arrive in time")


def body_late() -> Refusal:
    return Refusal(408, "the request body did not arrive in time")


def no_room_for_body() -> Refusal:
    return Refusal(503, "the requests in progress hold all the memory they may; try again later", 1)


def at_capacity(retry_after_s: int = 1) -> Refusal:
    return Refusal(503, "the server has all the connections it may have", retry_after_s)


def has_body(method: str, status: int) -> bool:
    """Whether a response may carry a body at all (RFC 9110 section 6.4.1)."""
    return method != "HEAD" and status >= 200 and status != 204 and status != 304


class BadLength(Exception):
    """A live answer has not the length that it announced: an error of ours."""


def live_length(response: LiveResponse) -> int | None:
    """The Content-Length of a live response, also in answer to HEAD; None if it has none."""
    return None if response.status in (204, 304) else response.length


def whole_length(response: Response, method: str) -> int | None:
    """The Content-Length of a whole response; None where no such field may stand.

    A bodyless answer to HEAD does not say how long GET's answer would be (RFC 9110
    section 8.6).
    """
    status = response.status
    if status < 200 or status == 204 or status == 304:
        return None
    # The items of a memoryview need not be bytes.
    length = sum(
        piece.nbytes if isinstance(piece, memoryview) else len(piece) for piece in response.body
    )
    return None if method == "HEAD" and not length else length


def unknown_method() -> Refusal:
    return Refusal(
        501, f"the method is not implemented here; known are {', '.join(sorted(METHODS))}"
    )


def target_not_ascii() -> Refusal:
    return Refusal(400, "the request target is not ASCII; percent-encode the bytes of its UTF-8")


def unknown_version() -> Refusal:
    return Refusal(505, "this server speaks HTTP/1.1 and HTTP/1.0 here")


def coding_in_http_10() -> Refusal:
    """Such a message has faulty framing (RFC 9112 section 6.1)."""
    return Refusal(400, "Transfer-Encoding does not exist in HTTP/1.0")


def length_and_coding() -> Refusal:
    """Such a message may be an attempt to smuggle another one past a proxy (section 6.3)."""
    return Refusal(400, "Content-Length and Transfer-Encoding exclude each other")


def no_websocket() -> Refusal:
    return Refusal(400, "WebSocket is not spoken here; tail a stream with live=sse or long-poll")


def failed() -> Refusal:
    return Refusal(500, "the server failed; its log says why")


async def handle_safely(service: Handler, request: Request) -> Response | LiveResponse:
    """The service's answer; 500 if it raised, which it promises not to."""
    try:
        return await service.handle(request)
    except Exception:
        _log.exception("request failed", method=request.method, path=request.path)
        return failed().response()
