"""The compiled C helpers; :mod:`tailrace_server.fast.reactor` is their typed face."""

from typing import Any

ffi: Any
lib: Any
