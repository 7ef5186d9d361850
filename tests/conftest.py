"""What every test shares: how hypothesis searches, and what goes first among many processes."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# No deadline, and nothing said of how slowly examples are made: a busy machine is not a bug. A
# build machine tries the same examples every time, so that a change is judged by what it changed;
# a person's machine goes on exploring.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("local", patient)
settings.register_profile("ci", patient, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files, the long ones come first: none ends alone."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("long") is None)
