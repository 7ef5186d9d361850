"""A test that goes on for a time does as much beside others as alone."""

from __future__ import annotations

import pytest

from tests.effort import lengthened, slowdown


@pytest.mark.parametrize(
    ("threads", "workers", "processors", "factor"),
    [
        (1, 1, 1, 1),
        (2, 1, 2, 1),
        (1, 2, 2, 1),
        (1, 3, 2, 1.5),
        (2, 3, 2, 3),
        (2, 2, 1, 2),  # alone, too, it had but one
        (2, 9, 8, 2.25),
        (2, 2, 8, 1),
    ],
)
def test_it_takes_as_much_longer_as_others_take_of_the_processors(
    threads: int, workers: int, processors: int, factor: float
) -> None:
    assert slowdown(threads, workers, processors) == factor


def test_in_one_process_nothing_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    assert lengthened(2.5, threads=1000) == 2.5
