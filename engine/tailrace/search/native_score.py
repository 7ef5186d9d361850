"""The typed face of the search helpers in ``csrc/``.

Every call releases the GIL and does the work of a whole batch or query, so that neither
indexing nor searching waits for its turn more than once.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Sequence
from struct import Struct
from typing import Any, Final, NamedTuple

from tailrace._native import ffi, lib

NO_TIME_FROM: Final = -(2**63)
NO_TIME_UNTIL: Final = 2**63 - 1
PART_HEADER_BYTES: Final[int] = lib.TR_PART_HEADER_BYTES
PART_VERSION: Final[int] = lib.TR_PART_VERSION
SECTION_COUNT: Final[int] = lib.TR_PART_SECTIONS
NEW_DOCUMENT: Final = Struct("<QQqIIII")  # struct tr_new_document

assert NEW_DOCUMENT.size == ffi.sizeof("struct tr_new_document")

_DAMAGED: Final[int] = lib.TR_SEARCH_DAMAGED
_NO_MEMORY: Final[int] = lib.TR_SEARCH_NO_MEMORY


class DamagedPart(Exception):
    """A part's bytes are not what its checksums promised. ``source`` is its place in the call."""

    def __init__(self, source: int) -> None:
        super().__init__(f"search part {source} is damaged")
        self.source = source


class InvalidPart(Exception):
    """The bytes are no part. ``check`` is a ``TR_PART_`` value of ``csrc/search_part.h``."""

    def __init__(self, check: int) -> None:
        super().__init__(f"search part fails check {check}")
        self.check = check


def _unsigned(values: array[int] | None) -> Any:
    return ffi.NULL if values is None else ffi.from_buffer("uint64_t[]", values)


def tokenize(text: bytes) -> list[bytes]:
    """The terms of ASCII text."""
    out = bytearray(4 * len(text) + 66)
    used = lib.tr_tokenize(text, len(text), ffi.from_buffer("uint8_t[]", out), len(out))
    if used < 0:
        raise MemoryError
    return bytes(out[:used]).split(b"\0")[:-1]


def encode_bitmap(ids: Sequence[int]) -> bytes:
    """The portable serialized roaring form of ascending ``ids`` (below 2**32)."""
    pointer = ffi.new("uint32_t[]", ids)
    size = lib.tr_roaring_bytes(pointer, len(ids))
    out = bytearray(size)
    lib.tr_roaring_encode(pointer, len(ids), ffi.from_buffer("uint8_t[]", out), size)
    return bytes(out)


def decode_bitmap(data: bytes, capacity: int) -> list[int] | None:
    """The ids of a serialized roaring bitmap; None if it is damaged or holds over ``capacity``."""
    out = ffi.new("uint32_t[]", max(capacity, 1))
    count = lib.tr_roaring_decode(data, len(data), out, capacity)
    return None if count < 0 else ffi.unpack(out, count)


class NativePart:
    """A part file's bytes, checked and ready to be searched."""

    __slots__ = (
        "_data",
        "analyzer",
        "checksum",
        "documents",
        "end_position",
        "first_position",
        "length",
        "length_sum",
        "pointer",
        "streams",
        "terms",
        "types",
    )

    def __init__(self, data: memoryview | bytes) -> None:
        """:class:`InvalidPart` unless every checksum and bound holds."""
        # Kept as it is: a buffer that cffi held would crash Python 3.11 where both are garbage in
        # one cycle, as in a store that nobody closed.
        self._data: memoryview | bytes | None = data
        self.pointer: Any = ffi.new("struct tr_part *")
        with ffi.from_buffer("uint8_t[]", data) as pointer:
            check = lib.tr_part_open(pointer, len(data), self.pointer)
        if check:
            raise InvalidPart(check)
        self.length: int = len(data)
        self.documents: int = self.pointer.documents
        self.streams: int = self.pointer.streams
        self.terms: int = self.pointer.terms
        self.types: int = self.pointer.types
        self.analyzer: int = self.pointer.analyzer
        self.checksum: int = self.pointer.checksum
        self.length_sum: int = self.pointer.length_sum
        self.first_position: int = self.pointer.first_position
        self.end_position: int = self.pointer.end_position

    def find_stream(self, stream_id: int) -> int:
        """Index of a stream in the part, or -1."""
        return int(lib.tr_part_find_stream(self.pointer, stream_id))

    def stream_ids(self) -> list[int]:
        """Every stream of the part, ascending."""
        size = 16 * self.streams
        return list(memoryview(ffi.buffer(self.pointer.stream_table, size)).cast("Q"))[::2]

    def tails(self) -> dict[int, int]:
        """For each stream of the part the ordinal behind its last record here."""
        table = memoryview(ffi.buffer(self.pointer.stream_table, 16 * self.streams)).cast("I")
        ordinals = memoryview(ffi.buffer(self.pointer.ordinals, 8 * self.documents)).cast("Q")
        counted = zip(self.stream_ids(), table[2::4], table[3::4], strict=True)
        return {stream_id: ordinals[first + count - 1] + 1 for stream_id, first, count in counted}

    def live(self, floors: array[int] | None) -> int:
        """How many documents stand at or above their stream's floor."""
        count = 0 if floors is None else len(floors)
        return int(lib.tr_part_live(self.pointer, _unsigned(floors), count))

    def release(self) -> None:
        """Let go of the bytes. Nothing may be using the part."""
        self._data = None


class NativeMemory:
    """A memory part: grows by one thread, may be searched by others meanwhile."""

    __slots__ = ("pointer",)

    def __init__(self) -> None:
        made = lib.tr_memory_new(secrets.randbits(64))
        if made == ffi.NULL:
            raise MemoryError("no memory for the search index")
        self.pointer: Any = ffi.gc(made, lib.tr_memory_free)

    @property
    def documents(self) -> int:
        return int(lib.tr_memory_documents(self.pointer))

    @property
    def streams(self) -> int:
        return int(lib.tr_memory_streams(self.pointer))

    @property
    def size_bytes(self) -> int:
        """Memory in use, about."""
        return int(lib.tr_memory_bytes(self.pointer))

    def find_stream(self, stream_id: int) -> int:
        """Index of a stream here, or -1."""
        return int(lib.tr_memory_find_stream(self.pointer, stream_id))

    def stream_ids(self) -> list[int]:
        """Every stream here, in the order of arrival."""
        return [lib.tr_memory_stream_id(self.pointer, i) for i in range(self.streams)]

    def add(self, older: Sequence[NativePart], table: bytes, count: int, content: bytes) -> int:
        """Add ``count`` documents; see ``csrc/search_memory.h``. How many were new."""
        parts = ffi.new("struct tr_part *[]", [part.pointer for part in older])
        added = lib.tr_memory_add(
            self.pointer,
            ffi.cast("struct tr_part const *const *", parts),
            len(older),
            ffi.from_buffer("struct tr_new_document[]", table) if table else ffi.NULL,
            count,
            content,
            len(content),
        )
        if added < 0:
            raise MemoryError("no memory for the search index")
        return int(added)


class Source(NamedTuple):
    """A place to search: a part, or the first ``documents`` of a memory part.

    ``floors`` holds, by the index of a stream in the source, the ordinal below which its
    documents are gone; streams behind its end have none.
    """

    part: NativePart | None
    memory: NativeMemory | None
    documents: int
    floors: array[int] | None


class Query(NamedTuple):
    """What to search for. The scope is sorted by stream, then start; None: every stream."""

    terms: Sequence[bytes]
    weights: Sequence[float]
    scope: tuple[array[int], array[int], array[int]] | None
    types: Sequence[bytes]
    limit: int
    created_from_ms: int
    created_until_ms: int
    count_streams: bool
    k1: float
    b: float


class Answer(NamedTuple):
    """``hits`` are (stream id, ordinal, score), best first; ``per_stream`` counts matches."""

    hits: list[tuple[int, int, float]]
    total: int
    per_stream: dict[int, int]
    documents: int
    length_sum: int
    frequencies: list[int]


class Scratch:
    """Room for scores, one per search at a time."""

    __slots__ = ("pointer",)

    def __init__(self) -> None:
        self.pointer: Any = ffi.new("uint8_t[]", lib.tr_search_scratch_bytes())


def _sources(sources: Sequence[Source], keep: list[Any]) -> Any:
    out = ffi.new("struct tr_source[]", len(sources))
    for i, source in enumerate(sources):
        row = out[i]
        if source.part is not None:
            row.part = source.part.pointer
        if source.memory is not None:
            row.memory = source.memory.pointer
        row.documents = source.documents
        if source.floors is not None:
            floors = _unsigned(source.floors)
            keep.append(floors)
            row.floors = floors
            row.floors_count = len(source.floors)
    return out


def _names(names: Sequence[bytes], keep: list[Any]) -> tuple[Any, Any]:
    ends: list[int] = []
    end = 0
    for name in names:
        end += len(name)
        ends.append(end)
    joined = ffi.from_buffer("uint8_t[]", b"".join(names) or b"\0")
    table = ffi.new("uint32_t[]", ends)
    keep += (joined, table)
    return joined, table


def search(sources: Sequence[Source], query: Query, scratch: Scratch) -> Answer:
    """Search ``sources`` as one index.

    Raises :class:`DamagedPart` if a part's bytes do not hold what they must. After any
    exception ``scratch`` must not be used again.
    """
    keep: list[Any] = []
    table = _sources(sources, keep)
    row = ffi.new("struct tr_query *")
    row.terms, row.term_ends = _names(query.terms, keep)
    weights = ffi.new("double[]", query.weights)
    row.term_weights = weights
    row.term_count = len(query.terms)
    if query.scope is None:
        row.scope_all = 1
    else:
        ids, starts, stops = (_unsigned(column) for column in query.scope)
        row.scope_ids, row.scope_starts, row.scope_stops = ids, starts, stops
        row.scope_count = len(query.scope[0])
        keep += (ids, starts, stops)
    row.types, row.type_ends = _names(query.types, keep)
    row.type_count = len(query.types)
    row.limit = query.limit
    row.created_from_ms = query.created_from_ms
    row.created_until_ms = query.created_until_ms
    row.k1 = query.k1
    row.b = query.b
    hits = ffi.new("struct tr_hit[]", max(query.limit, 1))
    streams, capacity = ffi.NULL, 0
    if query.count_streams:
        capacity = sum(
            source.part.streams
            if source.part is not None
            else source.memory.streams
            if source.memory is not None
            else 0
            for source in sources
        )
        streams = ffi.new("struct tr_stream_hits[]", max(capacity, 1))
    frequencies = ffi.new("uint64_t[]", max(len(query.terms), 1))
    result = ffi.new("struct tr_search_result *")
    status = lib.tr_search(
        table, len(sources), row, scratch.pointer, hits, streams, capacity, frequencies, result
    )
    if status == _DAMAGED:
        raise DamagedPart(result.bad_source)
    if status == _NO_MEMORY:
        raise MemoryError("no memory for a search")
    assert status == 0, status
    per_stream: dict[int, int] = {}
    for i in range(result.stream_entries):
        entry = streams[i]
        per_stream[entry.stream_id] = per_stream.get(entry.stream_id, 0) + entry.hits
    return Answer(
        [(hits[i].stream_id, hits[i].ordinal, hits[i].score) for i in range(result.hits)],
        result.total,
        per_stream,
        result.documents,
        result.length_sum,
        ffi.unpack(frequencies, len(query.terms)) if query.terms else [],
    )


class NativeMerge:
    """The bytes of a new part, section by section; see ``csrc/search_merge.h``."""

    __slots__ = ("_keep", "_pointer", "_sources")

    def __init__(self, sources: Sequence[Source]) -> None:
        self._keep: list[Any] = []
        self._sources = tuple(sources)  # they must outlive the merge
        made = lib.tr_merge_new(_sources(sources, self._keep), len(sources))
        if made == ffi.NULL:
            raise MemoryError("no memory for a merge of search parts")
        self._pointer: Any = ffi.gc(made, lib.tr_merge_free)

    def step(self, wanted: int) -> memoryview | None:
        """The next bytes of the postings, good until the next step; None at their end."""
        made = lib.tr_merge_step(self._pointer, wanted)
        if made == _DAMAGED:
            raise DamagedPart(0)
        if made < 0:
            raise MemoryError("no memory for a merge of search parts")
        if made == 0:
            return None
        return memoryview(ffi.buffer(lib.tr_merge_chunk(self._pointer), made))

    def section(self, number: int) -> memoryview:
        """A section of the file other than the postings, after the last step."""
        length = ffi.new("uint64_t *")
        pointer = lib.tr_merge_section(self._pointer, number, length)
        if length[0] == 0:
            return memoryview(b"")
        return memoryview(ffi.buffer(pointer, length[0]))

    def counts(self) -> tuple[int, int, int, int, int]:
        """Documents, streams, terms, types, and the sum of all documents' lengths."""
        out = ffi.new("struct tr_merge_counts *")
        lib.tr_merge_count(self._pointer, out)
        return out.documents, out.streams, out.terms, out.types, out.length_sum

    def close(self) -> None:
        ffi.release(self._pointer)
