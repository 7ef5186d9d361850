"""Requests of the subscription API → values (protocol sections 6.2, 6.4, 7.1 and 7.2).

Paths in bodies are names of streams, as decoded: what a client would put, percent-encoded,
behind the stream root.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple, TypeVar

import msgspec

from tailrace import limits
from tailrace.errors import InvalidArgument
from tailrace.offset import decode_offset
from tailrace_server.protocol.json_fault import shape_fault, syntax_fault
from tailrace_server.protocol.message import Request
from tailrace_server.protocol.stream_name import is_reserved
from tailrace_server.protocol.subscription_error import INVALID_OFFSET, SubscriptionError, invalid
from tailrace_server.protocol.subscription_glob import SEGMENTS_MAX
from tailrace_server.protocol.subscription_machine import Ack
from tailrace_server.protocol.subscription_state import Config, Kind
from tailrace_server.protocol.target import has_control

ID_BYTES_MAX: Final = 256
WORKER_CHARS_MAX: Final = 256
DESCRIPTION_CHARS_MAX: Final = 4096
LEASE_MS_MIN: Final = 1_000
LEASE_MS_MAX: Final = 600_000
LEASE_MS_DEFAULT: Final = 30_000
PATHS_MAX: Final = 10_000
"""Streams named, or acknowledged, in one request."""
_DOTS: Final = frozenset({".", ".."})

T = TypeVar("T")


class _Webhook(msgspec.Struct):
    url: str


class _Create(msgspec.Struct):
    type: Kind
    pattern: str | None = None
    streams: Annotated[list[str], msgspec.Meta(max_length=PATHS_MAX)] | None = None
    webhook: _Webhook | None = None
    wake_stream: str | None = None
    lease_ttl_ms: Annotated[int, msgspec.Meta(ge=LEASE_MS_MIN, le=LEASE_MS_MAX)] = LEASE_MS_DEFAULT
    description: Annotated[str, msgspec.Meta(max_length=DESCRIPTION_CHARS_MAX)] | None = None


class _Streams(msgspec.Struct):
    streams: Annotated[list[str], msgspec.Meta(min_length=1, max_length=PATHS_MAX)]


class _Claim(msgspec.Struct):
    worker: Annotated[str, msgspec.Meta(min_length=1, max_length=WORKER_CHARS_MAX)]


class _Ack(msgspec.Struct):
    offset: str
    stream: str | None = None
    path: str | None = None


class _Settle(msgspec.Struct):
    wake_id: str | None = None
    generation: int | None = None
    acks: Annotated[list[_Ack], msgspec.Meta(max_length=PATHS_MAX)] | None = None
    done: bool | None = None


class Settlement(NamedTuple):
    """A callback, ack or release: which wake (its id and generation), and what of it."""

    wake: tuple[str | None, int | None]
    acks: list[Ack]
    done: bool


def subscription_id(text: str) -> str:
    if not text or has_control(text) or len(text.encode("utf-8")) > ID_BYTES_MAX:
        raise invalid(f"a subscription id is 1 to {ID_BYTES_MAX} bytes, no control characters")
    return text


def config(request: Request) -> Config:
    """The configuration a PUT asks for, except that ``webhook.url`` is not judged here."""
    body = _body(request, _Create)
    pattern = None if not body.pattern else stream_path(body.pattern, "pattern")
    if pattern is not None and pattern.count("/") >= SEGMENTS_MAX:
        raise invalid(f"pattern: has more than {SEGMENTS_MAX} segments")
    streams = tuple(sorted({stream_path(path, "streams") for path in body.streams or ()}))
    if pattern is None and not streams:
        raise invalid("give pattern, streams, or both")
    url = wake_stream = None
    if body.type == "webhook":
        if body.webhook is None or not body.webhook.url:
            raise invalid("webhook.url: is needed for a webhook subscription")
        url = body.webhook.url
    else:
        if not body.wake_stream:
            raise invalid("wake_stream: is needed for a pull-wake subscription")
        wake_stream = stream_path(body.wake_stream, "wake_stream")
    return Config(
        body.type, pattern, streams, url, wake_stream, body.lease_ttl_ms, body.description
    )


def streams(request: Request) -> list[str]:
    return [stream_path(path, "streams") for path in _body(request, _Streams).streams]


def worker(request: Request) -> str:
    return _body(request, _Claim).worker


def settlement(request: Request) -> Settlement:
    body = _body(request, _Settle)
    acks = []
    for ack in body.acks or ():
        path = stream_path(ack.stream or ack.path or "", "acks")
        try:
            ordinal = decode_offset(ack.offset)
        except InvalidArgument as error:
            raise SubscriptionError(INVALID_OFFSET, f"acks: {error.message}") from None
        acks.append(Ack(path, ordinal))
    return Settlement((body.wake_id, body.generation), acks, body.done is True)


def stream_path(text: str, field: str) -> str:
    """A stream's name, without slashes around it; INVALID_REQUEST for what can be none."""
    name = text.strip("/")
    if not name or len(name.encode("utf-8")) > limits.STREAM_NAME_BYTES_MAX:
        raise invalid(f"{field}: a stream path is 1 to {limits.STREAM_NAME_BYTES_MAX} bytes")
    if has_control(name) or not _DOTS.isdisjoint(name.split("/")):
        raise invalid(f"{field}: holds a control character, or '.' or '..' as a segment")
    if is_reserved(name):
        raise invalid(f"{field}: what begins with __ds is no stream")
    return name


def _body(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(request.body, type=kind)
    except msgspec.ValidationError as error:
        raise invalid(": ".join(shape_fault(error))) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise invalid(f"body: {syntax_fault(request.body, error)}") from None
    except RecursionError:
        raise invalid("body: nests too deep") from None
