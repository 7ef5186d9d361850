"""The file that names the live files: one JSON object on a line, its CRC-32C on the next.

Replaced whole (write beside, sync, rename, sync the directory), so a crash leaves the
old one or the new one. A segment counts, and may be written to, once it stands here.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tailrace import filenames
from tailrace.errors import Corrupted, NoStore, UnsupportedFormat
from tailrace.native import crc32c
from tailrace.storage import Storage, read_file, replace_file

FORMAT: Final = 3
"""What is written. Format 1 has no snapshots, and both others no batches behind lost records."""
_READABLE: Final = frozenset({1, 2, FORMAT})


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``checkpoints`` are log positions, newest first: the one in use and the one before it."""

    format: int
    store_id: str
    segment_bytes: int
    segments: tuple[int, ...]
    checkpoints: tuple[int, ...]

    @property
    def has_whole_log(self) -> bool:
        """No segment was ever reclaimed: the log can be replayed from its very beginning."""
        return sorted(self.segments) == list(range(len(self.segments)))

    @property
    def store_id_bytes(self) -> bytes:
        return bytes.fromhex(self.store_id)


class _FormatOnly(msgspec.Struct):
    format: int


def encode_manifest(manifest: Manifest) -> bytes:
    line = msgspec.json.encode(manifest)
    return line + b"\n%08x\n" % crc32c(line)


def decode_manifest(data: bytes) -> Manifest:
    """:class:`Corrupted` or :class:`UnsupportedFormat` unless ``data`` is a manifest."""
    line, _, rest = data.partition(b"\n")
    if rest != b"%08x\n" % crc32c(line):
        raise Corrupted("manifest is damaged", file=filenames.MANIFEST, position=0)
    try:
        version = msgspec.json.decode(line, type=_FormatOnly).format
        if version not in _READABLE:
            raise UnsupportedFormat(
                f"data directory has format {version}; this version of tailrace reads at most "
                f"{FORMAT}"
            )
        return msgspec.json.decode(line, type=Manifest)
    except msgspec.MsgspecError as error:
        raise Corrupted(
            f"manifest is damaged: {error}", file=filenames.MANIFEST, position=0
        ) from None


def write_manifest(storage: Storage, manifest: Manifest) -> None:
    """Make ``manifest`` the one in force; durable on return."""
    replace_file(storage, "", filenames.MANIFEST, encode_manifest(manifest))


def need_store(storage: Storage) -> None:
    """:class:`NoStore` for a directory in which there is none, not even a damaged one."""
    names = storage.list_directory("")
    log = storage.list_directory(filenames.LOG_DIRECTORY)
    if (
        filenames.MANIFEST not in names
        and all(filenames.checkpoint_position(name) is None for name in names)
        and all(filenames.segment_number(name) is None for name in log)
    ):
        raise NoStore("the directory holds no store: it has no manifest, no checkpoint and no log")


def read_manifest(storage: Storage) -> Manifest | None:
    """The manifest in force; None if there never was one."""
    try:
        data = read_file(storage, filenames.MANIFEST)
    except FileNotFoundError:
        return None
    return decode_manifest(data)
