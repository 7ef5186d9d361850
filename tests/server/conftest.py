"""What tests of the server have in common and pytest must find by itself."""

from __future__ import annotations

import inspect

import pytest

from tailrace_server import broadcast
from tests.server import busy_machine, steady_clock

if busy_machine.SEED:
    busy_machine.install()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Timeouts are about clients and servers, not about the machine that runs both here."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
        item.add_marker(pytest.mark.trio(run=steady_clock.run))


@pytest.fixture(params=["here", "in a thread"])
def fanout_calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that are made in the Trio thread, and calls that are not."""
    many = 0 if request.param == "in a thread" else 1_000_000
    monkeypatch.setattr(broadcast, "_CALL_MEMBERS_MAX", many)
    monkeypatch.setattr(broadcast, "_CALL_BYTES_MAX", 10 * many)
