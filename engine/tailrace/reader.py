"""A stream's durable range → wire bytes, checksums verified, forks stitched."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from tailrace.catalog import Catalog
from tailrace.errors import Corrupted, Rejected
from tailrace.log import Log
from tailrace.native import GATHER_BAD, GATHER_FULL
from tailrace.operation import StreamKey
from tailrace.outcome import Reason, Rejection
from tailrace.stream import StreamState

_RECORDS_PER_STEP_MAX = 262_144


@dataclass(frozen=True, slots=True)
class ReadResult:
    """Consecutive records of one stream, as one durable moment had it.

    ``first`` is the first record's ordinal, ``next`` the one after the last; ``tail`` and
    ``closed`` are the stream's. ``payload`` is the records' wire bytes: in a JSON stream each is
    followed by one comma (so ``b"[" + payload[:-1] + b"]"`` is the array), in others they are
    simply joined. ``ends[i]`` is where record i ends in it, its comma included.
    """

    key: StreamKey
    stream_id: int
    content_type: str
    is_json: bool
    first: int
    next: int
    tail: int
    closed: bool
    payload: memoryview
    ends: array[int]

    @property
    def count(self) -> int:
        return self.next - self.first

    @property
    def up_to_date(self) -> bool:
        """Nothing stands behind these records. With ``closed``: nothing ever will."""
        return self.next == self.tail

    def records(self) -> Iterator[memoryview]:
        """Each record, without its separator."""
        separator = 1 if self.is_json else 0
        begin = 0
        for end in self.ends:
            yield self.payload[begin : end - separator]
            begin = end


class Reader:
    """Reads the durable catalog and the log; never waits for a writer."""

    def __init__(self, log: Log, durable: Catalog) -> None:
        self._log = log
        self._durable = durable

    def read(
        self, state: StreamState, ordinal: int, stop: int | None, max_bytes: int, max_records: int
    ) -> ReadResult:
        """Records of ``state`` from ``ordinal`` on; see :meth:`tailrace.store.Store.read`."""
        config = state.config
        tail = state.tail
        if ordinal < state.start:
            raise _trimmed(state, ordinal)
        first = min(ordinal, tail)
        end = min(tail if stop is None else min(stop, tail), first + max_records)
        payload, ends, after = self._collect(state, first, max(end, first), max_bytes)
        return ReadResult(
            config.key,
            config.stream_id,
            config.content_type,
            config.is_json,
            first,
            after,
            tail,
            state.closed,
            payload,
            ends,
        )

    def _collect(
        self, state: StreamState, ordinal: int, end: int, max_bytes: int
    ) -> tuple[memoryview, array[int], int]:
        # A first guess that a short range does not pay max_bytes for; it grows when it is full.
        out = bytearray(min(max_bytes, max((end - ordinal) * 512, 4096)))
        ends = array("I")
        used = 0
        while ordinal < end:
            owner, limit = self._owner(state, ordinal, end)
            step = self._step(owner, ordinal, limit, out, used, ends)
            ordinal += step.records
            used += step.bytes
            if step.full_at is not None:
                if len(out) < max_bytes:
                    grown = bytearray(min(max_bytes, max(4 * len(out), used + step.full_at)))
                    grown[:used] = memoryview(out)[:used]
                    out = grown
                elif used == 0:
                    # One record is always given, even one larger than the bound.
                    max_bytes = step.full_at
                    out = bytearray(max_bytes)
                else:
                    break
        return memoryview(out)[:used], ends, ordinal

    def _owner(self, state: StreamState, ordinal: int, end: int) -> tuple[StreamState, int]:
        """Whose own record ``ordinal`` is: the stream's, or further up its chain of sources."""
        while ordinal < state.config.base:
            end = min(end, state.config.base)
            assert state.config.source_id is not None
            source = self._durable.streams.get(state.config.source_id)
            if source is None:
                raise _vanished(state)
            state = source
        return state, end

    def _step(
        self,
        owner: StreamState,
        ordinal: int,
        end: int,
        out: bytearray,
        used: int,
        ends: array[int],
    ) -> _Step:
        """Copy from the one segment that holds ``ordinal``."""
        stream_id = owner.config.stream_id
        found = self._log.extents.find(stream_id, ordinal)
        segment = None if found is None else self._log.segments.get(found[0])
        index = None if found is None else self._log.indexes.get(found[0])
        if found is None or segment is None or index is None:
            self._explain_absence(owner, ordinal)
            raise Corrupted(
                f"record {ordinal} is in no segment",
                file="log",
                position=0,
                stream=str(owner.config.key),
            )
        following = found[1]
        # No more records than may fit, at a guess: the index entries of each are copied.
        count = min(end - ordinal, _RECORDS_PER_STEP_MAX, 64 + (len(out) - used) // 64)
        if following is not None:
            count = min(count, following - ordinal)
        entries = index.entries(stream_id, ordinal, count)
        if len(entries) != count:
            raise Corrupted(
                f"record {ordinal + len(entries)} is in no segment",
                file=segment.name,
                position=segment.base_position,
                stream=str(owner.config.key),
            )
        done = len(ends)
        ends.frombytes(bytes(4 * count))
        gathered = segment.view.gather(
            segment.base_position, stream_id, ordinal, entries, count, out, used, ends, done
        )
        del ends[done + gathered.records :]
        if gathered.status == GATHER_BAD:
            raise Corrupted(
                f"record {ordinal + gathered.records} is damaged",
                file=segment.name,
                position=segment.base_position + gathered.bad_offset,
                stream=str(owner.config.key),
            )
        full_at = gathered.next_bytes if gathered.status == GATHER_FULL else None
        return _Step(gathered.records, gathered.bytes, full_at)

    def _explain_absence(self, owner: StreamState, ordinal: int) -> None:
        """Raise Rejected if the record went away since the read began."""
        current = self._durable.streams.get(owner.config.stream_id)
        if current is None:
            raise _vanished(owner)
        if ordinal < current.start:
            raise _trimmed(current, ordinal)

    def is_resident(self, state: StreamState, ordinal: int, newest: int) -> bool:
        """Whether records from ``ordinal`` on were written lately: no disk read is to be feared."""
        if ordinal >= state.tail:
            return True
        if ordinal < state.config.base:
            return False
        found = self._log.extents.find(state.config.stream_id, ordinal)
        return found is not None and found[0] + 1 >= newest


@dataclass(frozen=True, slots=True)
class _Step:
    records: int
    bytes: int
    full_at: int | None


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
