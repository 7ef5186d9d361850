"""The part files that a start finds: those to open, and orphans to remove."""

from __future__ import annotations

import logging

from tailrace.errors import Corrupted
from tailrace.search.part import Part, part_name
from tailrace.search.part_list import NAME as LIST_NAME
from tailrace.search.part_list import PartList
from tailrace.storage import Storage

_logger = logging.getLogger("tailrace")


def open_parts(storage: Storage, directory: str, listed: PartList) -> tuple[list[Part], PartList]:
    """The listed parts that are whole, up to the first that is not, and a list of just those."""
    parts: list[Part] = []
    for entry in listed.parts:
        span = entry.first_position, entry.end_position
        try:
            part = Part.open(storage, directory, entry.number, entry.checksum, span)
        except Corrupted as error:
            _logger.warning("search index from log position %d is made again: %s", span[0], error)
            return parts, listed.before(span[0])
        parts.append(part)
    return parts, listed


def remove_orphans(storage: Storage, directory: str, live: set[int]) -> None:
    """Files that an interrupted flush or merge left behind."""
    names = {LIST_NAME, *(part_name(number) for number in live)}
    strays = [name for name in storage.list_directory(directory) if name not in names]
    for name in strays:
        storage.unlink(f"{directory}/{name}")
    if strays:
        storage.sync_directory(directory)
