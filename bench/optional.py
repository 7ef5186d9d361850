"""Modules that need a package that need not be installed: peers, and the plot."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True, slots=True)
class Missing:
    """A module that cannot be imported here, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} was left out: {self.why}"


def load(name: str) -> ModuleType | Missing:
    """The module ``bench.<name>``, or why it cannot be imported."""
    try:
        return importlib.import_module(f"bench.{name}")
    except ImportError as error:
        return Missing(name.rpartition(".")[2], str(error))
