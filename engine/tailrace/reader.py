"""A stream's durable range → wire bytes, checksums verified, forks stitched."""

from __future__ import annotations

import threading
from array import array
from collections import deque
from typing import NamedTuple
from weakref import ref

from tailrace import filenames
from tailrace.catalog import Catalog
from tailrace.errors import Corrupted, RecordsLost, Rejected
from tailrace.limits import (
    KIB,
    MIB,
    ORDINAL_MAX,
    READ_MAPPED_BYTES_MAX,
    READ_MAPPED_RUN_BYTES_MIN,
    READ_NEAR_BYTES_MAX,
)
from tailrace.log import Log
from tailrace.native import GATHER_BAD, GATHER_DONE, GATHER_FAR, GATHER_FULL, GATHER_ROOM, Near
from tailrace.offset_index import LOST_ENTRY
from tailrace.operation import StreamKey
from tailrace.outcome import Reason, Rejection
from tailrace.read_result import ReadPieces, ReadResult
from tailrace.segment import Segment
from tailrace.stream import StreamState, expires_at_ms

_COPY_BYTES_MAX = 256 * KIB
_RECORDS_PER_STEP_MAX = 262_144
_RELEASE_BYTES_MAX = 2 * MIB
_RELEASE_GAP_BYTES = 64 * KIB


class _Found(NamedTuple):
    """Consecutive records in one segment, by the offsets of their batches (u32 each)."""

    segment: Segment
    stream_id: int
    records: int
    entries: array[int] | memoryview[int]


class Reader:
    """Reads the durable catalog and the log; never waits for a writer."""

    def __init__(self, log: Log, durable: Catalog) -> None:
        self._log = log
        self._durable = durable
        self._mapped = _Mapped(READ_MAPPED_BYTES_MAX)

    def read(
        self,
        state: StreamState,
        ordinal: int,
        stop: int | None,
        max_bytes: int,
        max_records: int | None,
    ) -> ReadResult:
        """Records of ``state`` from ``ordinal`` on; see :meth:`tailrace.store.Store.read`."""
        first, end = _bounds(state, ordinal, stop, max_records)
        try:
            payload, ends, after = self._collect(state, first, end, max_bytes)
        except Corrupted as error:
            whole = _before_damage(error, first)
            payload, ends, after = self._collect(state, first, whole, max_bytes)
        return ReadResult(*_range(state, first, after), payload, ends)

    def read_pieces(self, state: StreamState, ordinal: int, max_bytes: int) -> ReadPieces:
        """The same, for sending; see :meth:`tailrace.store.Store.read_pieces`."""
        found = self._pieces(state, ordinal, max_bytes, None)
        assert found is not None
        return found

    def pieces_near(
        self, state: StreamState, ordinal: int, max_bytes: int, *, trusting: bool
    ) -> ReadPieces | None:
        """The same if it does not take long; see :meth:`tailrace.store.Store.pieces_near`.

        ``trusting``: what :meth:`is_resident` says of ``ordinal``.
        """
        return self._pieces(state, ordinal, max_bytes, Near(READ_NEAR_BYTES_MAX, trusting=trusting))

    def _pieces(
        self, state: StreamState, ordinal: int, max_bytes: int, near: Near | None
    ) -> ReadPieces | None:
        first, end = _bounds(state, ordinal, None, None)
        try:
            found = self._collect_pieces(state, first, end, max_bytes, near)
        except Corrupted as error:
            whole = _before_damage(error, first)
            found = self._collect_pieces(state, first, whole, max_bytes, near)
        if found is None:
            return None
        pieces, after = found
        return ReadPieces(*_range(state, first, after), pieces)

    def _collect_pieces(
        self, state: StreamState, ordinal: int, end: int, max_bytes: int, near: Near | None
    ) -> tuple[tuple[memoryview, ...], int] | None:
        """None if that is not ``near`` enough."""
        pieces: list[memoryview] = []
        used = 0
        out: bytearray | None = None
        while ordinal < end and used < max_bytes:
            owned = self._owner(state, ordinal, end)
            found = self._find(owned, ordinal, max_bytes - used)
            if out is None:
                out = _room_for_copies(found, min(max_bytes, (end - ordinal) * 512))
            checked = 0
            done = 0
            while done < found.records:
                taken = found.segment.view.pieces(
                    found.segment.base_position,
                    found.stream_id,
                    ordinal,
                    found.entries[done:],
                    found.records - done,
                    max_bytes=max_bytes - used,
                    one_at_least=not used,
                    min_mapped=READ_MAPPED_RUN_BYTES_MIN,
                    out=out,
                    checked=checked,
                    near=near,
                )
                if taken.status == GATHER_FAR:
                    return None
                if taken.status == GATHER_BAD:
                    raise self._damaged(owned, ordinal + taken.records, found, taken.bad_offset)
                copies = memoryview(out)
                for offset, length, copied in taken.pieces:
                    source = copies if copied else found.segment.data
                    pieces.append(source[offset : offset + length])
                if taken.bytes >= READ_MAPPED_RUN_BYTES_MIN:
                    start = found.entries[done]
                    self._mapped.note(found.segment, start, taken.end_offset)
                done += taken.records
                ordinal += taken.records
                used += taken.bytes
                checked = taken.checked
                if taken.status == GATHER_FULL:
                    return tuple(pieces), ordinal
                out = bytearray(_COPY_BYTES_MAX if taken.status == GATHER_ROOM else len(out))
            if near is not None:
                near.leave_segment()
        return tuple(pieces), ordinal

    def _collect(
        self, state: StreamState, ordinal: int, end: int, max_bytes: int
    ) -> tuple[memoryview, array[int], int]:
        # A first guess that a short range does not pay max_bytes for; it grows when it is full.
        out = bytearray(min(max_bytes, max((end - ordinal) * 512, 4096)))
        ends = array("I")
        used = 0
        while ordinal < end:
            # From the one segment that holds the record.
            owned = self._owner(state, ordinal, end)
            found = self._find(owned, ordinal, len(out) - used)
            segment, stream_id, count, entries = found
            done = len(ends)
            ends.frombytes(bytes(4 * count))
            status, records, taken, next_bytes, bad_offset = segment.view.gather(
                segment.base_position, stream_id, ordinal, entries, count, out, used, ends, done
            )
            ordinal += records
            used += taken
            if status == GATHER_DONE:
                continue
            del ends[done + records :]
            if status == GATHER_BAD:
                raise self._damaged(owned, ordinal, found, bad_offset)
            if len(out) < max_bytes:
                grown = bytearray(min(max_bytes, max(4 * len(out), used + next_bytes)))
                grown[:used] = memoryview(out)[:used]
                out = grown
            elif used == 0:
                # One record is always given, even one larger than the bound.
                max_bytes = next_bytes
                out = bytearray(max_bytes)
            else:
                break
        return memoryview(out)[:used], ends, ordinal

    def _owner(self, state: StreamState, ordinal: int, end: int) -> _Owned:
        """Whose own record ``ordinal`` is: the stream's, or further up its chain of sources."""
        bound = ORDINAL_MAX
        while ordinal < state.config.base:
            bound = min(bound, state.config.base)
            assert state.config.source_id is not None
            source = self._durable.streams.get(state.config.source_id)
            if source is None:
                raise _vanished(state)
            state = source
        return _Owned(state, min(end, bound), bound)

    def _find(self, owned: _Owned, ordinal: int, room: int) -> _Found:
        """The one segment that holds ``ordinal``, and what it holds from there on."""
        stream_id = owned.state.config.stream_id
        found = self._log.extents.find(stream_id, ordinal)
        segment = None if found is None else self._log.segments.get(found[0])
        index = None if found is None else self._log.indexes.get(found[0])
        if found is None or segment is None or index is None:
            self._explain_absence(owned.state, ordinal)
            raise self._lost(owned, ordinal)
        following = found[1]
        # No more records than may fit, at a guess: the index entries of each are copied.
        count = min(owned.end - ordinal, _RECORDS_PER_STEP_MAX, 64 + room // 64)
        if following is not None:
            count = min(count, following - ordinal)
        entries = index.entries(stream_id, ordinal, count)
        if not entries:
            raise self._lost(owned, ordinal)
        return _Found(segment, stream_id, len(entries), entries)

    def _damaged(self, owned: _Owned, ordinal: int, found: _Found, offset: int) -> Corrupted:
        """What to raise because the batch at ``offset``, with record ``ordinal``, is not whole."""
        if offset == LOST_ENTRY:
            return self._lost(owned, ordinal)
        return Corrupted(
            f"record {ordinal} is damaged",
            file=found.segment.name,
            position=found.segment.base_position + offset,
            stream=str(owned.state.config.key),
            ordinal=ordinal,
        )

    def _lost(self, owned: _Owned, ordinal: int) -> RecordsLost:
        """What to raise because no index knows of record ``ordinal``: a repair gave it up."""
        stream_id = owned.state.config.stream_id
        found = self._log.extents.find(stream_id, ordinal)
        number = 0 if found is None else found[0]
        index = self._log.indexes.get(number)
        stop = ordinal
        if found is not None and index is not None:
            while entries := index.entries(stream_id, stop, _RECORDS_PER_STEP_MAX):
                whole = next((i for i, offset in enumerate(entries) if offset), len(entries))
                stop += whole
                if whole < len(entries):
                    break
            else:
                found = None
        if found is None:
            stop = self._log.extents.following(stream_id, ordinal) or owned.state.tail
        return RecordsLost(
            ordinal,
            min(stop, owned.bound),
            file=filenames.segment(number),
            position=number * self._log.segment_bytes,
            stream=str(owned.state.config.key),
        )

    def _explain_absence(self, owner: StreamState, ordinal: int) -> None:
        """Raise Rejected if the record went away since the read began."""
        current = self._durable.streams.get(owner.config.stream_id)
        if current is None:
            raise _vanished(owner)
        if ordinal < current.start:
            raise _trimmed(current, ordinal)

    def is_resident(self, state: StreamState, ordinal: int, newest: int) -> bool:
        """Whether records from ``ordinal`` on were written lately: no disk read is to be feared.

        Nor is one where there is nothing to read: at the tail, and before what is retained.
        """
        if ordinal >= state.tail or ordinal < state.start:
            return True
        if ordinal < state.config.base:
            return False
        found = self._log.extents.find(state.config.stream_id, ordinal)
        return found is not None and found[0] + 1 >= newest


def _room_for_copies(found: _Found, guess: int) -> bytearray:
    """For the runs of a read that are short; of one batch they are one."""
    if found.entries[0] == found.entries[-1]:
        guess = 0
    return bytearray(max(READ_MAPPED_RUN_BYTES_MIN, min(guess, _COPY_BYTES_MAX)))


class _Owned(NamedTuple):
    """Whose records are read, up to ``end``; those from ``bound`` on are another stream's."""

    state: StreamState
    end: int
    bound: int


class _Mapped:
    """Bounds what large reads leave mapped: the oldest of it is released first.

    The kernel keeps those pages or not, as it sees fit; reading them again maps them again.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        # Weak, or the space of a reclaimed segment would stay taken.
        self._ranges: deque[tuple[ref[Segment], int, int]] = deque()
        self._lock = threading.Lock()

    def note(self, segment: Segment, start: int, stop: int) -> None:
        with self._lock:
            if self._ranges:
                # One call for many neighbours: to release is dear, whatever the length.
                last, begin, end = self._ranges[-1]
                if (
                    last() is segment
                    and begin <= start <= end + _RELEASE_GAP_BYTES
                    and stop - begin <= _RELEASE_BYTES_MAX
                ):
                    self._ranges[-1] = last, begin, max(end, stop)
                    self._bytes += max(0, stop - end)
                    return
            self._ranges.append((ref(segment), start, stop))
            self._bytes += stop - start
            while self._bytes > self._bytes_max:
                oldest, start, stop = self._ranges.popleft()
                self._bytes -= stop - start
                if (old := oldest()) is not None:
                    old.release(start, stop)


def _before_damage(error: Corrupted, first: int) -> int:
    """Where a read from ``first`` on has to stop: before the damage that ``error`` tells of.

    Raises it again if nothing stands before: the read that begins at damage is to tell of it.
    """
    if error.ordinal is None or error.ordinal <= first:
        raise error
    return error.ordinal


def _bounds(
    state: StreamState, ordinal: int, stop: int | None, max_records: int | None
) -> tuple[int, int]:
    """The ordinals to read, of those that there are."""
    if ordinal < state.start:
        raise _trimmed(state, ordinal)
    tail = state.tail
    first = min(ordinal, tail)
    end = tail if stop is None else min(stop, tail)
    if max_records is not None:
        end = min(end, first + max_records)
    return first, max(end, first)


def _range(
    state: StreamState, first: int, after: int
) -> tuple[StreamKey, int, str, bool, int, int, int, bool, int | None]:
    """The fields of a ReadRange."""
    config = state.config
    return (
        config.key,
        config.stream_id,
        config.content_type,
        config.is_json,
        first,
        after,
        state.tail,
        state.closed,
        expires_at_ms(state),
    )


def _trimmed(state: StreamState, ordinal: int) -> Rejected:
    return Rejected(
        Rejection(
            Reason.TRIMMED,
            f"ordinal {ordinal} of stream {state.config.key} is before its retained start "
            f"{state.start}",
            tail=state.tail,
            closed=state.closed,
        )
    )


def _vanished(state: StreamState) -> Rejected:
    return Rejected(
        Rejection(Reason.STREAM_NOT_FOUND, f"stream {state.config.key} does not exist any more")
    )
