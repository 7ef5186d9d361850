"""What README shows runs as printed: the first screen, the five minutes, the embedded engine."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.curl import Answer, Background, curl
from tests.e2e.server_process import PATIENCE_S, ServerProcess, environment, serving, wait_until
from tests.project import read

ADDRESS: Final = "http://127.0.0.1:4437"
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(markdown: str, language: str) -> list[str]:
    return [text for name, text in _BLOCK.findall(markdown) if name == language]


def section(markdown: str, title: str) -> str:
    """The text below a heading, up to the next one of the same level."""
    _, found, rest = markdown.partition(f"\n## {title}\n")
    assert found, f"no section {title!r}"
    return rest.partition("\n## ")[0]


def test_blocks_and_sections_are_found() -> None:
    text = "# a\n\n## b\n```sh\nx\ny\n```\n```python\nz\n```\n\n## c\n```sh\nw\n```\n"
    assert blocks(text, "sh") == ["x\ny\n", "w\n"]
    assert blocks(section(text, "b"), "sh") == ["x\ny\n"]


def test_the_embedding_example(tmp_path: Path) -> None:
    (source,) = blocks(section(read("README.md"), "Embed it"), "python")
    program = tmp_path / "example.py"
    program.write_text(source, "utf-8")
    result = subprocess.run(
        [sys.executable, program.name],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    offset, records, hits = result.stdout.splitlines()
    # The comment beside the line says what it prints.
    (comment,) = re.findall(r"print\(tailrace\.encode_offset.*# (\d+)", source)
    assert offset == comment == "00000001"
    assert records == """[b'{"type":"greeting","text":"hello, world"}']"""
    assert hits.startswith("[Hit(")
    assert hits.count("Hit(") == 1
    again = subprocess.run(
        [sys.executable, "-O", program.name],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert again.stdout.splitlines()[0] == "00000002", "a second run goes on"
    # It takes the ten lines that are promised.
    assert len(source.strip().splitlines()) <= 10


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with serving(tmp_path / "data") as running:
        yield running


def commands(markdown: str) -> list[tuple[str, list[str]]]:
    """The curl commands of a document, with the comment lines below each."""
    found: list[tuple[str, list[str]]] = []
    for block in blocks(markdown, "sh"):
        if "curl " not in block:
            continue
        for line in block.splitlines():
            if line.startswith("curl "):
                found.append((line, []))
            elif line.startswith("# "):
                found[-1][1].append(line.removeprefix("# "))
            elif line:
                found[-1] = (f"{found[-1][0]}\n{line}", found[-1][1])
    return found


def check_comments(answer: Answer, comments: list[str]) -> None:
    for comment in comments:
        if comment.startswith("HTTP/"):
            assert answer.status_line.rstrip() == comment
        else:
            name, _, value = comment.partition(": ")
            assert answer.headers[name.lower()] == value


def test_the_first_screen(server: ServerProcess) -> None:
    screen, _, _ = read("README.md").partition("\n## ")
    (append, _), (everything, _), (search, _) = commands(screen)
    assert curl(append.replace(ADDRESS, server.base_url), server).status == 204
    assert len(curl(everything.replace(ADDRESS, server.base_url), server).json()["data"]) == 1
    (hit,) = curl(search.replace(ADDRESS, server.base_url), server).json()["data"]
    assert hit["text"] == "Hello, world"


def test_the_five_minutes(server: ServerProcess, tmp_path: Path) -> None:
    printed = commands(section(read("README.md"), "Five minutes"))
    assert len(printed) >= 6
    append = printed[0][0]
    answers: dict[str, Answer] = {}
    for command, comments in printed:
        assert ADDRESS in command
        here = command.replace(ADDRESS, server.base_url).replace("curl -i ", "curl ")
        if "curl -N" in command:
            tail = Background(here, server, tmp_path / "tail")
            try:
                tail.until("event: control")
                again = append.replace(ADDRESS, server.base_url).replace("curl -i ", "curl ")
                assert curl(again, server).status == 204
                wait_until(
                    lambda tail=tail: "event: data" in tail.text(),  # type: ignore[misc]
                    "the event to arrive",
                )
            finally:
                tail.end()
            continue
        answer = answers[command] = curl(here, server)
        assert answer.status in (200, 204), (command, answer)
        check_comments(answer, comments)
    by_query = {
        command.rpartition("?")[2].strip("'\""): answer.json()["data"]
        for command, answer in answers.items()
        if "?" in command
    }
    assert by_query["offset=00000001"] == []
    assert len(by_query["q=fibonacci"]) == 2
    assert len(by_query["q=fibonacci&type=user.message"]) == 2
    assert [hit["session_id"] for hit in by_query["q=fib.txt"]] == ["my-first-session"] * 2
