"""Entity tags and Cache-Control (protocol sections 10.1 and 12.7)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import xxhash

NO_STORE: Final = "no-store"
PRIVATE_HISTORY: Final = "private, max-age=60, stale-while-revalidate=300"
"""Confidential data that can no longer change: a page with more data behind it."""
PRIVATE_TAIL: Final = "private, no-cache"
"""Confidential data that may change or be deleted: may be kept, must be checked each time, so
a reader sees its own writes and never a stream that has been replaced."""
LIVE: Final = "no-cache, no-transform"
"""An answer that goes on: neither kept nor held back to be compressed."""

_ENTITY_TAG: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_OWN_TAG: Final = re.compile(r'"([0-9a-f]{1,16}):[0-9]{1,19}:([0-9]{1,19})(?::c)?"', re.ASCII)


def etag(stream_id: int, start: int, end: int, *, closed: bool, variant: str = "") -> str:
    """The entity tag of ordinals ``start`` to ``end`` of one stream incarnation.

    Records never change, so the range names the bytes; ``closed`` is part of it because a
    304 must not hide the closure, ``variant`` because other parameters select among or
    present the same records differently.
    """
    tag = f"{stream_id:x}:{start}:{end}"
    if variant:
        tag += f":{variant}"
    return f'"{tag}:c"' if closed else f'"{tag}"'


def tail_tag(stream_id: int, tail: int, *, closed: bool) -> str:
    """The entity tag of a whole stream: also that of a read of all of it."""
    return etag(stream_id, 0, tail, closed=closed)


def variant(*parts: str) -> str:
    """A short digest of what else shapes the body, empty if nothing does."""
    if not any(parts):
        return ""
    joined = "\0".join(parts).encode("utf-8", "surrogatepass")
    return xxhash.xxh3_64_hexdigest(joined)


def none_match(header: str | None, tag: str) -> bool:
    """Whether If-None-Match holds ``tag``: the answer is then 304 (RFC 9110 section 13.1.2)."""
    if header is None:
        return False
    if header.strip() == "*":
        return True
    return any(found == tag for _, found in _ENTITY_TAG.findall(header))


class Tail(NamedTuple):
    """Where a tag of :func:`etag` ends: ``end`` was the tail if it came from HEAD or an append."""

    stream_id: int
    end: int


NO_TAIL: Final = Tail(0, 0)
"""Of no stream: their ids begin at 1."""


def tail(if_match: str) -> Tail:
    """The tail that an If-Match header asks for; NO_TAIL if it holds no tag of this server.

    Of several it is the newest: a stream's tails only grow and a new incarnation has a higher
    id, so an older one cannot match any more. Compared strongly (RFC 9110 section 13.1.1), so
    weak tags name nothing; nor does what this server did not make.
    """
    newest = NO_TAIL
    for weak, tag in _ENTITY_TAG.findall(if_match):
        match = _OWN_TAG.fullmatch(tag)
        if match is not None and not weak:
            newest = max(newest, Tail(int(match[1], 16), int(match[2])))
    return newest
