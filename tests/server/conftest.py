"""What tests of the server have in common and pytest must find by itself."""

from __future__ import annotations

import pytest

from tailrace_server import broadcast


@pytest.fixture(params=["here", "in a thread"])
def fanout_calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that are made in the Trio thread, and calls that are not."""
    many = 0 if request.param == "in a thread" else 1_000_000
    monkeypatch.setattr(broadcast, "_CALL_MEMBERS_MAX", many)
    monkeypatch.setattr(broadcast, "_CALL_BYTES_MAX", 10 * many)
