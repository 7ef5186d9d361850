"""SEARCH_FORMAT.md against a real part, which is read here by the page's tables alone."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
import pytest
from pyroaring import BitMap

from tailrace.native import crc32c
from tailrace.search.analyzer import VERSION as ANALYZER_VERSION
from tailrace.search.document import Document
from tailrace.search.index import SearchIndex
from tailrace.search.native_score import PART_VERSION
from tailrace.search.part_list import Hole, PartEntry, PartList
from tailrace.search.part_writer import HEADER_BYTES, MAGIC
from tailrace.storage import OsStorage
from tests.project import read
from tests.search.reference import entry_of, event

PAGE: Final = read("engine/SEARCH_FORMAT.md")
ALL_ONES: Final = 2**32 - 1


def table(name: str) -> list[list[str]]:
    """The cells of the table marked with ``name``, without its head."""
    marked = PAGE.split(f"<!-- table: {name} -->\n")[1]
    rows = marked.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def fields(name: str) -> dict[str, slice]:
    """The bytes of each field of a structure; they must lie side by side."""
    out: dict[str, slice] = {}
    end = 0
    for offset, size, field, *_ in table(name):
        assert int(offset) == end, f"{name}: {field}"
        end += int(size)
        out[field] = slice(int(offset), end)
    return out


def size_of(name: str) -> int:
    return sum(int(size) for _, size, *_ in table(name))


def number(data: bytes, *, signed: bool = False) -> int:
    return int.from_bytes(data, "little", signed=signed)


def rows(data: bytes, size: int) -> list[bytes]:
    assert len(data) % size == 0
    return [data[at : at + size] for at in range(0, len(data), size)]


class PageReader:
    """A part file as the page describes it."""

    def __init__(self, raw: bytes) -> None:
        header = fields("part-header")
        self.header = {name: raw[at] for name, at in header.items()}
        entry = fields("section-entry")
        names = [name for _, name, _ in table("sections")]
        assert [int(i) for i, *_ in table("sections")] == list(range(len(names)))
        self.sections: dict[str, bytes] = {}
        end = size_of("part-header")
        for name, row in zip(
            names, rows(self.header["sections"], size_of("section-entry")), strict=True
        ):
            start = number(row[entry["offset"]])
            assert start == end + -end % 8
            assert not any(raw[end:start])
            end = start + number(row[entry["bytes"]])
            self.sections[name] = raw[start:end]
            assert number(row[entry["crc32c"]]) == crc32c(self.sections[name])
            assert number(row[entry["reserved"]]) == 0
        assert end == len(raw) == number(self.header["file_bytes"])
        assert number(self.header["crc32c"]) == crc32c(raw[: header["crc32c"].start])

    def column(self, name: str, size: int, *, signed: bool = False) -> list[int]:
        return [number(row, signed=signed) for row in rows(self.sections[name], size)]

    def names(self, section: str) -> dict[str, dict[int, int]]:
        """Name → document → frequency."""
        entry = fields("name-entry")
        exception = fields("exception-entry")
        out: dict[str, dict[int, int]] = {}
        for row in rows(self.sections[section], size_of("name-entry")):
            value = {field: number(row[at]) for field, at in entry.items()}
            name_at = value["name_offset"]
            name = self.sections["names"][name_at : name_at + value["name_bytes"]].decode()
            at = value["postings_offset"]
            postings = self.sections["postings"][at:]
            ids = list(BitMap.deserialize(postings[: value["bitmap_bytes"]]))
            assert len(ids) == value["documents"]
            frequencies = [1] * len(ids)
            if value["exceptions"] != ALL_ONES:
                rest = postings[value["bitmap_bytes"] :]
                frequencies = list(rest[: len(ids)])
                table_bytes = size_of("exception-entry") * value["exceptions"]
                for item in rows(
                    rest[len(ids) : len(ids) + table_bytes], size_of("exception-entry")
                ):
                    frequencies[number(item[exception["rank"]])] = number(
                        item[exception["frequency"]]
                    )
            out[name] = dict(zip(ids, frequencies, strict=True))
        assert list(out) == sorted(out, key=str.encode)
        return out


DOCUMENTS: Final = [
    Document(stream, i, 1000 - i, event(f"word w{i % 7} 日本 " + "often " * (i * 9), f"t{i % 3}"))
    for i in range(40)
    for stream in (7, 3)
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("format")
    index = SearchIndex.open(OsStorage(path))
    index.add([Document(5, 0, 0, event("early"))], 60)
    index.flush()
    lost = ((3, 2, 6), (5, 1, 2), (7, 9, 12))
    index.add(DOCUMENTS, 500, [Hole(300, 360, lost)])
    index.truncate_stream(5, 0)
    index.flush()
    index.remove_stream(5)
    index.truncate_stream(3, 4)
    index.close()
    return path / "search"


def test_the_page_describes_a_part(directory: Path) -> None:
    part = PageReader((directory / "0000000000000002.part").read_bytes())
    header = part.header
    assert header["magic"] == MAGIC == table("part-header")[0][3].strip("`").encode()
    assert number(header["version"]) == PART_VERSION == int(table("part-header")[1][3])
    assert number(header["header_bytes"]) == HEADER_BYTES == size_of("part-header")
    assert number(header["analyzer"]) == ANALYZER_VERSION
    assert (number(header["first_position"]), number(header["end_position"])) == (60, 500)

    ordered = sorted(DOCUMENTS)
    entries = [entry_of(document) for document in ordered]
    assert number(header["documents"]) == len(ordered)
    assert part.column("ordinals", 8) == [d.ordinal for d in ordered]
    assert part.column("created", 8, signed=True) == [d.created_at_ms for d in ordered]
    assert part.column("lengths", 4) == [entry.length for entry in entries]
    assert number(header["length_sum"]) == sum(entry.length for entry in entries)

    stream = fields("stream-entry")
    streams = [
        tuple(number(row[at]) for at in stream.values())
        for row in rows(part.sections["streams"], size_of("stream-entry"))
    ]
    assert streams == [(3, 0, 40), (7, 40, 40)]
    assert number(header["streams"]) == 2
    assert part.column("document_streams", 4) == [0] * 40 + [1] * 40

    terms = part.names("terms")
    assert number(header["terms"]) == len(terms)
    found = [Counter({t: ids[i] for t, ids in terms.items() if i in ids}) for i in range(80)]
    assert found == [entry.terms for entry in entries]
    assert max(terms["often"].values()) > 255
    types = part.names("types")
    assert number(header["types"]) == len(types) == 3
    for i, entry in enumerate(entries):
        assert [name for name, ids in types.items() if i in ids] == [entry.type]


def test_the_page_describes_the_manifest(directory: Path) -> None:
    line, checksum, end = (directory / "MANIFEST").read_bytes().split(b"\n")
    assert (checksum, end) == (b"%08x" % crc32c(line), b"")
    rows_of_page = re.findall(
        r"^\| (\w+) \| (?:integer|array)", PAGE.split("## Manifest")[1], re.MULTILINE
    )
    content = msgspec.json.decode(line)
    assert list(content) == rows_of_page == list(PartList.__struct_fields__)
    assert content["position"] == 500
    assert content["removed"] == [5]
    assert content["floors"] == [[3, 4]]
    parts = next(row for row in PAGE.splitlines() if row.startswith("| parts |"))
    assert set(content["parts"][0]) == set(PartEntry.__struct_fields__)
    assert set(PartEntry.__struct_fields__) <= set(re.findall(r"`(\w+)`", parts))
    assert content["holes"] == [{"position": 300, "end": 360, "lost": [[3, 4, 6], [7, 9, 12]]}]
    holes = next(row for row in PAGE.splitlines() if row.startswith("| holes |"))
    assert set(Hole.__struct_fields__) <= set(re.findall(r"`(\w+)`", holes))
    for entry in content["parts"]:
        raw = (directory / f"{entry['number']:016x}.part").read_bytes()
        assert entry["checksum"] == number(raw[fields("part-header")["crc32c"]])
