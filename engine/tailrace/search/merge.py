"""Which parts to merge, and when.

Parts stand in the order of the log, and only neighbours are merged, so that each covers one
range of it. Parts of about the same size (a tier) are merged once there are
:data:`PARTS_PER_TIER` of them side by side, with the smaller ones between them: every
document is rewritten once per tier. A part of which much is gone is rewritten alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

PARTS_PER_TIER: Final = 8
SMALLEST_TIER_DOCUMENTS: Final = 4096
MERGED_DOCUMENTS_MAX: Final = 4_000_000
LIVE_SHARE_MIN: Final = 0.6

assert MERGED_DOCUMENTS_MAX < 2**31  # document ids are 32 bits


class PartSize(NamedTuple):
    """Documents a part holds, and those of them that can still be found."""

    documents: int
    live: int


def tier_of(documents: int) -> int:
    """0 for the smallest parts, one more for each factor of :data:`PARTS_PER_TIER`."""
    tier = 0
    bound = SMALLEST_TIER_DOCUMENTS
    while documents >= bound * PARTS_PER_TIER:
        bound *= PARTS_PER_TIER
        tier += 1
    return tier


def _runs(tiers: Sequence[int], tier: int) -> list[tuple[int, int]]:
    """Longest ranges [first, end) of neighbours that are all of ``tier`` or below."""
    found: list[tuple[int, int]] = []
    first = 0
    for end in range(len(tiers) + 1):
        if end == len(tiers) or tiers[end] > tier:
            if end > first:
                found.append((first, end))
            first = end + 1
    return found


def choose_merge(sizes: Sequence[PartSize]) -> tuple[int, int] | None:
    """The range [first, end) of parts to make one of, or None."""
    for i, size in enumerate(sizes):
        if size.live < size.documents * LIVE_SHARE_MIN:
            return i, i + 1
    tiers = [tier_of(size.live) for size in sizes]
    for tier in sorted(set(tiers)):
        for first, end in _runs(tiers, tier):
            documents = 0
            wanted = 0
            for i in range(first, end):
                if documents + sizes[i].live > MERGED_DOCUMENTS_MAX:
                    first, documents, wanted = i, 0, 0
                documents += sizes[i].live
                wanted += tiers[i] == tier
                if wanted == PARTS_PER_TIER:
                    return first, i + 1
    return None
