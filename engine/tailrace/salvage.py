"""What ``tailrace repair`` makes again before it looks at batches: the manifest, and segment files.

The manifest says nothing that the files do not say too: every segment's header has the store's id
and the size of segments, and the names of the files say which there are. A segment's header says
nothing that the manifest does not. What a file that is gone or was cut short held is lost.
"""

from __future__ import annotations

from tailrace import filenames
from tailrace.checkpoint import BadCheckpoint, decode_checkpoint
from tailrace.errors import Corrupted
from tailrace.limits import SEGMENT_HEADER_BYTES
from tailrace.live_files import CHECKPOINTS_KEPT
from tailrace.manifest import FORMAT, Manifest, write_manifest
from tailrace.segment import Header, create_segment, decode_header, encode_header
from tailrace.storage import Storage, read_file, write_zeros


def remake_manifest(storage: Storage, lost: Corrupted) -> Manifest:
    """A manifest that names every segment and the newest checkpoints; durable on return.

    What a crash left beside the files that counted does no harm: a segment that was not named
    yet is empty, one that was about to be removed has no stream's record, and a checkpoint
    that can be read is one of this log.

    Raises ``lost`` if there is not enough to go by.
    """
    numbers = _numbers(storage)
    header = _any_header(storage, numbers)
    if header is None:
        raise _hopeless(lost)
    positions = _checkpoint_positions(storage)
    reached, used = divmod(max(positions, default=0), header.segment_bytes)
    if reached not in numbers and used > SEGMENT_HEADER_BYTES:
        raise _hopeless(lost)  # the log had batches in a segment that is gone
    checkpoints = _readable(storage, positions)
    replayed_from = checkpoints[0] // header.segment_bytes if checkpoints else 0
    replayed = [number for number in numbers if number >= replayed_from]
    # A hole before the checkpoint is what was reclaimed. In what is replayed nothing may be.
    if replayed != list(range(replayed_from, replayed_from + len(replayed))):
        raise _hopeless(lost)
    manifest = Manifest(
        FORMAT, header.store_id.hex(), header.segment_bytes, tuple(numbers), checkpoints
    )
    write_manifest(storage, manifest)
    return manifest


def _numbers(storage: Storage) -> list[int]:
    names = storage.list_directory(filenames.LOG_DIRECTORY)
    found = (filenames.segment_number(name) for name in names)
    return sorted(number for number in found if number is not None)


def _any_header(storage: Storage, numbers: list[int]) -> Header | None:
    """What a segment whose header is whole says of them all."""
    for number in numbers:
        name = filenames.segment(number)
        try:
            header = decode_header(_head_of(storage, name), name)
        except Corrupted:
            continue
        if header.number == number:
            return header
    return None


def _checkpoint_positions(storage: Storage) -> list[int]:
    names = storage.list_directory("")
    found = (filenames.checkpoint_position(name) for name in names)
    return sorted((position for position in found if position is not None), reverse=True)


def _readable(storage: Storage, positions: list[int]) -> tuple[int, ...]:
    """Of checkpoints, newest first, the newest that can be read."""
    found: list[int] = []
    for position in positions:
        try:
            decode_checkpoint(read_file(storage, filenames.checkpoint(position)), position)
        except BadCheckpoint:
            continue
        found.append(position)
    return tuple(found[:CHECKPOINTS_KEPT])


def _hopeless(lost: Corrupted) -> Corrupted:
    return Corrupted(
        "the manifest cannot be read, and the log has not all that it takes to make it again",
        file=lost.file,
        position=lost.position,
        mendable=False,
    )


def remake_segment(storage: Storage, manifest: Manifest, number: int, lost: Corrupted) -> None:
    """Give a segment that cannot be opened its size and header; durable on return.

    What is missing of it is zeros then. Raises ``lost`` for a file that is another's.
    """
    name, size = filenames.segment(number), manifest.segment_bytes
    wanted = Header(manifest.store_id_bytes, number, size)
    if name.rpartition("/")[2] not in storage.list_directory(filenames.LOG_DIRECTORY):
        create_segment(storage, *wanted)
        return
    if not lost.mendable:
        raise lost
    file = storage.open(name, writable=True)
    try:
        held = file.size_bytes()
        if held > size:
            raise Corrupted(str(lost), file=name, position=0, mendable=False)
        if held < size:
            file.allocate(size)
            write_zeros(file, held, size)
        file.pwrite(encode_header(*wanted), 0)
        file.sync()
    finally:
        file.close()


def _head_of(storage: Storage, name: str) -> bytes:
    file = storage.open(name)
    try:
        return file.pread(min(SEGMENT_HEADER_BYTES, file.size_bytes()), 0)
    finally:
        file.close()
