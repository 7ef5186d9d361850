"""Every bound of the engine, once, and the relations between bounds.

Units come last in the names. A bound that a caller may change is a field of
:class:`tailrace.options.Options`; its default and its limits stand here.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# Names.
BUCKET_PATTERN: Final = r"[a-z0-9_-]{4,64}"
STREAM_NAME_BYTES_MAX: Final = 1024
CONTENT_TYPE_BYTES_MAX: Final = 255
PRODUCER_ID_BYTES_MAX: Final = 256
STREAM_SEQ_BYTES_MAX: Final = 256
METADATA_BYTES_MAX: Final = 64 * KIB

# Numbers.
ORDINAL_MAX: Final = 2**63 - 1
PRODUCER_NUMBER_MAX: Final = 2**53 - 1  # protocol section 5.2.1: JavaScript's safe integers
TTL_MS_MAX: Final = 100 * 365 * 24 * 3600 * 1000
PRODUCERS_PER_STREAM_MAX: Final = 100_000
FORK_DEPTH_MAX: Final = 64
SECONDS_MAX: Final = (
    100 * 365 * 24 * 3600.0
)  # of a wait: more than anyone waits, less than overflows

# Snapshots.
DIGEST_BYTES: Final = 32  # SHA-256
FILE_MAX: Final = 2**64 - 1
SNAPSHOT_BYTES_MAX_DEFAULT: Final = 128 * MIB
SNAPSHOT_SYNC_BYTES: Final = 8 * MIB  # never more of a snapshot unsynced: see SnapshotWriter
SNAPSHOT_READ_BYTES: Final = 256 * KIB

# Log.
PAGE_BYTES: Final = 4096  # the unit in which the kernel keeps files in memory
BATCH_ALIGNMENT_BYTES: Final = 8
BATCH_RECORDS_MAX: Final = 1_000_000
SEGMENT_HEADER_BYTES: Final = 4096
SEGMENT_BYTES_DEFAULT: Final = 64 * MIB
SEGMENT_BYTES_MIN: Final = 64 * KIB
SEGMENT_BYTES_MAX: Final = 1024 * MIB
BATCH_BYTES_MAX: Final = 32 * MIB
SEAL_BYTES: Final = 80  # room every segment keeps for its last batch

# Zeroed room ahead of the log.
RESERVE_BYTES_MAX_DEFAULT: Final = 512 * MIB
RESERVE_SEGMENTS_MAX: Final = 32
RESERVE_BURST_S: Final = 10.0  # the reserve is for what may be written in so short a time
RESERVE_KEPT_S: Final = 6 * 3600.0  # unused for longer, it is given back
RESERVE_DISK_FREE_BYTES_MIN: Final = 1024 * MIB  # with less free there is no reserve
RESERVE_STEP_BYTES: Final = 1 * MIB  # zeroed at a time, while no write waits

# Memory.
STAGED_BYTES_MAX_DEFAULT: Final = 64 * MIB
READ_BYTES_DEFAULT: Final = 1 * MIB
READ_BYTES_MAX: Final = 256 * MIB
READ_NEAR_BYTES_MAX: Final = 4 * MIB  # of batches, verified where others wait for the thread
READ_MAPPED_RUN_BYTES_MIN: Final = 16 * KIB  # a shorter run of records is copied
READ_MAPPED_BYTES_MAX: Final = 16 * MIB  # of segments, kept in memory after large reads
LIST_LIMIT_MAX: Final = 1000
OPERATIONS_PER_SUBMIT_MAX: Final = 10_000

# Upkeep.
CHECKPOINT_EVERY_BYTES_DEFAULT: Final = 64 * MIB
MARK_IDLE_S_DEFAULT: Final = 0.2
EXPIRY_SWEEP_S_DEFAULT: Final = 10.0
TOUCH_FRACTION: Final = 4  # a read renews a TTL only once a quarter of it has gone by

# Search.
INDEX_LAG_BYTES_MAX_DEFAULT: Final = 16 * MIB
SEARCH_LIMIT_MAX: Final = 1000
QUERY_BYTES_MAX: Final = 4 * KIB
QUERY_TERMS_MAX: Final = 64

assert SEGMENT_HEADER_BYTES % BATCH_ALIGNMENT_BYTES == 0
assert SEGMENT_HEADER_BYTES % PAGE_BYTES == 0
assert SEGMENT_BYTES_MIN > 2 * SEGMENT_HEADER_BYTES
assert SEGMENT_BYTES_MIN <= SEGMENT_BYTES_DEFAULT <= SEGMENT_BYTES_MAX < 2**32
assert BATCH_BYTES_MAX <= SEGMENT_BYTES_DEFAULT // 2
assert BATCH_BYTES_MAX <= STAGED_BYTES_MAX_DEFAULT
assert READ_BYTES_DEFAULT <= READ_BYTES_MAX
