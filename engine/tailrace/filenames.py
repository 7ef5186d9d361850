"""The names of the files in a data directory; nothing outside ``engine/`` knows them."""

from __future__ import annotations

import re
from typing import Final

LOCK: Final = "LOCK"
MANIFEST: Final = "MANIFEST"
LOG_DIRECTORY: Final = "log"
SEARCH_DIRECTORY: Final = "search"
DAMAGED_DIRECTORY: Final = "damaged"
SNAPSHOT_DIRECTORY: Final = "snapshots"
TEMPORARY_SUFFIX: Final = ".tmp"

_SEGMENT: Final = re.compile(r"([0-9a-f]{16})\.segment")
_SPARE: Final = re.compile(r"([0-9a-f]{16})\.spare")
_INDEX: Final = re.compile(r"([0-9a-f]{16})\.index")
_SNAPSHOT: Final = re.compile(r"([0-9a-f]{16})\.snapshot")
_CHECKPOINT: Final = re.compile(r"checkpoint-([0-9a-f]{16})")


def segment(number: int) -> str:
    return f"{LOG_DIRECTORY}/{number:016x}.segment"


def spare(number: int) -> str:
    """Zeros, of which a segment may be made. The number means nothing."""
    return f"{LOG_DIRECTORY}/{number:016x}.spare"


def index_name(number: int) -> str:
    """Without the directory, as :func:`tailrace.storage.replace_file` wants it."""
    return f"{number:016x}.index"


def index(number: int) -> str:
    return f"{LOG_DIRECTORY}/{index_name(number)}"


def snapshot(file: int) -> str:
    return f"{SNAPSHOT_DIRECTORY}/{file:016x}.snapshot"


def checkpoint(position: int) -> str:
    return f"checkpoint-{position:016x}"


def segment_number(name: str) -> int | None:
    """The number of a segment file by its name without directory; None for other files."""
    match = _SEGMENT.fullmatch(name)
    return None if match is None else int(match[1], 16)


def spare_number(name: str) -> int | None:
    match = _SPARE.fullmatch(name)
    return None if match is None else int(match[1], 16)


def index_number(name: str) -> int | None:
    match = _INDEX.fullmatch(name)
    return None if match is None else int(match[1], 16)


def snapshot_file(name: str) -> int | None:
    match = _SNAPSHOT.fullmatch(name)
    return None if match is None else int(match[1], 16)


def checkpoint_position(name: str) -> int | None:
    match = _CHECKPOINT.fullmatch(name)
    return None if match is None else int(match[1], 16)
