"""The compiled C helpers; :mod:`tailrace.native` is their typed face."""

from typing import Any

ffi: Any
lib: Any
