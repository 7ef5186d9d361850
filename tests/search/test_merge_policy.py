"""Which parts are merged, and that nothing is rewritten too often."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailrace.search.merge import (
    MERGED_DOCUMENTS_MAX,
    PARTS_PER_TIER,
    SMALLEST_TIER_DOCUMENTS,
    PartSize,
    choose_merge,
    tier_of,
)


def whole(*sizes: int) -> list[PartSize]:
    return [PartSize(size, size) for size in sizes]


def test_tiers_grow_by_a_factor() -> None:
    assert tier_of(0) == tier_of(SMALLEST_TIER_DOCUMENTS) == 0
    assert tier_of(SMALLEST_TIER_DOCUMENTS * PARTS_PER_TIER - 1) == 0
    assert tier_of(SMALLEST_TIER_DOCUMENTS * PARTS_PER_TIER) == 1
    assert tier_of(SMALLEST_TIER_DOCUMENTS * PARTS_PER_TIER**2) == 2


def test_enough_neighbours_of_a_size_are_merged() -> None:
    assert choose_merge([]) is None
    assert choose_merge(whole(*[10] * (PARTS_PER_TIER - 1))) is None
    assert choose_merge(whole(*[10] * PARTS_PER_TIER)) == (0, PARTS_PER_TIER)
    assert choose_merge(whole(900_000, *[10] * PARTS_PER_TIER)) == (1, PARTS_PER_TIER + 1)


def test_smaller_parts_between_go_along_and_larger_ones_divide() -> None:
    large = [100_000] * PARTS_PER_TIER
    assert choose_merge(whole(*large[:4], 5, *large[4:])) == (0, PARTS_PER_TIER + 1)
    half = [10] * (PARTS_PER_TIER // 2)
    assert choose_merge(whole(*half, 100_000, *half)) is None


def test_a_part_of_which_much_is_gone_is_rewritten_alone() -> None:
    assert choose_merge([PartSize(100, 100), PartSize(100, 10)]) == (1, 2)
    assert choose_merge([PartSize(100, 0)]) == (0, 1)
    assert choose_merge([PartSize(100, 90)]) is None


def test_parts_do_not_outgrow_the_bound() -> None:
    assert choose_merge(whole(*[MERGED_DOCUMENTS_MAX] * 20)) is None


@given(st.lists(st.integers(1, 300_000), max_size=400))
def test_few_parts_stay_and_each_document_moves_seldom(flushes: list[int]) -> None:
    sizes: list[int] = []
    rewritten = 0
    for size in flushes:
        sizes.append(size)
        while (chosen := choose_merge(whole(*sizes))) is not None:
            first, end = chosen
            merged = sum(sizes[first:end])
            assert merged <= MERGED_DOCUMENTS_MAX
            rewritten += merged
            sizes[first:end] = [merged]
    total = sum(flushes)
    full = total // (MERGED_DOCUMENTS_MAX // 2) + 1
    assert len(sizes) <= full + PARTS_PER_TIER * PARTS_PER_TIER * 4
    assert rewritten <= total * 8
