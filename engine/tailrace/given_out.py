"""What was given out though no whole batch tells of it: ordinals and stream ids.

Where damage took the last records of a stream, or all of one, what is left of the log would give
their numbers out again, and what clients hold of the old ones would name something else. Three
witnesses are left, each of which may be missing: the index of a sealed segment, the parts of the
search index (both have checksums of their own), and the header of a damaged batch, if it was
behind the header that it was damaged.
"""

from __future__ import annotations

from typing import Final

from tailrace import filenames
from tailrace.batch import HEADER, HEADER_BYTES, VERSION, Kind, padded_bytes
from tailrace.catalog import Catalog
from tailrace.errors import Corrupted
from tailrace.offset_index import BadIndex, MappedIndex
from tailrace.search.part_files import open_parts
from tailrace.search.part_list import read_part_list
from tailrace.segment import Segment
from tailrace.storage import Storage, read_file

_KINDS: Final = frozenset(Kind)
_WORD_BYTES: Final = 8
_HEADER_WORDS: Final = HEADER_BYTES // _WORD_BYTES
_RECORD_BYTES_MIN: Final = 4  # its entry in a batch's table of ends


class GivenOut:
    """What the witnesses say.

    Nothing is believed that cannot have stood in the bytes that were lost, so a witness that is
    wrong takes no more ordinals than those bytes could hold.
    """

    def __init__(self) -> None:
        self._said: set[tuple[int, int]] = set()
        self._lost_bytes = 0
        self._lost_bytes_before: dict[int, int] = {}

    def lose(self, length: int) -> None:
        """So many bytes of the log are lost, behind all batches that were seen."""
        self._lost_bytes += length

    def see(self, stream_id: int) -> None:
        """The next batch of the log is whole, and of this stream."""
        self._lost_bytes_before[stream_id] = self._lost_bytes

    def note(self, stream_id: int, tail: int) -> None:
        """A witness names the stream, and all its records before ``tail``."""
        self._said.add((stream_id, tail))

    def ask_index(self, storage: Storage, number: int) -> None:
        """What segment ``number``, if it was sealed, held when it was whole."""
        try:
            data = memoryview(read_file(storage, filenames.index(number)))
            runs = list(MappedIndex(data, number).runs())
        except (FileNotFoundError, BadIndex):
            return
        for run in runs:
            self.note(run.stream_id, run.first + run.records)

    def ask_search(self, storage: Storage) -> None:
        """What is on disk of the search index. Of no use where that is damaged, too."""
        directory = filenames.SEARCH_DIRECTORY
        try:
            listed = read_part_list(storage, directory)
        except Corrupted:
            return
        parts, listed = open_parts(storage, directory, listed)
        try:
            for part in parts:
                for stream_id, tail in part.native.tails().items():
                    self.note(stream_id, tail)
        finally:
            for part in parts:
                part.close()
        for hole in listed.holes:
            for stream_id, _, stop in hole.lost:
                self.note(stream_id, stop)

    def ask_headers(self, segment: Segment, start: int, end: int) -> None:
        """What looks like the header of a batch between two offsets where none is whole.

        A batch knows its place, so 64 bits must agree with it.
        """
        words = segment.data[start:end].cast("Q")
        position = segment.base_position + start
        at = 0
        while at + _HEADER_WORDS <= len(words):
            if words[at + 2] == position + _WORD_BYTES * at:
                at += self._ask_header(segment.data[start + _WORD_BYTES * at : end]) // _WORD_BYTES
            else:
                at += 1

    def _ask_header(self, data: memoryview) -> int:
        """How many bytes it, or what looks like it, takes."""
        header = HEADER.unpack_from(data)
        length, version, kind, count = header[1], header[2], header[3], header[5]
        stream_id, base, fields_length, payload_length = header[8], header[9], *header[13:]
        if version != VERSION or kind not in _KINDS or HEADER_BYTES + 4 * count > len(data):
            return _WORD_BYTES
        if stream_id:
            self.note(stream_id, base + count if kind in (Kind.APPEND, Kind.CREATE) else 0)
        is_whole = length == padded_bytes(count, fields_length, payload_length) <= len(data)
        return length if is_whole else _WORD_BYTES

    def tails(self, catalog: Catalog) -> dict[int, int]:
        """The streams of ``catalog`` that had more records than it says, and their tails."""
        found: dict[int, int] = {}
        for stream_id, tail in sorted(self._said):
            state = catalog.streams.get(stream_id)
            if state is None or state.closed or state.deleted:
                continue  # nothing can be appended
            lost_bytes = self._lost_bytes - self._lost_bytes_before.get(stream_id, 0)
            if 0 < tail - state.tail <= lost_bytes // _RECORD_BYTES_MIN:
                found[stream_id] = tail
        return found

    def last_stream_id(self, catalog: Catalog) -> int:
        """The highest that was given out."""
        known = catalog.next_stream_id - 1
        most = known + self._lost_bytes // HEADER_BYTES  # a batch creates no more than one
        return max([known, *(stream_id for stream_id, _ in self._said if stream_id <= most)])
