"""Builds ``tailrace._native`` from every ``csrc/*.c``; each header is also its cffi declaration."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def _declarations(header: Path) -> str:
    """The header without preprocessor lines, which cffi's parser does not read."""
    lines = header.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def make_builder() -> FFI:
    headers = sorted(HERE.glob("*.h"))
    sources = sorted(HERE.glob("*.c"))
    builder = FFI()
    for header in headers:
        builder.cdef(_declarations(header))
    builder.set_source(
        "tailrace._native",
        "\n".join(f'#include "{header.name}"' for header in headers),
        sources=[str(source.relative_to(ROOT)) for source in sources],
        depends=[str(header.relative_to(ROOT)) for header in headers],
        include_dirs=["csrc"],
        extra_compile_args=["-O3", "-std=c11", "-Wall", "-Wextra", "-fvisibility=hidden"],
    )
    return builder


builder = make_builder()
