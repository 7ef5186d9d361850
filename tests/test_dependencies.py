"""What the sources import is declared, and what is declared is pinned."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Collection, Iterable
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import tidy_rules as rules
from tests.project import FILES, read

PROJECT: Final = tomllib.loads(read("pyproject.toml"))
EXTRAS: Final[dict[str, list[str]]] = PROJECT["project"]["optional-dependencies"]
OWN: Final = frozenset({"tailrace", "tailrace_server", "bench", "fuzz", "tests"})

_PIN: Final = re.compile(r"^([a-z0-9.-]+)==([^ \\;]+)(?: ; [^\\]+)? \\$", re.MULTILINE)


def declared(*extras: str) -> list[Requirement]:
    """The requirements of the distribution with ``extras``."""
    texts: list[str] = list(PROJECT["project"]["dependencies"])
    for extra in extras:
        texts += EXTRAS[extra]
    return [Requirement(text) for text in texts if not text.startswith("tailrace[")]


def undeclared_imports(sources: Iterable[str], allowed: Collection[str]) -> set[str]:
    """Distributions that ``sources`` import without naming them in ``allowed``."""
    distributions = importlib.metadata.packages_distributions()
    wanted: set[str] = set()
    for source in sources:
        for item in rules.imports(ast.parse(source)):
            top = item.module.split(".")[0]
            if top not in OWN and top not in sys.stdlib_module_names:
                wanted.add(canonicalize_name(distributions.get(top, [top])[0]))
    return wanted - {canonicalize_name(name) for name in allowed}


def test_undeclared_import_is_found() -> None:
    source = "import json\nimport trio.lowlevel\nfrom tailrace import log\nimport no_such_thing"
    assert undeclared_imports([source], {"trio"}) == {"no-such-thing"}
    assert undeclared_imports(["from quart_trio import QuartTrio"], {"Quart-Trio"}) == set()


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (["engine"], []),
        (["server"], ["server"]),
        (["bench"], ["server", "bench", "test"]),
        (["tests", "fuzz", "csrc"], ["server", "test"]),
    ],
)
def test_imports_are_declared(folders: list[str], extras: list[str]) -> None:
    starts = tuple(f"{folder}/" for folder in folders)
    paths = [path for path in FILES if path.endswith(".py") and path.startswith(starts)]
    assert paths
    names = [requirement.name for requirement in declared(*extras)]
    # Quart-Trio is Quart with Trio beneath: Quart's names are part of what it offers.
    names += ["quart", "werkzeug"] if "quart-trio" in names else []
    sources = map(read, paths)
    assert undeclared_imports(sources, names) == set()


# ---- locks -----------------------------------------------------------------------------


def lock(name: str) -> str:
    return read(f"requirements-{name}.lock")


def pins(text: str) -> dict[str, str]:
    """Version by canonical name; a name pinned twice is an error."""
    found: dict[str, str] = {}
    for name, version in _PIN.findall(text):
        if found.setdefault(name, version) != version:
            raise ValueError(f"{name} is pinned twice")
    return found


def lock_faults(text: str, requirements: Iterable[Requirement]) -> list[str]:
    """Why a lock is not one: a requirement unpinned or out of range, a pin without a hash."""
    pinned = pins(text)
    faults = []
    for requirement in requirements:
        version = pinned.get(canonicalize_name(requirement.name))
        if version is None:
            faults.append(f"{requirement.name} is not pinned")
        elif version not in requirement.specifier:
            faults.append(f"{requirement} is pinned at {version}")
    for line in text.splitlines():
        if not line.startswith("    --hash=sha256:") and not _PIN.match(line + "\n"):
            faults.append(f"neither a pin nor a hash: {line}")
    entries = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    faults += [f"no hash: {e.strip()}" for e in entries if e and "--hash=sha256:" not in e]
    return faults


def test_lock_faults_are_found() -> None:
    good = "trio==0.35.0 \\\n    --hash=sha256:ab\n"
    assert lock_faults(good, [Requirement("trio>=0.27")]) == []
    assert lock_faults(good, [Requirement("trio>=1"), Requirement("click")]) == [
        "trio>=1 is pinned at 0.35.0",
        "click is not pinned",
    ]
    assert lock_faults("trio==0.35.0 \\\n", []) == ["no hash: trio==0.35.0 \\"]
    assert lock_faults(f"--extra-index-url x\n{good}", [])[0].startswith("neither")
    with pytest.raises(ValueError, match="twice"):
        pins("a==1 \\\na==2 \\\n")


@pytest.mark.parametrize(("name", "extras"), [("server", ["server"]), ("dev", list(EXTRAS))])
def test_lock_pins_what_is_declared(name: str, extras: list[str]) -> None:
    requirements = [*declared(*extras), *map(Requirement, PROJECT["build-system"]["requires"])]
    assert lock_faults(lock(name), requirements) == []


def test_locks_agree() -> None:
    server, dev = pins(lock("server")), pins(lock("dev"))
    assert {name: dev.get(name) for name in server} == server
