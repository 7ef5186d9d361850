"""Tagged fields ↔ bytes: the variable part of a batch and of a checkpoint entry.

A field is ``tag u16 | length u32 | value``, little-endian, in the order of the tags,
each tag at most once unless :data:`REPEATED` names it. Integers take 8 bytes.
A tag unknown to this version is an error: nothing acknowledged may be ignored.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from typing import Final

_HEAD: Final = struct.Struct("<HI")
_U64: Final = struct.Struct("<Q")


class Tag(enum.IntEnum):
    """What a field means. The numbers are on disk: never reused, never changed."""

    BUCKET = 1
    STREAM = 2
    CONTENT_TYPE = 3
    TTL_MS = 4
    EXPIRES_AT_MS = 5
    SEARCHABLE = 6
    METADATA = 7
    SOURCE_ID = 8
    FORK_ORDINAL = 9
    FORK_SUB_OFFSET = 10
    PRODUCER_ID = 11
    STREAM_SEQ = 12
    START = 13
    EXPIRY_INHERITED = 14
    SNAPSHOT_ORDINAL = 15
    SNAPSHOT_DIGEST = 16
    SNAPSHOT_BYTES = 17
    SNAPSHOT_TYPE = 18
    SNAPSHOT_FILE = 19
    # Only in checkpoints.
    STREAM_ID = 32
    CREATED_AT_MS = 33
    TAIL = 34
    CLOSED = 35
    LAST_WRITE_MS = 36
    LAST_TOUCH_MS = 37
    DELETED = 38
    FORKS = 39
    PRODUCER = 40
    CLOSED_BY = 41
    NEXT_STREAM_ID = 42
    SOURCE_BUCKET = 43
    SOURCE_STREAM = 44
    BASE = 45
    STREAMS = 46


REPEATED: Final = frozenset({Tag.PRODUCER})

Value = bytes | str | int
Fields = dict[Tag, bytes]


class BadFields(ValueError):
    """The bytes are not fields this version knows."""


def encode_fields(items: Iterable[tuple[Tag, Value | None]]) -> bytes:
    """The bytes of ``items`` (sorted by tag by the caller); None values are left out."""
    parts: list[bytes] = []
    previous = 0
    for tag, value in items:
        if value is None:
            continue
        assert tag > previous or tag in REPEATED, (tag, previous)
        previous = tag
        if isinstance(value, int):
            value = _U64.pack(value)
        elif isinstance(value, str):
            value = value.encode("utf-8")
        parts.append(_HEAD.pack(tag, len(value)))
        parts.append(value)
    return b"".join(parts)


def decode_fields(data: bytes | memoryview) -> list[tuple[Tag, bytes]]:
    """The fields in ``data``, which they must fill exactly."""
    items: list[tuple[Tag, bytes]] = []
    offset = 0
    previous = 0
    while offset < len(data):
        if len(data) - offset < _HEAD.size:
            raise BadFields("a field's head is cut off")
        number, length = _HEAD.unpack_from(data, offset)
        offset += _HEAD.size
        if length > len(data) - offset:
            raise BadFields(f"field {number} is cut off")
        try:
            tag = Tag(number)
        except ValueError:
            raise BadFields(f"field {number} is unknown to this version") from None
        if tag < previous or (tag == previous and tag not in REPEATED):
            raise BadFields(f"field {tag.name} stands twice or out of order")
        previous = tag
        items.append((tag, bytes(data[offset : offset + length])))
        offset += length
    return items


def to_int(value: bytes) -> int:
    """A field's value as the integer it holds."""
    if len(value) != _U64.size:
        raise BadFields("an integer field does not have 8 bytes")
    return int(_U64.unpack(value)[0])


def to_text(value: bytes) -> str:
    """A field's value as text."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise BadFields("a text field is not UTF-8") from None
