"""The clock of the server's tests: no deadline passes while the machine does not let us run."""

from __future__ import annotations

import math
import time

import pytest
import trio

from tests.server.steady_clock import SteadyClock


def test_a_stall_is_a_step_and_other_time_is_as_long_as_it_is() -> None:
    real_s = 100.0
    clock = SteadyClock(lambda: real_s)
    clock.start_clock()
    began = clock.current_time()
    for _ in range(10):
        real_s += 0.02
        clock.current_time()
    assert clock.current_time() - began == pytest.approx(0.2)
    real_s += 3600
    assert clock.current_time() - began == pytest.approx(0.25)
    assert clock.deadline_to_sleep_time(math.inf) <= 0.02
    assert clock.deadline_to_sleep_time(clock.current_time()) == 0


async def test_tests_of_the_server_run_on_it() -> None:
    with trio.move_on_after(0.3) as scope:
        time.sleep(0.5)  # noqa: ASYNC251 - the stall
        await trio.lowlevel.checkpoint()
    assert not scope.cancelled_caught
    with trio.move_on_after(0.3) as scope:
        await trio.sleep(1)
    assert scope.cancelled_caught
