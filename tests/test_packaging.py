"""The built distribution, installed where nothing else is, works with and without its extra."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement

from tests.project import FILES, ROOT
from tests.test_dependencies import PROJECT, declared

_STEP_S: Final = 120.0
_READY_S: Final = 30.0
_LISTENING: Final = re.compile(r"listening on (http://\S+:\d+)")

_EMBED: Final = """
import sys
import tailrace
from tailrace import StreamKey

with tailrace.open(sys.argv[1]) as store:
    store.create_bucket("packaging")
    store.create(("packaging", "s"), content_type="text/plain", records=[b"one"])
    store.append(("packaging", "s"), [b"two"])
with tailrace.open(sys.argv[1]) as store:
    print(bytes(store.read(StreamKey("packaging", "s"), 0).payload).decode())
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """The output of ``command``; its complaints are shown if it fails."""
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment | {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        timeout=_STEP_S,
        check=False,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def pip(*words: str | Path) -> None:
    run(sys.executable, "-m", "pip", "--quiet", *words)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, made from a copy of the tracked files alone."""
    tree = tmp_path_factory.mktemp("tree")
    for name in FILES:
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    folder = tmp_path_factory.mktemp("sdist")
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, folder, cwd=tree)
    (archive,) = folder.iterdir()
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made from the source distribution, C helpers and all."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, sdist)
    (archive,) = folder.iterdir()
    return archive


def closure(requirements: Iterable[Requirement]) -> dict[str, importlib.metadata.Distribution]:
    """The installed distributions that ``requirements`` pull in, by name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(requirements)
    while waiting:
        wanted = waiting.pop()
        distribution = importlib.metadata.distribution(wanted.name)
        found[distribution.name] = distribution
        for text in distribution.requires or ():
            needed = Requirement(text)
            environments = [{"extra": extra} for extra in wanted.extras] or [{"extra": ""}]
            marker = needed.marker
            applies = marker is None or any(map(marker.evaluate, environments))
            if applies and needed.name not in found:
                waiting.append(needed)
    return found


def fresh_environment(folder: Path, wheel: Path, *extras: str) -> Path:
    """A virtual environment with the wheel and what it declares, nothing else; its bin."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    (site,) = folder.glob("lib/python*/site-packages")
    for distribution in closure(declared(*extras)).values():
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            with contextlib.suppress(FileExistsError):  # two distributions, one namespace
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    interpreter = folder / "bin" / "python"
    pip("--python", interpreter, "install", "--no-deps", "--no-compile", wheel)
    return folder / "bin"


def test_source_distribution_holds_what_a_build_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {name for name in FILES if name.startswith(("csrc/", "engine/", "server/"))}
    needed |= {"LICENSE", "README.md", "pyproject.toml", "setup.py", "Makefile"}
    assert needed - names == set()


def test_wheel_holds_two_typed_packages_and_the_helpers(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    folders = {name.split("/")[0] for name in names}
    version = PROJECT["project"]["version"]
    assert folders == {"tailrace", "tailrace_server", f"tailrace-{version}.dist-info"}
    assert {"tailrace/py.typed", "tailrace_server/py.typed", "tailrace/_native.pyi"} <= set(names)
    assert any(name.startswith("tailrace/_native.") and name.endswith(".so") for name in names)


def test_engine_alone_is_enough_to_embed(wheel: Path, tmp_path: Path) -> None:
    interpreter = fresh_environment(tmp_path / "venv", wheel) / "python"
    assert run(interpreter, "-c", _EMBED, tmp_path / "data", cwd=tmp_path) == "onetwo\n"
    absent = "import importlib.util as u; print([u.find_spec(n) for n in ('trio', 'quart')])"
    assert run(interpreter, "-c", absent, cwd=tmp_path) == "[None, None]\n"


def test_without_its_extra_the_command_says_what_to_install(wheel: Path, tmp_path: Path) -> None:
    program = fresh_environment(tmp_path / "venv", wheel) / "tailrace"
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
    for command in ([program], [program.parent / "python", "-m", "tailrace_server"]):
        done = subprocess.run(
            [*command, "serve"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_STEP_S,
            check=False,
        )
        assert done.returncode == 1
        assert "extra 'server'" in done.stderr and "Traceback" not in done.stderr


def ask(url: str, data: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=_READY_S) as response:
        return response.status, response.read()


def address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where the server listens, once it does: on a port that was free for it."""
    deadline = time.monotonic() + _READY_S
    while True:
        said = log.read_text(encoding="utf-8")
        assert process.poll() is None, said
        found = _LISTENING.search(said)
        if found is not None:
            return found[1]
        assert time.monotonic() < deadline, said
        time.sleep(0.05)


def test_server_extra_serves(wheel: Path, tmp_path: Path) -> None:
    program = fresh_environment(tmp_path / "venv", wheel, "server") / "tailrace"
    assert "serve" in run(program, "--help", cwd=tmp_path)
    log = tmp_path / "log"
    words = ["serve", "--data-dir", str(tmp_path / "data"), "--host", "127.0.0.1", "--port", "0"]
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(program), *words],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        events = f"{address(process, log)}/v1/sessions/packaging/events"
        assert ask(events, b'{"type": "user.message"}') == (204, b"")
        status, body = ask(events)
        assert status == 200
        assert b'"user.message"' in body
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=_READY_S) == 0, log.read_text(encoding="utf-8")
    finally:
        process.kill()
        process.wait()
