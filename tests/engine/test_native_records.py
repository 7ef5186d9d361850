"""Records joined by C out of a list of Python's: the same as joined by Python, or nothing."""

from __future__ import annotations

import gc
import sys
from array import array
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.batch import join_records as ends_and_payload
from tailrace.native_records import join_records


@given(
    front=st.binary(max_size=9),
    middle=st.binary(max_size=9),
    records=st.lists(st.binary(max_size=300), max_size=40),
    separated=st.booleans(),
    as_tuple=st.booleans(),
    spare_bytes=st.sampled_from([0, 1, 4096]),
)
def test_it_is_what_joining_the_parts_gives(
    front: bytes,
    middle: bytes,
    records: list[bytes],
    separated: bool,
    as_tuple: bool,
    spare_bytes: int,
) -> None:
    stored = [record + b"," if separated else record for record in records]
    table = array("I", accumulate(map(len, stored)))
    given_records = tuple(records) if as_tuple else records
    joined = join_records(
        front, middle, given_records, separated=separated, spare_bytes=spare_bytes
    )
    assert joined == front + table.tobytes() + middle + b"".join(stored)
    ends, payload = ends_and_payload(given_records, separated)
    assert (ends, payload) == (table, b"".join(stored))


@pytest.mark.parametrize(
    "records",
    [
        [b"a", "b"],
        [b"a", None],
        [b"a", bytearray(b"b")],
        [b"a", memoryview(b"b")],
        [b"a", type("Bytes", (bytes,), {})(b"b")],
        (b"a", 1),
        {b"a": 1},
        iter([b"a"]),
        b"ab",
        type("List", (list,), {})([b"a"]),
        None,
    ],
)
def test_what_is_not_bytes_itself_in_a_list_or_tuple_itself_is_not_joined(records: object) -> None:
    assert join_records(b"", b"", records, separated=True) is None  # type: ignore[arg-type]


def test_bytes_like_records_are_joined_all_the_same_the_long_way() -> None:
    records = [b"a", bytearray(b"bc"), memoryview(b"d")]
    ends, payload = ends_and_payload(records, True)  # type: ignore[arg-type]
    assert (list(ends), payload) == ([2, 5, 7], b"a,bc,d,")


@pytest.mark.parametrize("separated", [True, False])
def test_more_than_the_bytes_allowed_is_not_joined(separated: bool) -> None:
    records = [b"abc", b"", b"de"]
    size = 5 + (3 if separated else 0)
    exact = join_records(b"front", b"", records, separated=separated, bytes_max=size)
    assert exact is not None and len(exact) == 5 + 4 * 3 + size
    assert join_records(b"front", b"", records, separated=separated, bytes_max=size - 1) is None


def test_no_reference_to_a_record_is_kept_or_lost() -> None:
    record = bytes(bytearray(b"one of its own"))
    records = [record] * 100
    gc.collect()
    before = sys.getrefcount(record)
    for _ in range(50):
        join_records(b"", b"", records, separated=True)
        join_records(b"", b"", [*records, "no"], separated=True)  # type: ignore[list-item]
    assert sys.getrefcount(record) == before


def test_what_was_made_can_grow_by_what_was_spared_without_moving() -> None:
    joined = join_records(b"", b"", [b"x" * 5000], separated=False, spare_bytes=4096)
    assert joined is not None
    allocated = joined.__alloc__()
    joined += bytes(4096)
    assert joined.__alloc__() == allocated
    assert joined[4:5004] == b"x" * 5000 and not any(joined[5004:])
