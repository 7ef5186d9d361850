"""The newest documents, in memory: searched from the moment they are added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tailrace.search.analyzer import split_for_index
from tailrace.search.document import Document, values_and_type
from tailrace.search.floors import FloorTable
from tailrace.search.native_score import NEW_DOCUMENT, NativeMemory, NativePart, Source


class MemoryPart:
    """Grows by one thread at a time. ``documents`` is how many a search may see.

    A search works on the first ``documents`` as they were when it began, so it sees each
    :meth:`add` whole or not at all.
    """

    def __init__(self) -> None:
        self._native = NativeMemory()
        self.documents = 0
        self.floors = FloorTable()
        self.failed = False  # an add ran out of memory: no search sees it, no other add follows

    @property
    def size_bytes(self) -> int:
        """Memory in use, about."""
        return self._native.size_bytes

    def add(self, documents: Iterable[Document], older: Sequence[NativePart]) -> int:
        """Index documents; those that this or an ``older`` part already holds are passed over.

        Returns how many were new. MemoryError leaves a part that takes no more documents.
        """
        table: list[bytes] = []
        content: list[bytes] = []
        pack = NEW_DOCUMENT.pack
        for stream_id, ordinal, created_at_ms, body in documents:
            values, kind = values_and_type(body)
            text, terms = split_for_index("\n".join(values))
            name = b"" if kind is None else kind.encode("utf-8", "replace")
            table.append(
                pack(
                    stream_id,
                    ordinal,
                    created_at_ms,
                    len(text),
                    len(terms),
                    len(name),
                    kind is not None,
                )
            )
            content += (text, terms, name)
        try:
            added = self._native.add(older, b"".join(table), len(table), b"".join(content))
        except MemoryError:
            self.failed = True
            raise
        self.documents = self._native.documents
        return added

    def find_stream(self, stream_id: int) -> int:
        """Index of a stream here, or -1."""
        return self._native.find_stream(stream_id)

    def stream_ids(self) -> list[int]:
        """Every stream with a document here."""
        return self._native.stream_ids()

    def source(self) -> Source:
        """What a search that begins now may see."""
        return Source(None, self._native, self.documents, self.floors.values)
