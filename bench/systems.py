"""The names of the systems in tables, JSON and bars."""

from __future__ import annotations

from typing import Final

TAILRACE: Final = "tailrace"
RAW: Final = "raw write + fdatasync"
SQLITE: Final = "SQLite"
SQLITE_HEAP: Final = "SQLite, heap + index"
ROCKSDB: Final = "RocksDB"
FTS5: Final = "SQLite FTS5"
TANTIVY: Final = "tantivy"
BM25S: Final = "bm25s"
MEMCPY: Final = "memcpy"
PLAIN_FILE: Final = "plain file, pread"
NODE: Final = "Node reference, files"
NODE_MEMORY: Final = "Node reference, memory"
ELECTRIC: Final = "Electric, Rust"
REDIS: Final = "Redis Streams, always"
HYPERCORN: Final = "tailrace, --front hypercorn"
CEILING: Final = "load generator's ceiling"
SENDFILE: Final = "sendfile of one file"
