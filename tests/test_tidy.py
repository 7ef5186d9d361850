"""The house rules, kept by tests. CONTRIBUTING.md lists them; tidy_rules.py finds violations.

Every rule is first shown a bad snippet, so that none of these tests is one that cannot fail.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import tidy_rules as rules
from tests.module_order import ORDER
from tests.project import FILES, ROOT, read
from tests.tidy_rules import Violation

PACKAGES: Final = {"tailrace": ROOT / "engine", "tailrace_server": ROOT / "server"}
# Who may import by a call, and why.
LATE_IMPORTS: Final = {
    "bench/optional.py": "peers and plots that need not be installed",
    "server/tailrace_server/run.py": "the Hypercorn front is slow to import, and seldom wanted",
}
HEADER_TABLE: Final = "server/tailrace_server/protocol/headers.py"
STORAGE: Final = "engine/tailrace/storage.py"

TreeRule = Callable[[str, ast.AST], Iterable[Violation]]


# ---- the tree --------------------------------------------------------------------------


def parsed(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Every Python file below ``folders``."""
    for path in FILES:
        if path.endswith(".py") and path.startswith(folders):
            yield path, ast.parse(read(path), path)


def module_name(path: str) -> str:
    """``engine/tailrace/search/part.py`` is ``tailrace.search.part``."""
    parts = Path(path).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def check(violations: Iterable[Violation]) -> None:
    if found := sorted(violations):
        pytest.fail("\n".join(map(str, found)), pytrace=False)


def objects(rule: TreeRule, snippet: str) -> bool:
    return bool(list(rule("snippet.py", ast.parse(snippet))))


# ---- imports ---------------------------------------------------------------------------


def order_rule(module: str) -> TreeRule:
    order = ["a", "b", "p.c", "d"]
    return lambda path, tree: rules.import_order(path, module, tree, order)


@pytest.mark.parametrize(
    "snippet",
    ["import d", "from d import x", "from p import c", "def f():\n  import d", "import p.c"],
)
def test_import_order_objects_to_a_module_below(snippet: str) -> None:
    assert objects(order_rule("p.c"), snippet)


def test_import_order_objects_to_a_module_without_a_place() -> None:
    assert objects(order_rule("e"), "")


def test_import_order_accepts_modules_above_and_types() -> None:
    types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import d"
    assert not objects(order_rule("p.c"), "import a\nfrom b import x\nimport json\n" + types)


def test_modules_import_only_from_those_above_them() -> None:
    check(
        violation
        for path, tree in parsed("engine/", "server/")
        for violation in rules.import_order(path, module_name(path), tree, ORDER)
    )


def test_the_table_of_modules_names_only_modules_that_exist() -> None:
    there = {module_name(path) for path, _ in parsed("engine/", "server/")}
    assert [module for module in ORDER if module not in there] == []
    assert len(ORDER) == len(set(ORDER))


def test_cycle_is_found() -> None:
    assert rules.import_cycle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert rules.import_cycle({"a": ["a"]}) == ["a", "a"]
    assert rules.import_cycle({"a": ["b", "c"], "b": ["c"], "c": []}) is None


def test_imports_have_no_cycle() -> None:
    sources = list(parsed("engine/", "server/"))
    modules = {module_name(path) for path, _ in sources}
    graph = {
        module_name(path): {
            target
            for target, _, typing_only in rules.imported_modules(tree, modules)
            if not typing_only
        }
        for path, tree in sources
    }
    assert sum(map(len, graph.values())) > len(graph)  # the graph is real
    assert rules.import_cycle(graph) is None


def engine_imports(path: str, tree: ast.AST) -> Iterator[Violation]:
    return rules.forbidden_imports(
        path, tree, rules.FRONT_LIBRARIES, "the engine is embedded without HTTP or Trio"
    )


def test_engine_rule_objects() -> None:
    assert objects(engine_imports, "import trio.lowlevel")
    assert objects(engine_imports, "from tailrace_server import routes")
    assert not objects(engine_imports, "import msgspec\nfrom tailrace import log")


def test_engine_imports_no_front() -> None:
    check(v for path, tree in parsed("engine/") for v in engine_imports(path, tree))


def loaded_by(statement: str) -> set[str]:
    """The top-level modules a fresh interpreter has loaded after ``statement``."""
    script = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    search_path = os.pathsep.join(str(folder) for folder in PACKAGES.values())
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": search_path},
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in json.loads(result.stdout)}


def test_loaded_by_sees_imports() -> None:
    assert "trio" in loaded_by("import trio")
    assert "trio" not in loaded_by("")


def test_importing_the_whole_engine_loads_no_front() -> None:
    modules = [module_name(path) for path, _ in parsed("engine/")]
    loaded = loaded_by("\n".join(f"import {module}" for module in modules))
    assert loaded & rules.FRONT_LIBRARIES == set()


def test_importing_the_protocol_loads_no_front() -> None:
    modules = [module_name(path) for path, _ in parsed("server/tailrace_server/protocol/")]
    loaded = loaded_by("\n".join(f"import {module}" for module in modules))
    assert loaded & (rules.FRONT_LIBRARIES - {"tailrace_server"}) == set()


def protocol_imports(path: str, tree: ast.AST) -> Iterator[Violation]:
    forbidden = rules.IO_LIBRARIES - {"tailrace_server"}
    return rules.forbidden_imports(path, tree, forbidden, "protocol/ is sans-IO")


def test_sans_io_rules_object() -> None:
    assert objects(protocol_imports, "import socket")
    assert objects(protocol_imports, "from time import monotonic")
    assert not objects(protocol_imports, "import re\nfrom tailrace_server.protocol import sse")
    assert objects(rules.async_code, "async def f(): pass")
    assert objects(rules.async_code, "x = [y async for y in z]")
    assert not objects(rules.async_code, "def f(): yield 1")


def test_protocol_is_sans_io() -> None:
    sources = list(parsed("server/tailrace_server/protocol/"))
    assert sources
    check(v for path, tree in sources for v in protocol_imports(path, tree))
    check(v for path, tree in sources for v in rules.async_code(path, tree))


def test_local_imports_rule_objects() -> None:
    assert objects(rules.local_imports, "def f():\n  import json")
    assert objects(rules.local_imports, "class A:\n  async def f(self):\n    from a import b")
    assert not objects(rules.local_imports, "if True:\n  import json")
    assert objects(rules.late_imports, "json = importlib.import_module('json')")
    assert objects(rules.late_imports, "__import__('json')")
    assert not objects(rules.late_imports, "import importlib.metadata\nf(x)")


def test_imports_stand_at_the_top() -> None:
    check(v for path, tree in parsed("") for v in rules.local_imports(path, tree))


def test_imports_are_statements() -> None:
    found = [v for path, tree in parsed("") for v in rules.late_imports(path, tree)]
    check(violation for violation in found if violation.path not in LATE_IMPORTS)
    assert {violation.path for violation in found} == set(LATE_IMPORTS)


@pytest.mark.parametrize(
    "snippet",
    [
        "import os\nos.stat('x')",
        "from os import stat",
        "import os.path",
        "import mmap",
        "from fcntl import flock",
        "from pathlib import Path",
        "open('x')",
    ],
)
def test_file_rule_objects(snippet: str) -> None:
    assert objects(rules.file_access, snippet)


def test_file_rule_accepts_types_and_methods() -> None:
    assert not objects(rules.file_access, "import os\ndef f(p: os.PathLike[str]): storage.open(p)")
    assert not objects(rules.file_access, "from os import PathLike")


def test_only_storage_reaches_files() -> None:
    sources = dict(parsed("engine/"))
    assert objects(rules.file_access, ast.unparse(sources.pop(STORAGE)))
    check(v for path, tree in sources.items() for v in rules.file_access(path, tree))


# ---- statements ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "handler",
    ["except: raise", "except Exception: pass", "except (OSError, BaseException): ...",
     "except Exception: 'a reason'"],
)  # fmt: skip
def test_swallowing_rule_objects(handler: str) -> None:
    assert objects(rules.swallowed_exceptions, f"try: f()\n{handler}")


def test_swallowing_rule_accepts_narrow_or_handled() -> None:
    assert not objects(rules.swallowed_exceptions, "try: f()\nexcept OSError: pass")
    assert not objects(rules.swallowed_exceptions, "try: f()\nexcept Exception as e: log(e)")


def test_no_exception_is_swallowed() -> None:
    check(v for path, tree in parsed("") for v in rules.swallowed_exceptions(path, tree))


# ---- header names ----------------------------------------------------------------------


def stray_headers(path: str, tree: ast.AST) -> Iterator[Violation]:
    return rules.stray_header_names(path, tree, {"x-api-key", "cache-control"})


@pytest.mark.parametrize(
    "snippet",
    [
        "'Stream-Next-Offset'",
        "x = b'producer-id: '",
        "f(f'X-Api-Key: {k}')",
        "{'CACHE-CONTROL': 1}",
    ],
)
def test_header_rule_objects(snippet: str) -> None:
    assert objects(stray_headers, f"x = {snippet}" if "=" not in snippet else snippet)


def test_header_rule_accepts_prose() -> None:
    assert not objects(stray_headers, "'stream-seq'\nx = 'the stream-seq is older'\nX_API_KEY = 1")


def test_header_names_are_spelled_in_one_table() -> None:
    table = rules.header_names(ast.parse(read(HEADER_TABLE)))
    assert {"stream-next-offset", "producer-id", "producer-epoch", "producer-seq"} <= table
    check(
        violation
        for path, tree in parsed("server/")
        if path != HEADER_TABLE
        for violation in rules.stray_header_names(path, tree, table)
    )


# ---- text ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["# TO" + "DO: later", "/* FIX" + "ME */", "XX" + "X", "see https://pypi" + ".org/simple",
     "cd /wo" + "rk/main", "'/ro" + "ot/.pyenv/shims'", "/ho" + "me/sam/data", "x=/t" + "mp/data"],
)  # fmt: skip
def test_leftover_rule_objects(text: str) -> None:
    assert list(rules.leftovers("notes.md", text))


def test_leftover_rule_accepts_ordinary_text() -> None:
    text = "GET /v1/root the todos of template/work, docs.example.org/home /srv/tailrace"
    assert not list(rules.leftovers("notes.md", text))


def test_nothing_is_left_over() -> None:
    texts = [path for path in FILES if is_text(path)]
    check(v for path in texts for v in rules.leftovers(path, read(path)))


def is_text(path: str) -> bool:
    data = (ROOT / path).read_bytes()
    return b"\0" not in data and "/golden/" not in path


def test_size_rules_object() -> None:
    for path, lines_max in (("engine/a.py", 400), ("tests/a.py", 450), ("csrc/a.inc", 450)):
        assert list(rules.long_file(path, "x\n" * (lines_max + 1)))
        assert not list(rules.long_file(path, "x\n" * lines_max))
    assert list(rules.long_lines("a.c", "x" * 101))
    assert not list(rules.long_lines("a.c", "x" * 100))


def test_files_and_lines_are_short() -> None:
    code = (".py", ".pyi", ".c", ".h", ".inc")
    sources = [path for path in FILES if path.endswith(code)]
    assert sources
    check(v for path in sources for v in rules.long_file(path, read(path)))
    check(v for path in sources for v in rules.long_lines(path, read(path)))


# ---- C ---------------------------------------------------------------------------------


def test_c_rules_object() -> None:
    assert len(list(rules.c_pairs(["a.h", "a.c", "b.h", "c.c"]))) == 2
    header = "/* tr_old() is gone */\nint tr_a(void);\nvoid\ntr_b (const int *x); // tr_c()\n"
    assert rules.c_functions(header) == {"tr_a", "tr_b"}
    assert rules.attributes(ast.parse("lib.tr_a(x)\ntr_b")) == {"tr_a"}


def test_every_c_helper_is_a_pair_and_is_used() -> None:
    names = [path.removeprefix("csrc/") for path in FILES if path.startswith("csrc/")]
    check(rules.c_pairs(names))
    declared = {
        function
        for name in names
        if name.endswith(".h")
        for function in rules.c_functions(read(f"csrc/{name}"))
    }
    assert declared
    folders = ("engine/", "server/", "tests/")
    used = set().union(*(rules.attributes(tree) for _, tree in parsed(*folders)))
    # One helper may be made of others.
    for name in names:
        if name.endswith(".c"):
            own = rules.c_functions(read(f"csrc/{name.removesuffix('c')}h"))
            used |= {other for other in declared - own if f"{other}(" in read(f"csrc/{name}")}
    assert declared - used == set()
