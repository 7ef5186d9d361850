"""Stored events as a reader asked for them: told apart by type, with added members.

Records that are no session events (a session is a stream, and may be written as one) pass
every view unchanged and match no type filter.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tailrace_server.protocol import json_mode
from tailrace_server.protocol.message import Chunk

Record = Chunk


class _Face(msgspec.Struct):
    type: str = ""
    created_at: str = ""
    processed_at: msgspec.Raw | None = None


class _Typed(msgspec.Struct):
    type: str = ""


_FACE: Final = msgspec.json.Decoder(_Face)
_TYPED: Final = msgspec.json.Decoder(_Typed)
_CREATED: Final = b'"created_at":"'


def event_type(record: Record) -> str:
    """The event's ``type``, empty if the record is no event."""
    try:
        return _TYPED.decode(record).type
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ""


def created_at(record: Record) -> str:
    """The event's ``created_at``, empty if the record is no event."""
    try:
        return _FACE.decode(record).created_at
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ""


def processed(record: Record) -> bytes:
    """The event with ``processed_at``, as the managed-agents client wants it.

    An event is processed when it is durable, so this is its ``created_at``; a client's own
    ``processed_at`` stays.
    """
    raw = bytes(record)
    try:
        face = _FACE.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return raw
    at = raw.find(_CREATED)
    if face.processed_at is not None or not face.created_at or at < 0:
        return raw
    # The server's own members come first, and a quote inside a JSON string is escaped, so
    # the first match is the server's created_at.
    end = raw.index(b'"', at + len(_CREATED)) + 1
    stamp = b',"processed_at":"' + face.created_at.encode("utf-8") + b'"'
    return raw[:end] + stamp + raw[end:]


def with_members(record: Record, added: dict[str, object]) -> bytes:
    """The event with members added at its end; a member of the same name gives way."""
    raw = bytes(record)
    if raw[:1] != b"{":
        raw = b'{"value":' + raw + b"}"
    if any(member.key in added for member in json_mode.members(raw)):
        raw = json_mode.without(raw, frozenset(added))
    extra = msgspec.json.encode(added)[1:]
    inner = raw.rstrip()[:-1].rstrip(b" \t,")
    return inner + (b"," if inner != b"{" else b"") + extra
