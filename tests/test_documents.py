"""What the documents show is so: commands exist, links lead somewhere, examples run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click

from tailrace_server.cli import main
from tests import tidy_rules as rules
from tests.module_order import ORDER
from tests.project import FILES, ROOT, read


def test_commands_are_found_in_documents() -> None:
    text = "Run `make run`.\n```sh\n$ PORT=1 make test && .venv/bin/tailrace serve # x\n```\n"
    assert list(rules.commands(text, "make")) == [["test"], ["run"]]
    assert list(rules.commands(text, "tailrace")) == [["serve"]]
    wrapped = "keep `this`, then `tailrace check\n  --data-dir D` and more"
    assert list(rules.commands(wrapped, "tailrace")) == [["check", "--data-dir", "D"]]
    assert rules.make_targets("a-b: c\nX := 1\n.PHONY: d\nrun:\n") == {"a-b", "run"}


def documents() -> list[str]:
    return [path for path in FILES if path.endswith(".md")]


def test_documents_name_make_targets_that_exist() -> None:
    targets = rules.make_targets(read("Makefile"))
    mentioned = {
        word
        for path in documents()
        for words in rules.commands(read(path), "make")
        for word in words
        if "=" not in word and not word.startswith("-")
    }
    assert {"run", "test"} <= mentioned
    assert mentioned - targets == set()


def unknown_commands(markdown: str) -> list[str]:
    """Commands and options of `tailrace` in a document that the program does not have."""
    assert isinstance(main, click.Group)
    unknown = []
    for words in rules.commands(markdown, "tailrace"):
        names = [word for word in words if not word.startswith("-")][:1]
        command: click.Command = main
        if names:
            found = main.commands.get(names[0])
            if found is None:
                unknown.append(names[0])
                continue
            command = found
        known = {option for parameter in command.params for option in parameter.opts}
        options = {word.split("=")[0] for word in words if word.startswith("--")}
        unknown += sorted(options - known - {"--help"})
    return unknown


def test_unknown_commands_are_found() -> None:
    assert unknown_commands("`tailrace levitate`") == ["levitate"]
    assert unknown_commands("`tailrace serve --no-such-option 1`") == ["--no-such-option"]
    assert unknown_commands("`tailrace serve --help`") == []


def test_documents_name_commands_that_exist() -> None:
    assert list(rules.commands(read("README.md"), "tailrace"))
    assert {path: found for path in documents() if (found := unknown_commands(read(path)))} == {}


def dead_links(path: str, markdown: str) -> list[str]:
    """Links of the document at ``path`` that lead to no file of the project."""
    folder = (ROOT / path).parent
    return [link for link in rules.local_links(markdown) if not (folder / link).exists()]


def test_dead_links_are_found() -> None:
    markdown = "[a](LICENSE) [b](no/such.md#c) [d](https://example.org/x)\n```\n[e](f)\n```\n"
    assert dead_links("README.md", markdown) == ["no/such.md"]


def test_links_lead_somewhere() -> None:
    assert {path: dead for path in documents() if (dead := dead_links(path, read(path)))} == {}


def mapped(markdown: str, heading: str) -> tuple[set[str], set[str]]:
    """What the table of modules headed ``heading`` lists, and all it has in backticks."""
    _, _, rest = markdown.partition(f"| {heading} |")
    table = rest.partition("\n\n")[0].splitlines()
    rows = [line.split("|") for line in table if line.startswith("| `")]
    listed = {name for row in rows for name in re.findall(r"`([^`]+)`", row[1])}
    return listed, {name for line in table for name in re.findall(r"`([^`]+)`", line)}


def test_tables_of_modules_are_read() -> None:
    markdown = "| module | x |\n|---|---|\n| **Title** | |\n| `a` `b/` | like `c`, `d()` |\n\n`e`\n"
    assert mapped(markdown, "module") == ({"a", "b/"}, {"a", "b/", "c", "d()"})


def test_the_map_of_the_architecture_has_every_module() -> None:
    text = read("ARCHITECTURE.md")
    _, engine, server = text.split("\n## ")[:3]
    for part, heading, package in (
        (engine, "module", "tailrace"),
        (engine, "module of `search/`", "tailrace.search"),
        (server, "module", "tailrace_server"),
        (server, "module of `fast/`", "tailrace_server.fast"),
    ):
        names = [
            name.removeprefix(f"{package}.") for name in ORDER if name.startswith(f"{package}.")
        ]
        inside = {name.split(".")[0] + "/" for name in names if "." in name}
        there = {name for name in names if "." not in name and f"{name}/" not in inside} | inside
        listed, named = mapped(part, heading)
        assert there - named - {"__main__"} == set(), package
        assert listed - there == set(), package


def test_python_examples_of_the_readme_run(tmp_path: Path) -> None:
    examples = rules.code_blocks(read("README.md"), "python")
    assert examples
    for number, example in enumerate(examples):
        folder = tmp_path / str(number)
        folder.mkdir()
        result = subprocess.run(
            [sys.executable, "-c", example],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'engine'}{os.pathsep}{ROOT / 'server'}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, f"{example}\n{result.stderr}"
        # What a comment after print() promises to print, is printed.
        lines = [line for line in example.splitlines() if line.lstrip().startswith("print(")]
        printed = result.stdout.splitlines()
        assert len(printed) == len(lines)
        for line, shown in zip(lines, printed, strict=True):
            promised = line.partition("  # ")[2].split(",")[0]
            assert promised in shown
