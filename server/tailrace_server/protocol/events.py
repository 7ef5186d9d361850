"""Session events: request bodies → drafts → the bytes that are stored and served.

A stored event is ``{"id":...,"offset":...,"created_at":...,`` followed by the client's own
members exactly as sent. Only members that the server sets itself are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from tailrace.offset import encode_offset
from tailrace_server.protocol import event_id, json_mode
from tailrace_server.protocol.errors import bad_request
from tailrace_server.protocol.timestamps import format_ms

SERVER_KEYS: Final = frozenset({"id", "offset", "created_at"})
_ABSENT: Final = msgspec.Raw(b"")
_EMPTY_ID: Final = b'""'
_BLANKS: Final = (b" ", b"\t")
_EXAMPLE: Final = '{"type":"user.message"}'
_BAD_TYPE: Final = "must be a string that is not empty"


class _Event(msgspec.Struct, gc=False):
    type: str
    id: msgspec.Raw = _ABSENT
    offset: msgspec.Raw = _ABSENT
    created_at: msgspec.Raw = _ABSENT


class _Shape(msgspec.Struct, gc=False):
    """What tells the wrapper ``{"events": [...]}`` from one event."""

    type: msgspec.Raw = _ABSENT
    events: msgspec.Raw = _ABSENT


_EVENT: Final = msgspec.json.Decoder(_Event)
_SHAPE: Final = msgspec.json.Decoder(_Shape)
_VALUES: Final = msgspec.json.Decoder(list[msgspec.Raw])
_VALUE: Final = msgspec.json.Decoder(msgspec.Raw)


class Draft(NamedTuple):
    """An event before the store gives it its place.

    ``own_id`` is the client's id as a JSON string, None if the server makes one;
    ``members`` the client's members from the separating comma to the closing brace.
    """

    own_id: bytes | None
    members: bytes


def parse_events(body: bytes, *, events_max: int) -> list[Draft]:
    """The events of a POST body, in any of its three shapes.

    ``{"events":[...]}``, ``[...]`` or one event ``{...}``. An object whose ``events`` is an
    array and that has no ``type`` is the wrapper. 400 names the first bad event by its index.
    """
    json_mode.check_utf8(body)
    try:
        raws = _raw_events(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise json_mode.syntax_error(body, error) from None
    if not raws:
        raise bad_request("events", "is empty; send at least one event")
    values = json_mode.tidy(raws, values_max=events_max, field="events")
    return [_draft(value, index) for index, value in enumerate(values)]


def _raw_events(body: bytes) -> Sequence[bytes | msgspec.Raw]:
    body = body.strip(b" \t\r\n")
    if body[:1] == b"[":
        return _VALUES.decode(body)
    if body[:1] == b"{":
        shape = _SHAPE.decode(body)
        if shape.type is _ABSENT and shape.events is not _ABSENT:
            if bytes(shape.events)[:1] != b"[":
                raise bad_request("events", f"must be an array of events such as {_EXAMPLE}")
            return _VALUES.decode(shape.events)
        return (body,)
    return (_VALUE.decode(body),)


def _draft(value: bytes, index: int) -> Draft:
    if value[:1] != b"{":
        raise bad_request(f"events[{index}]", f"an event is a JSON object such as {_EXAMPLE}")
    try:
        event = _EVENT.decode(value)
    except msgspec.ValidationError:
        event = None
    if event is None or not event.type:
        missing = _SHAPE.decode(value).type is _ABSENT
        fault = f"is missing; an event has one, as in {_EXAMPLE}" if missing else _BAD_TYPE
        raise bad_request(f"events[{index}].type", fault)
    if event.id is _ABSENT and event.offset is _ABSENT and event.created_at is _ABSENT:
        if value[1:2] not in _BLANKS:
            return Draft(None, b"".join((b",", memoryview(value)[1:])))  # copied once
        return Draft(None, b"," + value[1:].lstrip(b" \t"))
    own_id = bytes(event.id)
    members = json_mode.without(value, SERVER_KEYS)[1:]
    return Draft(own_id if own_id[:1] == b'"' and own_id != _EMPTY_ID else None, b"," + members)


class EventStamp:
    """Gives each draft its id, offset and time; a :data:`tailrace.operation.Stamp`.

    Called once, under the store's lock, so everything that does not depend on the ordinal
    is made before. The drafts go then: an append may wait long for its sync, and should not
    hold its events twice. ``records`` is what was stored, if it is to be kept for the answer.
    """

    __slots__ = ("_drafts", "_keep", "_randoms", "records")

    def __init__(self, drafts: Sequence[Draft], *, keep: bool = True) -> None:
        self._drafts = drafts
        self._keep = keep
        self._randoms = event_id.random_parts(len(drafts))
        self.records: list[bytes] = []

    def __call__(self, base: int, created_at_ms: int) -> list[bytes]:
        prefix = b'{"id":"' + event_id.time_part(created_at_ms)
        created = b'","created_at":"' + format_ms(created_at_ms).encode("ascii") + b'"'
        records = []
        ordinal = base
        for (own_id, members), random in zip(self._drafts, self._randoms, strict=True):
            offset = encode_offset(ordinal).encode("ascii")
            if own_id is None:
                head = prefix + event_id.ordinal_part(ordinal) + random + b'","offset":"'
            else:
                head = b'{"id":' + own_id + b',"offset":"'
            records.append(b"".join((head, offset, created, members)))
            ordinal += 1
        self._drafts = ()
        if self._keep:
            self.records = records
        return records
