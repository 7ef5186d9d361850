"""C programs that drive the helpers of csrc/ by themselves, under the compiler's sanitizers."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.project import ROOT

COMPILER: Final = os.environ.get("CC", "cc")
WARNINGS: Final = ("-std=c11", "-Wall", "-Wextra", "-Werror")
MEMORY: Final = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
THREADS: Final = ("-fsanitize=thread",)
SECONDS: Final = float(os.environ.get("TAILRACE_STRESS_S", "3"))
"""How long a stress lasts."""
PATIENCE_S: Final = 120.0 + 20.0 * SECONDS

_TRIVIAL: Final = "int main(void) { return 0; }\n"


@functools.cache
def available(sanitizer: Sequence[str]) -> bool:
    """Whether programs can be built with this sanitizer, and run, here."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "trivial.c"
        source.write_text(_TRIVIAL, encoding="ascii")
        program = Path(folder) / "trivial"
        built = subprocess.run(
            [COMPILER, *sanitizer, "-o", program, source], capture_output=True, check=False
        )
        return built.returncode == 0 and subprocess.run([program], check=False).returncode == 0


def build(program: Path, sources: Sequence[str], sanitizer: Sequence[str]) -> Path:
    """Compile ``sources`` into ``program``; skips the test where that cannot be."""
    if not available(tuple(sanitizer)):
        pytest.skip(f"{COMPILER} has no {' '.join(sanitizer)} here")
    flags = (*WARNINGS, "-O1", "-g", "-fno-omit-frame-pointer", *sanitizer, f"-I{ROOT / 'csrc'}")
    paths = [str(ROOT / source) for source in sources]
    built = subprocess.run(
        [COMPILER, *flags, "-o", str(program), *paths, "-lpthread"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return program


def run(program: Path, *arguments: str, given: bytes = b"") -> str:
    """What the program prints; its failure, and every report of a sanitizer, is the test's."""
    result = subprocess.run(
        [program, *arguments],
        input=given,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
        env=os.environ | {"TSAN_OPTIONS": "halt_on_error=1", "UBSAN_OPTIONS": "print_stacktrace=1"},
    )
    said = result.stderr.decode("utf-8", "replace")
    assert result.returncode == 0, f"{result.returncode}\n{said}"
    assert "Sanitizer" not in said, said
    return result.stdout.decode("ascii")
