"""Part files of the search index whose checksums are right and whose content is not.

An input is a list of edits to a valid part; checksums are made right again after them. The
part must be refused, or be searched and merged without touching a byte outside it.
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Final

from fuzz.engine_driver import run
from tailrace.native import crc32c
from tailrace.search.document import Document
from tailrace.search.hits import ScopeItem, scope_columns
from tailrace.search.index import SearchIndex
from tailrace.search.native_score import (
    NO_TIME_FROM,
    NO_TIME_UNTIL,
    SECTION_COUNT,
    DamagedPart,
    InvalidPart,
    NativeMerge,
    NativePart,
    Query,
    Scratch,
    Source,
    search,
)
from tailrace.storage import OsStorage

STREAMS: Final = 5
DOCUMENTS: Final = 9000  # so many that those with "second" are a bitmap container
SCOPES: Final = (
    None,
    (ScopeItem(1, 0, 900), ScopeItem(2, 50, 4000), ScopeItem(5)),
    (ScopeItem(3), ScopeItem(5)),
)
_TABLE: Final = 64
_HEADER: Final = 288
_EDIT: Final = 5  # four bytes of place, one of value


def _text(i: int) -> str:
    often = "often " * (300 if i == 77 else 0)
    return (
        f"every {'second' if i % 2 else ''} {'tenth tenth' if i % 10 == 0 else ''} w{i % 7} {often}"
    )


def _base() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        index = SearchIndex.open(OsStorage(directory))
        documents = [
            Document(
                1 + i % STREAMS, i, i, json.dumps({"type": f"t{i % 3}", "text": _text(i)}).encode()
            )
            for i in range(DOCUMENTS)
        ]
        index.add(documents, 1000)
        index.close()
        (path,) = Path(directory, "search").glob("*.part")
        return path.read_bytes()


BASE: Final = _base()


def seal(raw: bytearray) -> None:
    """Make every checksum right."""
    for number in range(SECTION_COUNT):
        entry = _TABLE + 24 * number
        start = int.from_bytes(raw[entry : entry + 8], "little")
        size = int.from_bytes(raw[entry + 8 : entry + 16], "little")
        if start + size <= len(raw):
            raw[entry + 16 : entry + 20] = crc32c(raw[start : start + size]).to_bytes(4, "little")
    raw[_HEADER - 4 : _HEADER] = crc32c(raw[: _HEADER - 4]).to_bytes(4, "little")


def _use(part: NativePart) -> None:
    source = Source(part, None, part.documents, None)
    terms = [b"every", b"second", b"tenth", b"often", b"w3"]
    for scope in SCOPES:
        for types in ([], [b"t0", b"t2"]):
            query = Query(
                terms,
                [1.0] * len(terms),
                None if scope is None else scope_columns(list(scope)),
                types,
                50,
                NO_TIME_FROM,
                NO_TIME_UNTIL,
                True,
                1.2,
                0.75,
            )
            try:
                search([source], query, Scratch())
            except DamagedPart:
                continue
    merge = NativeMerge([source, source])
    try:
        while merge.step(1 << 16) is not None:
            continue
    except DamagedPart:
        return
    finally:
        merge.close()


def TestOneInput(data: bytes) -> None:  # noqa: N802 - the name atheris calls
    """Apply the edits, seal, and use what is still taken for a part."""
    raw = bytearray(BASE)
    for at in range(0, len(data) - _EDIT + 1, _EDIT):
        place = int.from_bytes(data[at : at + 4], "little") % len(raw)
        raw[place] = data[at + 4]
    seal(raw)
    try:
        part = NativePart(bytes(raw))
    except InvalidPart:
        return
    _use(part)


def _edits(dice: random.Random) -> bytes:
    """Few edits, most of them where structure is dense: the header and each section's start."""
    out = bytearray()
    starts = [0] + [
        int.from_bytes(BASE[_TABLE + 24 * n : _TABLE + 24 * n + 8], "little")
        for n in range(SECTION_COUNT)
    ]
    for _ in range(dice.randint(1, 4)):
        place = (
            dice.choice(starts) + dice.randrange(200)
            if dice.random() < 0.7
            else dice.randrange(len(BASE))
        )
        value = dice.choice((0, 1, 2, 127, 128, 254, 255, dice.randrange(256)))
        out += place.to_bytes(4, "little") + bytes([value])
    return bytes(out)


if __name__ == "__main__":
    run(__doc__, TestOneInput, _edits)
