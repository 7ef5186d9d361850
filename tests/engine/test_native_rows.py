"""Groups decided by C, which walks objects: what Python decides, and every reference in order."""

from __future__ import annotations

import gc
import sys
from array import array
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from tailrace.batch import Flag
from tailrace.catalog import Catalog
from tailrace.native_rows import Decided, ProducerOf, Producers, decide_rows
from tailrace.operation import StreamKey
from tailrace.producer import ProducerState
from tailrace.stream import StreamConfig, StreamState, after_append, plain_for

JSON = "application/json"
TEXT = "text/plain"
KEYS = [StreamKey("bucket", name) for name in "abcd"]


def a_stream(
    stream_id: int, content_type: str, tail: int, written_ms: int, kind: str
) -> StreamState:
    ttl_ms = 9 if kind == "ttl" else None
    expires_at_ms = 2**40 if kind == "expires" else None
    closed, deleted = kind == "closed", kind == "deleted"
    config = StreamConfig(
        stream_id, KEYS[stream_id % 4], content_type, content_type == JSON, ttl_ms, expires_at_ms,
        False, False, 7, None, None, 0, 0, 0,
    )  # fmt: skip
    plain = plain_for(config, closed=closed, deleted=deleted)
    return StreamState(
        config, tail, 3, closed, written_ms, 8, "seq", Map({"p": ProducerState(1, 2)}), None,
        b"meta", 2, deleted, False, None, plain,
    )  # fmt: skip


def a_catalog(*states: StreamState) -> Catalog:
    catalog = Catalog()
    for state in states:
        catalog.names[state.config.key] = state.config.stream_id
        catalog.streams[state.config.stream_id] = state
    return catalog


def reference(
    catalog: Catalog,
    keys: list[StreamKey],
    types: list[str],
    counts: array[int],
    now_ms: int,
    producer_of: ProducerOf | None,
) -> Decided:
    """The same in Python, from the fields that ``plain`` follows from."""
    states: dict[int, StreamState] = {}
    rows: list[tuple[int, int, int, int]] = []
    left: list[int] = []
    for index, (key, sent, count) in enumerate(zip(keys, types, counts, strict=True)):
        rows.append((0, 0, 0, 0))
        state = catalog.find(key)
        if state is None:
            left.append(index)
            continue
        stream_id = state.config.stream_id
        state = states.get(stream_id, state)
        config = state.config
        known: Producers | None = state.producers
        if producer_of is not None:
            known = producer_of(index, state.producers)
        mortal = config.ttl_ms is not None or config.expires_at_ms is not None
        if state.closed or state.deleted or mortal or sent != config.content_type or known is None:
            left.append(index)
            continue
        flags = Flag.JSON if config.is_json else 0
        if known is not state.producers:
            flags |= Flag.PRODUCER
        time_ms = max(state.last_write_ms, now_ms)
        rows[-1] = stream_id, state.tail, time_ms, flags
        states[stream_id] = after_append(
            state, state.tail + count, time_ms, state.stream_seq, known
        )
    ids, firsts, times = (array("Q", [row[i] for row in rows]) for i in range(3))
    return Decided(ids, firsts, times, bytearray(row[3] for row in rows), states, left)


def of_some(index: int, known: Producers) -> Producers | None:
    """One in three is nobody's, one a producer's, and one not the next of a producer."""
    return (known, known.set("p", ProducerState(1, index)), None)[index % 3]


@given(
    st.lists(
        st.tuples(
            st.sampled_from((JSON, TEXT)),
            st.sampled_from((0, 5, 2**40)),
            st.sampled_from((0, 70, 2**41)),
            st.sampled_from(("plain", "plain", "ttl", "expires", "closed", "deleted")),
        ),
        max_size=3,
    ),
    st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from((JSON, TEXT)), st.integers(1, 9))),
    st.booleans(),
)
def test_it_is_what_python_decides(
    made: list[tuple[str, int, int, str]],
    groups: list[tuple[StreamKey, str, int]],
    with_producers: bool,
) -> None:
    catalog = a_catalog(*(a_stream(i + 300, *values) for i, values in enumerate(made)))
    keys = [StreamKey(*map("".join, group[0])) for group in groups]
    types = ["".join(group[1]) for group in groups]
    counts = array("I", [group[2] for group in groups])
    producer_of = of_some if with_producers else None
    decided = decide_rows(catalog, keys, types, counts, 70, producer_of)
    assert decided == reference(catalog, keys, types, counts, 70, producer_of)
    assert all(type(state) is StreamState for state in decided.states.values())
    assert all(map(gc.is_tracked, decided.states.values()))


def test_nothing_is_kept_of_what_was_decided() -> None:
    before = a_stream(301, TEXT, 2**40, 2**41, "plain")
    catalog = a_catalog(before)
    types, keys = [str(b"text/plain", "ascii")] * 2, [KEYS[1]] * 2

    def counts_of_references() -> list[int]:
        return [sys.getrefcount(one) for one in (*before, before, types[0], keys[0], catalog.names)]

    references = counts_of_references()
    for producer_of in (None, of_some):
        for _ in range(100):
            decided = decide_rows(catalog, keys, types, array("I", (1, 2)), 0, producer_of)
            assert decided.states[301].tail == 2**40 + 3
    del decided
    drift = [now - then for now, then in zip(counts_of_references(), references, strict=True)]
    assert all(-100 < by < 100 for by in drift), "None and its like have other users, too"


class _Bad(str):
    """A name that fails when it is compared."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> NoReturn:
        raise ZeroDivisionError


def test_what_comparing_and_asking_raises_is_raised() -> None:
    catalog = a_catalog(a_stream(301, TEXT, 1, 1, "plain"))
    one = array("I", (1,))

    def failing(_index: int, _known: Producers) -> NoReturn:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        decide_rows(catalog, [StreamKey("bucket", _Bad("b"))], [TEXT], one, 0, None)
    with pytest.raises(ZeroDivisionError):
        decide_rows(catalog, [KEYS[1]], [_Bad(TEXT)], one, 0, None)
    with pytest.raises(ZeroDivisionError):
        decide_rows(catalog, [KEYS[1]], [TEXT], one, 0, failing)
    with pytest.raises(TypeError, match="unhashable"):
        decide_rows(catalog, [[]], [TEXT], one, 0, None)  # type: ignore[list-item]


def test_without_a_catalog_all_are_left() -> None:
    decided = decide_rows(None, KEYS, [TEXT] * 4, array("I", (1,) * 4), 0, None)
    assert (decided.left, decided.states, list(decided.stream_ids)) == ([0, 1, 2, 3], {}, [0] * 4)
