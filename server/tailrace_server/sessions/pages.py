"""Reading a bounded page of a session's events, oldest or newest first.

A page is bounded by what is returned and by what is looked at, so a filter that matches
little costs no more per request than one that matches all; it only needs more pages.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import trio

import tailrace
from tailrace.errors import Corrupted, RecordsLost
from tailrace.operation import StreamKey
from tailrace_server.engine_bridge import EngineBridge
from tailrace_server.protocol import timestamps, views
from tailrace_server.protocol.errors import RequestError
from tailrace_server.protocol.message import Chunk
from tailrace_server.protocol.session_query import TimeRange

SCAN_FACTOR: Final = 8
"""A filtered page looks at this many times the bytes that it may return."""
CHUNK_RECORDS_FIRST: Final = 64
CHUNK_RECORDS_MAX: Final = 4096


class Page(NamedTuple):
    """``chunks`` are comma-separated runs of events; ``next`` where the following page begins.

    Ascending, ``next`` is the first ordinal not looked at; descending, the last one that was.
    """

    chunks: list[Chunk]
    next: int


def all_of(result: tailrace.ReadResult, *, processed: bool) -> Page:
    """A page of all that was read. ``processed`` gives each event its ``processed_at``."""
    if processed:
        return Page(_run(list(result.records()), processed), result.next)
    # The stored bytes are the answer's bytes.
    return Page([result.payload[:-1]] if result.count else [], result.next)


def some_of(
    result: tailrace.ReadResult, *, limit: int | None, types: frozenset[str], processed: bool
) -> Page:
    """The first ``limit`` events of some types in what was read; of all types, if none is named.

    It goes to the end of what was read unless it is full.
    """
    if not types:
        return all_of(result, processed=processed)
    found: list[memoryview] = []
    for ordinal, record in enumerate(result.records(), result.first):
        if views.event_type(record) in types:
            found.append(record)
            if len(found) == limit:
                return Page(_run(found, processed), ordinal + 1)
    return Page(_run(found, processed), result.next)


async def ascending(
    bridge: EngineBridge,
    head: tailrace.Head,
    start: int,
    stop: int,
    *,
    bytes_max: int,
    limit: int | None,
    types: frozenset[str],
    processed: bool,
) -> tuple[Page, tailrace.ReadResult]:
    """The events from ``start``, before ``stop``; and the last read, which knows the tail.

    ``processed`` gives each event its ``processed_at``.
    """
    if not types:
        result = await bridge.read(
            head.key, start, max_bytes=bytes_max, max_records=limit, stop=stop
        )
        return all_of(result, processed=processed), result
    found: list[memoryview] = []
    found_bytes = scanned_bytes = 0
    ordinal = start
    while True:
        result = await bridge.read(head.key, ordinal, max_bytes=bytes_max, stop=stop)
        scanned_bytes += len(result.payload)
        ordinal = result.next
        for index, record in enumerate(result.records()):
            if views.event_type(record) in types:
                found.append(record)
                found_bytes += len(record)
                if len(found) == limit or found_bytes >= bytes_max:
                    ordinal = result.first + index + 1
                    break
        full = len(found) == limit or found_bytes >= bytes_max
        if full or ordinal >= min(stop, result.tail) or scanned_bytes >= SCAN_FACTOR * bytes_max:
            return Page(_run(found, processed), ordinal), result
        await trio.lowlevel.checkpoint()


async def descending(
    bridge: EngineBridge,
    head: tailrace.Head,
    low: int,
    end: int,
    *,
    bytes_max: int,
    limit: int | None,
    types: frozenset[str],
    processed: bool,
) -> Page:
    """The events before ``end``, newest first, down to ``low``."""
    found: list[memoryview] = []
    found_bytes = scanned_bytes = 0
    chunk = CHUNK_RECORDS_FIRST
    while end > low:
        wanted = chunk if types or limit is None else min(chunk, limit - len(found))
        first = max(low, end - wanted)
        try:
            result = await bridge.read(head.key, first, max_bytes=bytes_max, stop=end)
        except Corrupted:
            if end - first > 1:
                chunk = (end - first) // 2  # the newest of them may be whole
                continue
            if scanned_bytes:
                break  # the next page begins there, and tells
            raise
        if result.stream_id != head.stream_id:
            break
        if result.next < end and end - first > 1:
            # Too many for one read: the newest of them are missing. Take fewer.
            chunk = max(1, (end - first) // 2)
            continue
        scanned_bytes += len(result.payload)
        for record in reversed(list(result.records())):
            end -= 1
            if not types or views.event_type(record) in types:
                found.append(record)
                found_bytes += len(record)
                if len(found) == limit or found_bytes >= bytes_max:
                    return Page(_run(found, processed), end)
        if scanned_bytes >= (SCAN_FACTOR if types else 1) * bytes_max:
            break
        chunk = min(2 * chunk, CHUNK_RECORDS_MAX)
        await trio.lowlevel.checkpoint()
    return Page(_run(found, processed), end)


async def time_bounds(
    bridge: EngineBridge, head: tailrace.Head, created: TimeRange
) -> tuple[int, int]:
    """The ordinals whose time is in the range: times never go back, so they are one run."""
    low, high = head.start, head.tail
    if created.from_ms is not None:
        low, _ = await _first_at(bridge, head.key, low, high, created.from_ms)
    if created.until_ms is not None:
        _, high = await _first_at(bridge, head.key, low, high, created.until_ms)
    return low, high


async def _first_at(
    bridge: EngineBridge, key: StreamKey, low: int, high: int, at_ms: int
) -> tuple[int, int]:
    """The first ordinal from ``low``, at most ``high``, whose event is not before ``at_ms``.

    Twice; but if that may be one of the events that a repair gave up, the first of these, and
    what stands behind the last. So they are told of if the range may have had them, and only then.
    """
    certain = high
    while low < high:
        middle = (low + high) // 2
        probe, result = middle, None
        while result is None and probe < high:
            try:
                result = await bridge.read(key, probe, max_bytes=1, max_records=1)
            except RecordsLost as lost:
                probe = lost.stop
        if result is not None and _created_ms(result) < at_ms:
            low = probe + 1
            continue
        high = middle
        if result is not None:
            certain = probe
    return low, certain


def _created_ms(result: tailrace.ReadResult) -> int:
    for record in result.records():
        text = views.created_at(record)
        try:
            return timestamps.parse_ns(text, "created_at") // timestamps.NS_PER_MS
        except RequestError:
            break
    return 0


def _run(records: list[memoryview], processed: bool) -> list[Chunk]:
    if not records:
        return []
    if processed:
        return [b",".join(map(views.processed, records))]
    return [b",".join(records)]
