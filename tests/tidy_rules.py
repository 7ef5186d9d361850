"""The house rules as functions from source text to violations; test_tidy.py applies them.

Each rule is pure, so that a test can also show it a bad snippet and see it object.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

COLUMNS_MAX: Final = 100
LINES_MAX: Final = 400
# Cases stand beside each other, and C has no shorter way to say it.
LINES_OF_TESTS_AND_C_MAX: Final = 450

# Whoever embeds the engine gets none of these.
FRONT_LIBRARIES: Final = frozenset(
    "anyio asyncio flask h11 h2 httptools hypercorn quart quart_trio starlette tailrace_server "
    "trio uvicorn werkzeug wsproto".split()
)
# Only storage.py may use these: its double in the tests must see every access to a file.
FILE_LIBRARIES: Final = frozenset(
    "fcntl glob io mmap os pathlib posix shutil subprocess tempfile".split()
)
# What a parser or renderer that does no I/O never needs; clocks are passed in.
IO_LIBRARIES: Final = (
    FRONT_LIBRARIES
    | FILE_LIBRARIES
    | frozenset("logging select selectors socket ssl structlog threading time".split())
)

_HEADER_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)+")
_PROTOCOL_HEADER: Final = re.compile(r"(?:stream|producer)-[a-z]+(?:-[a-z]+)*", re.IGNORECASE)
_LEFTOVER: Final = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X])\b")
_REGISTRY: Final = re.compile(
    r"\b(?:pypi\.org|pythonhosted\.org|npmjs\.org|yarnpkg\.com|(?:static\.)?crates\.io"
    r"|proxy\.golang\.org|repo1?\.maven\.org|deb\.debian\.org)\b",
    re.IGNORECASE,
)
_MACHINE_PATH: Final = re.compile(r"(?<![\w.$}/-])/(?:work|root|tmp|home/\w+|Users/\w+)(?![\w.-])")
_C_FUNCTION: Final = re.compile(r"\b(tr_\w+)\s*\(")
_C_COMMENT: Final = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)


class Violation(NamedTuple):
    """A broken rule: where, and what to do about it."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


# ---- imports ---------------------------------------------------------------------------


class Import(NamedTuple):
    """One imported name. ``typing_only`` means under ``if TYPE_CHECKING:``."""

    module: str
    name: str | None
    line: int
    typing_only: bool


def imports(tree: ast.AST) -> Iterator[Import]:
    """Every import of a file, wherever it stands."""
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, node.lineno, id(node) in typing_only)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, id(node) in typing_only)


def imported_modules(tree: ast.AST, modules: Collection[str]) -> Iterator[tuple[str, int, bool]]:
    """(module, line, typing only) for each import of one of ``modules``."""
    for item in imports(tree):
        submodule = f"{item.module}.{item.name}"
        target = submodule if item.name and submodule in modules else item.module
        if target in modules:
            yield target, item.line, item.typing_only


def forbidden_imports(
    path: str, tree: ast.AST, forbidden: Collection[str], why: str
) -> Iterator[Violation]:
    for item in imports(tree):
        top = item.module.split(".")[0]
        if top in forbidden:
            yield Violation(path, item.line, f"imports {top}: {why}")


def import_order(
    path: str, module: str, tree: ast.AST, order: Sequence[str]
) -> Iterator[Violation]:
    """A module imports only from those before it in ``order``."""
    if module not in order:
        yield Violation(path, 1, f"{module} is missing in the table of modules: give it its place")
        return
    place = order.index(module)
    for target, line, typing_only in imported_modules(tree, order):
        if not typing_only and order.index(target) >= place:
            yield Violation(path, line, f"{module} imports {target}, which does not stand above it")


def import_cycle(graph: Mapping[str, Collection[str]]) -> list[str] | None:
    """One cycle of the graph (its first module repeated at the end), or None."""
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str] | None:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return None
        for target in sorted(graph.get(module, ())):
            if found := visit(target, [*trail, module]):
                return found
        done.add(module)
        return None

    for module in sorted(graph):
        if found := visit(module, []):
            return found
    return None


def local_imports(path: str, tree: ast.AST) -> Iterator[Violation]:
    """Imports stand at the top of a file, not in a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for item in imports(node):
                yield Violation(path, item.line, f"imports {item.module} inside a function")


def late_imports(path: str, tree: ast.AST) -> Iterator[Violation]:
    """Imports are statements: calls hide them from readers, type checkers and these rules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {
            "importlib.import_module",
            "import_module",
            "__import__",
        }:
            yield Violation(path, node.lineno, "imports by a call")


def file_access(path: str, tree: ast.AST) -> Iterator[Violation]:
    """Files are reached through storage.py. ``os.PathLike`` is a type, and free to use."""
    os_used_otherwise = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and node.attr not in {"PathLike", "fspath"}
    ]
    for item in imports(tree):
        top = item.module.split(".")[0]
        if top == "os":
            if item.module == "os" and item.name in {"PathLike", "fspath"}:
                continue
            if item == Import("os", None, item.line, item.typing_only) and not os_used_otherwise:
                continue
        if top in FILE_LIBRARIES:
            yield Violation(path, item.line, f"imports {top}: only storage.py reaches files")
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "open"
        ):
            yield Violation(path, node.lineno, "calls open(): only storage.py reaches files")


# ---- statements ------------------------------------------------------------------------


def async_code(path: str, tree: ast.AST) -> Iterator[Violation]:
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    for node in ast.walk(tree):
        if isinstance(node, kinds) or (isinstance(node, ast.comprehension) and node.is_async):
            line = getattr(node, "lineno", 1)
            yield Violation(path, line, "async code: protocol/ is sans-IO")


def swallowed_exceptions(path: str, tree: ast.AST) -> Iterator[Violation]:
    """No bare ``except``; none so broad and silent that a bug disappears in it."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield Violation(path, node.lineno, "bare except")
        elif _is_broad(node.type) and all(_says_nothing(statement) for statement in node.body):
            yield Violation(path, node.lineno, "swallows every exception")


def _is_broad(kind: ast.expr) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(ast.unparse(each) in {"Exception", "BaseException"} for each in kinds)


def _says_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass | ast.Continue) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


# ---- header names ----------------------------------------------------------------------


def _literals(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every str and bytes literal that is not a docstring."""
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in prose:
            if isinstance(node.value, str):
                yield node.value, node.lineno
            elif isinstance(node.value, bytes):
                yield node.value.decode("latin-1"), node.lineno


def header_names(tree: ast.AST) -> set[str]:
    """The names a header table spells out, in lower case (those with a hyphen)."""
    return {text.lower() for text, _ in _literals(tree) if _HEADER_NAME.fullmatch(text)}


def stray_header_names(path: str, tree: ast.AST, table: Collection[str]) -> Iterator[Violation]:
    """A header is spelled once, in the table; elsewhere it is a name of that module."""
    for text, line in _literals(tree):
        word = text.strip(" \t\r\n:").lower()
        if word in table or _PROTOCOL_HEADER.fullmatch(word):
            yield Violation(path, line, f"spells the header {word!r}: take it from headers.py")


# ---- text ------------------------------------------------------------------------------


def long_file(path: str, text: str) -> Iterator[Violation]:
    lines = text.count("\n")
    is_longer_kind = path.startswith("tests/") or not path.endswith((".py", ".pyi"))
    lines_max = LINES_OF_TESTS_AND_C_MAX if is_longer_kind else LINES_MAX
    if lines > lines_max:
        yield Violation(path, lines, f"{lines} lines; at most {lines_max}: split it by idea")


def long_lines(path: str, text: str) -> Iterator[Violation]:
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > COLUMNS_MAX:
            yield Violation(path, number, f"{len(line)} columns; at most {COLUMNS_MAX}")


def leftovers(path: str, text: str) -> Iterator[Violation]:
    """What belongs to one author's day or machine, not to the project."""
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, what in (
            (_LEFTOVER, "a note to do something later: do it, or file an issue"),
            (_REGISTRY, "a package registry's address"),
            (_MACHINE_PATH, "an absolute path of one machine"),
        ):
            if match := pattern.search(line):
                yield Violation(path, number, f"{match[0]!r} is {what}")


# ---- C ---------------------------------------------------------------------------------


def c_pairs(names: Iterable[str]) -> Iterator[Violation]:
    """Each helper is one header and one source file of the same name."""
    stems = {suffix: {n[:-2] for n in names if n.endswith(suffix)} for suffix in (".h", ".c")}
    for stem in sorted(stems[".h"] - stems[".c"]):
        yield Violation(f"csrc/{stem}.h", 1, f"has no {stem}.c")
    for stem in sorted(stems[".c"] - stems[".h"]):
        yield Violation(f"csrc/{stem}.c", 1, f"has no {stem}.h")


def c_functions(header: str) -> set[str]:
    """The functions a header declares."""
    return set(_C_FUNCTION.findall(_C_COMMENT.sub(" ", header)))


def attributes(tree: ast.AST) -> set[str]:
    """Every attribute name a file uses (``lib.tr_crc32c`` gives ``tr_crc32c``).

    So does ``ffi.addressof(lib, "tr_crc32c")``, which is cffi's way to name a function.
    """
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="addressof"), args=[_, ast.Constant(value=str(name))]
            ):
                used.add(name)
    return used


# ---- documents -------------------------------------------------------------------------

_FENCE: Final = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE: Final = re.compile(r"`([^`]+)`")
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def commands(markdown: str, program: str) -> Iterator[list[str]]:
    """The words after ``program`` wherever a document shows it as a command."""
    spans = [line for block in _FENCE.findall(markdown) for line in block.splitlines()]
    spans += _INLINE.findall(_FENCE.sub("", markdown))
    for span in spans:
        for command in re.split(r"&&|;|\|", span.split(" #")[0]):
            words = command.removeprefix("$ ").split()
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words.pop(0)
            if words and words[0].rsplit("/", 1)[-1] == program:
                yield words[1:]


def code_blocks(markdown: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    fence = rf"^```{re.escape(language)}\n(.*?)^```"
    return re.findall(fence, markdown, re.DOTALL | re.MULTILINE)


def local_links(markdown: str) -> list[str]:
    """The paths a document links to, without fragments; addresses elsewhere are left out."""
    targets = _LINK.findall(_FENCE.sub("", markdown))
    paths = [target.split("#")[0] for target in targets if "://" not in target]
    return [path for path in paths if path and not path.startswith("mailto:")]


def make_targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, re.MULTILINE))
