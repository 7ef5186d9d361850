"""What can be asked of a store, as plain values.

An operation is one request: it is applied whole or not at all, and becomes at most
one batch of the log. Times are milliseconds since the Unix epoch, durations
milliseconds, unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class StreamKey(NamedTuple):
    """A stream's address: its bucket and its name in the bucket."""

    bucket: str
    stream: str

    def __str__(self) -> str:
        return f"{self.bucket}/{self.stream}"


class Producer(NamedTuple):
    """An idempotent producer's position (protocol section 5.2.1)."""

    id: str
    epoch: int
    seq: int


class ForkPoint(NamedTuple):
    """Where a fork leaves its source.

    ``ordinal`` None means the source's tail at the time of the fork. ``sub_offset`` goes
    past it: records of a JSON stream, bytes of any other (protocol section 4.2).
    """

    source: StreamKey
    ordinal: int | None = None
    sub_offset: int = 0


class Snapshot(NamedTuple):
    """An application's own folding of a stream's records before ``ordinal``.

    ``digest`` is the SHA-256 of its ``length`` bytes; ``file`` says which file holds them.
    """

    ordinal: int
    digest: bytes
    length: int
    content_type: str
    file: int


Stamp = Callable[[int, int], Sequence[bytes]]
"""``(base ordinal, created_at_ms) -> records``: makes records that carry their own ordinal.

Called once, under the store's lock, after the operation was accepted: it must be pure and
quick, and must neither raise nor call the store.
"""

Records = Sequence[bytes] | Stamp


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What a stream is given when it is created.

    ``content_type`` None means ``application/octet-stream`` (or a fork's source's type).
    ``ttl_ms`` slides with every read and write; ``expires_at_ms`` is fixed; not both.
    ``searchable`` puts the stream's JSON records into the full-text index.
    """

    content_type: str | None = None
    ttl_ms: int | None = None
    expires_at_ms: int | None = None
    searchable: bool = False
    metadata: bytes = b""


@dataclass(frozen=True, slots=True)
class CreateBucket:
    bucket: str


@dataclass(frozen=True, slots=True)
class DeleteBucket:
    bucket: str


@dataclass(frozen=True, slots=True)
class Create:
    """Create a stream, or confirm one with the same configuration."""

    key: StreamKey
    options: StreamOptions = StreamOptions()
    records: Records = ()
    closed: bool = False
    fork: ForkPoint | None = None


class Append(NamedTuple):
    """Append records, close the stream, or both in one step.

    ``create`` makes the stream first, in the same batch, if it does not exist.
    ``content_type`` None skips the comparison with the stream's own.
    ``expected_ordinal`` is compare-and-append: the tail must be exactly there.
    ``expected_stream_id`` asks for one incarnation as well: a stream that was deleted and made
    again has another id, and so has one that this append would make (PRECONDITION_FAILED).
    """

    key: StreamKey
    records: Records = ()
    content_type: str | None = None
    close: bool = False
    producer: Producer | None = None
    stream_seq: str | None = None
    expected_ordinal: int | None = None
    create: StreamOptions | None = None
    expected_stream_id: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    key: StreamKey


@dataclass(frozen=True, slots=True)
class Expire:
    """Delete a stream whose time is over; rejected if it is not."""

    key: StreamKey


@dataclass(frozen=True, slots=True)
class Touch:
    """Renew a sliding TTL because the stream was read (protocol section 5.1)."""

    key: StreamKey


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """Replace the stream's metadata: small, opaque bytes that belong to the caller."""

    key: StreamKey
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Trim:
    """Drop the records before ``ordinal``; the ordinals of what is left never change.

    Rejected if that is before what is still kept, beyond the tail, or beyond the visible
    snapshot: nobody could fold what was between the two any more.
    """

    key: StreamKey
    ordinal: int


@dataclass(frozen=True, slots=True)
class PutSnapshot:
    """Make a snapshot, whose file is durable already, the visible one of its stream.

    ``match`` is compare-and-set: the digest that the visible snapshot must have; None: any.
    """

    key: StreamKey
    snapshot: Snapshot
    match: bytes | None = None


Operation = (
    CreateBucket
    | DeleteBucket
    | Create
    | Append
    | Delete
    | Expire
    | Touch
    | SetMetadata
    | Trim
    | PutSnapshot
)
