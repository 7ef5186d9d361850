"""Fuzzes the C parser of plain requests: ``python -m fuzz.fuzz_http_request --seconds 10``.

Whatever it accepts, llhttp and h11 read alike: the same method, target, fields and body, the
same place where the next request begins, and the same wish to stay. A request that llhttp has
complete is not waited for. What came in parts is read as what came at once: a prefix of an
accepted request is partial and nothing else, what was not plain never becomes so, and bytes
behind a request change nothing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final

import h11

from fuzz.engine_driver import run
from fuzz.http_requests import make
from tailrace_server._reactor import ffi, lib
from tailrace_server.fast.parser import Message, RequestParser
from tailrace_server.front import FrontLimits, Refusal, refuse_host, split_target

HEAD_MAX: Final = 1500
BODY_MAX: Final = 3000
FIELDS_MAX: Final = 12
# Wider than those of the C parser: what it accepts is within the bounds of both.
LIMITS: Final = FrontLimits(body_bytes_max=BODY_MAX)
CUTS_MAX: Final = 40
METHODS: Final = {
    lib.TR_HTTP_GET: "GET",
    lib.TR_HTTP_HEAD: "HEAD",
    lib.TR_HTTP_POST: "POST",
    lib.TR_HTTP_PUT: "PUT",
    lib.TR_HTTP_PATCH: "PATCH",
    lib.TR_HTTP_DELETE: "DELETE",
    lib.TR_HTTP_OPTIONS: "OPTIONS",
}


def limits(head_max: int, body_max: int, fields_max: int) -> Any:
    """``struct tr_http_limits``."""
    sizes = {"head_max": head_max, "body_max": body_max, "fields_max": fields_max}
    return ffi.new("struct tr_http_limits *", sizes)


BOUNDS: Final = limits(HEAD_MAX, BODY_MAX, FIELDS_MAX)


@dataclass(frozen=True)
class Plain:
    """An accepted request. ``length`` is where the next one begins."""

    method: str
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    keep_alive: bool
    length: int


def parse(data: bytes, bounds: Any = BOUNDS) -> Plain | int:
    """What the C parser says: a request, or TR_HTTP_PARTIAL, or TR_HTTP_OTHER."""
    out = ffi.new("struct tr_http_request *")
    buffer = ffi.from_buffer(data)
    said: int = lib.tr_http_parse(buffer, len(data), bounds, out)
    if said != lib.TR_HTTP_COMPLETE:
        assert said in (lib.TR_HTTP_PARTIAL, lib.TR_HTTP_OTHER)
        return said

    def piece(start: int, length: int) -> bytes:
        assert start + length <= out.head_length
        return data[start : start + length]

    end = out.head_length + out.body_length
    assert end <= len(data)
    fields = tuple(
        (
            piece(field.name, field.name_length),
            piece(field.value, field.value_length),
        )
        for field in out.fields[0 : out.field_count]
    )
    digits = piece(out.length_value, out.length_value_length)
    assert digits == next((v for n, v in fields if n.lower() == b"content-length"), b"")
    return Plain(
        METHODS[out.method],
        piece(out.target, out.target_length),
        fields,
        data[out.head_length : end],
        bool(out.keep_alive),
        end,
    )


def read(data: bytes) -> tuple[Message | Refusal | None, bool]:
    """llhttp's first event, and whether it is in the middle of a request behind it."""
    parser = RequestParser(LIMITS)
    parser.feed(data)
    return parser.next_event(), parser.in_message


def check_llhttp(data: bytes, plain: Plain) -> bool:
    """Compare; False if it is our front that refuses the request, for its Host."""
    whole = data[: plain.length]
    event, in_message = read(whole)
    if isinstance(event, Refusal):
        hosts = [value.decode() for name, value in plain.fields if name.lower() == b"host"]
        assert refuse_host(hosts, required=True) == event, event
        return False
    assert isinstance(event, Message), "llhttp waits for more"
    assert not in_message, "the next request begins earlier"
    assert read(whole[:-1])[0] is None, "the request is complete before its last byte"
    request = event.request
    assert request.method == plain.method
    assert (request.path, request.query) == split_target(
        plain.method, plain.target.decode("latin-1"), LIMITS
    )
    assert request.headers == tuple(
        (name.decode().lower(), value.decode("latin-1")) for name, value in plain.fields
    )
    assert request.body == plain.body
    assert event.keep_alive == plain.keep_alive
    assert not event.http_10
    return True


def check_h11(data: bytes, plain: Plain) -> None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data[: plain.length])
    request = connection.next_event()
    assert isinstance(request, h11.Request), request
    assert request.method.decode() == plain.method
    assert request.target == plain.target
    assert [tuple(field) for field in request.headers.raw_items()] == list(plain.fields)
    body = b""
    while isinstance(part := connection.next_event(), h11.Data):
        body += part.data
    assert isinstance(part, h11.EndOfMessage), part
    assert body == plain.body
    assert connection.trailing_data == (b"", False)
    assert (connection.their_state is h11.MUST_CLOSE) != plain.keep_alive


def check_parts(data: bytes, said: Plain | int, dice: random.Random) -> None:
    """That every prefix, and every continuation, is read as it must be."""
    places = list(range(len(data)))
    if len(places) > CUTS_MAX and dice.random() < 0.9:
        places = sorted(dice.sample(places, CUTS_MAX))
    found = {parse(data[:place]) for place in places if not _past(said, place)}
    if isinstance(said, Plain) or said == lib.TR_HTTP_PARTIAL:
        assert found <= {lib.TR_HTTP_PARTIAL}, "a prefix is more than partial"
    else:
        assert found <= {lib.TR_HTTP_PARTIAL, lib.TR_HTTP_OTHER}, "what is not plain had been"
    if isinstance(said, Plain):
        for place in places:
            if place >= said.length:
                assert parse(data[:place]) == said, "what follows changed a request"
    elif said == lib.TR_HTTP_OTHER:
        for more in (b"\r\n\r\n", b" ", b"x" * HEAD_MAX):
            assert parse(data + more) == said, "what is not plain became so"


def _past(said: Plain | int, place: int) -> bool:
    return isinstance(said, Plain) and place >= said.length


counts = {"accepted": 0, "refused for their host": 0, "partial": 0, "not plain": 0}


def target(data: bytes) -> None:
    dice = random.Random(data)
    whole = RequestParser(LIMITS)
    whole.feed(data)
    while data:
        said = parse(data)
        check_parts(data, said, dice)
        event = whole.next_event()
        if isinstance(said, Plain):
            counts["accepted"] += 1
            check_h11(data, said)
            if not check_llhttp(data, said):
                counts["refused for their host"] += 1
                break
            assert isinstance(event, Message), "in a row llhttp reads something else"
            assert event.request.body == said.body
            if not said.keep_alive:
                break
            data = data[said.length :]
            continue
        if said == lib.TR_HTTP_PARTIAL:
            counts["partial"] += 1
            assert len(data) < HEAD_MAX + BODY_MAX
            assert not isinstance(event, Message), "llhttp has a whole request"
        else:
            counts["not plain"] += 1
        break


if __name__ == "__main__":
    run(__doc__, target, make)
    print(counts)
