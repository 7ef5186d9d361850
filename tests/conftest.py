"""What every test shares: how hypothesis searches."""

from __future__ import annotations

import os

from hypothesis import settings

# No deadline: a busy disk is not a bug. A build machine tries the same examples every time,
# so that a change is judged by what it changed; a person's machine goes on exploring.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
