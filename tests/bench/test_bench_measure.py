"""The arithmetic that every number of a report goes through."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.bars import Bar, judge
from bench.events import EVENT_BYTES, STREAMS, session_events, small_batches, small_event
from bench.measure import (
    Budget,
    Case,
    Measurement,
    Series,
    drive,
    measure_steps,
    percentile,
    rotation,
    run_rounds,
)
from bench.shapes import RowSource, Shape


def series(job: str, system: str, *rates: float) -> Series:
    return Series(job, system, tuple(Measurement(int(rate), 1.0, 0.5) for rate in rates))


def test_every_case_takes_every_place_in_the_rounds() -> None:
    orders = [list(rotation(3, number)) for number in range(6)]
    assert all(sorted(order) == [0, 1, 2] for order in orders)
    for place in range(3):
        assert {order[place] for order in orders} == {0, 1, 2}


def test_each_case_is_measured_once_per_round_and_series_keep_the_order_of_cases() -> None:
    calls: list[str] = []

    def measure(case: Case) -> Measurement:
        calls.append(case.system)
        return Measurement(len(calls), 1.0, 0.0)

    def unused(_: Path, __: Budget) -> Measurement:
        raise AssertionError

    cases = [Case("job", name, unused) for name in "abc"]
    result = run_rounds(cases, 4, measure, lambda _: None)
    assert [one.system for one in result] == ["a", "b", "c"]
    assert all(len(one.rounds) == 4 for one in result)
    assert sorted(calls) == sorted("abc" * 4)


def test_a_case_may_have_fewer_rounds_than_the_others() -> None:
    calls: list[str] = []

    def measure(case: Case) -> Measurement | None:
        calls.append(case.system)
        return None if case.system == "c" else Measurement(1, 1.0, 0.0)

    def unused(_: Path, __: Budget) -> Measurement:
        raise AssertionError

    cases = [
        Case("job", name, unused, rounds) for name, rounds in zip("abc", (None, 2, 2), strict=True)
    ]
    result = run_rounds(cases, 5, measure, lambda _: None)
    assert [(one.system, len(one.rounds)) for one in result] == [("a", 5), ("b", 2)]
    assert sorted(calls) == sorted("aaaaabbcc")
    assert [len(one.rounds) for one in run_rounds(cases, 1, measure, lambda _: None)] == [1, 1]


def test_drive_stops_at_the_number_of_steps_and_goes_on_from_where_it_was() -> None:
    seen: list[int] = []
    assert drive(seen.append, Budget(60.0, 3)) == 3
    assert drive(seen.append, Budget(60.0, 2), first=3) == 5
    assert seen == [0, 1, 2, 3, 4]


def test_the_warm_up_is_not_counted() -> None:
    seen: list[int] = []
    measurement = measure_steps(seen.append, 10, Budget(60.0, 20))
    assert measurement.units == 200
    assert measurement.syncs == 20
    assert len(seen) > 20


def test_rate_is_the_median_and_spread_half_the_range() -> None:
    one = series("job", "a", 100, 300, 200)
    assert one.rate == 200
    assert one.spread == pytest.approx(0.5)
    assert one.cpu_us_per_unit == pytest.approx(0.5 / 200 * 1e6)


def test_a_bar_is_the_ratio_of_medians_with_the_range_of_the_rounds() -> None:
    ours = series("job", "ours", 300, 330, 360)
    theirs = series("job", "theirs", 100, 110, 180)
    bar = Bar("three times", ("job", "ours"), ("job", "theirs"), 3.0)
    (verdict,) = judge([bar], [ours, theirs])
    assert verdict.value == pytest.approx(3.0)
    assert [verdict.low, verdict.high] == pytest.approx([2.0, 3.0])
    assert verdict.passed
    assert judge([bar], [ours]) == []


def test_a_bar_without_a_reference_is_a_rate() -> None:
    bar = Bar("absolute", ("job", "a"), None, 250.0)
    (verdict,) = judge([bar], [series("job", "a", 200, 200, 300)])
    assert verdict.value == 200
    assert not verdict.passed


def test_percentile() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert percentile([float(number) for number in range(100)], 0.5) == 50.0


def test_events_have_the_promised_size_and_differ() -> None:
    assert len(small_event(0)) == len(small_event(99_999_999)) == EVENT_BYTES == 113
    batches = small_batches(1000)
    assert all(len(batch) == 1000 for batch in batches)
    events = [event for batch in batches for event in batch]
    assert len(set(events)) == len(events)


def test_session_events_are_the_same_in_every_run() -> None:
    events = session_events(60)
    assert events == session_events(60)
    assert len(set(events)) == 60


@pytest.mark.parametrize(
    "shape", [Shape(1), Shape(64), Shape(64, True), Shape(100), Shape(100, True), Shape(1000, True)]
)
@pytest.mark.parametrize("steps", [1, 3, 64, 130])
def test_row_source_counts_on_and_knows_what_is_newest(shape: Shape, steps: int) -> None:
    source = RowSource(shape, [f"s{number}" for number in range(STREAMS)])
    stored: dict[str, list[bytes]] = {}
    for step in range(steps):
        rows = list(source.rows(step))
        assert len(rows) == shape.rows
        for name, ordinal, body in rows:
            assert ordinal == len(stored.setdefault(name, []))
            stored[name].append(body)
        streams = {name for name, _, _ in rows}
        assert len(streams) == (min(shape.rows, STREAMS) if shape.spread else 1)
    assert source.count() == sum(map(len, stored.values()))
    newest = {f"s{one.stream}": (one.ordinal, one.body) for one in source.newest()}
    assert newest == {name: (len(bodies) - 1, bodies[-1]) for name, bodies in stored.items()}


def detailed(*values: float) -> Series:
    rounds = (Measurement(100, 1.0, 0.5, details={"p99_ms": value}) for value in values)
    return Series("job", "a", tuple(rounds))


def test_a_bar_on_a_detail_may_be_an_upper_bound() -> None:
    bar = Bar("p99", ("job", "a"), None, 25.0, detail="p99_ms", at_most=True)
    (verdict,) = judge([bar], [detailed(10.0, 30.0, 20.0)])
    assert (verdict.value, verdict.low, verdict.high) == (20.0, 10.0, 30.0)
    assert verdict.passed
    (verdict,) = judge([bar], [detailed(26.0)])
    assert not verdict.passed
    assert judge([bar], [series("job", "a", 100)]) == []


@pytest.mark.parametrize(("rate", "passed"), [(100, False), (250, True), (1000, True)])
def test_an_alternative_to_a_bar_is_as_good(rate: float, passed: bool) -> None:
    who, other = ("job", "a"), ("job", "b")
    bar = Bar("rate", who, None, 500.0, alternative=Bar("ratio", who, other, 2.5))
    (verdict,) = judge([bar], [series("job", "a", rate), series("job", "b", 100)])
    assert verdict.passed is passed
    assert verdict.alternative is not None
    assert verdict.alternative.value == rate / 100
    (verdict,) = judge([bar], [series("job", "a", rate)])
    assert verdict.passed is (rate >= 500)


def test_a_case_that_gave_up_in_one_round_has_no_series() -> None:
    calls: list[str] = []

    def measure(case: Case) -> Measurement | None:
        calls.append(case.system)
        return None if case.system == "b" and len(calls) > 3 else Measurement(1, 1.0, 0.0)

    def unused(_: Path, __: Budget) -> Measurement:
        raise AssertionError

    cases = [Case("job", name, unused) for name in "abc"]
    result = run_rounds(cases, 3, measure, lambda _: None)
    assert [one.system for one in result] == ["a", "c"]
