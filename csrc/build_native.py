"""Builds the C helpers: ``tailrace._native`` of ``csrc/``, ``tailrace_server._reactor`` of
``csrc/front/``, so that the engine carries no HTTP. Each header is also its cffi declaration."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def _declarations(header: Path) -> str:
    """The header without preprocessor lines, which cffi's parser does not read."""
    lines = header.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def make_builder(module: str, folder: Path) -> FFI:
    headers = sorted(folder.glob("*.h"))
    sources = sorted(folder.glob("*.c"))
    included = sorted(folder.glob("*.inc"))
    builder = FFI()
    for header in headers:
        builder.cdef(_declarations(header))
    builder.set_source(
        module,
        "\n".join(f'#include "{header.name}"' for header in headers),
        sources=[str(source.relative_to(ROOT)) for source in sources],
        depends=[str(path.relative_to(ROOT)) for path in (*headers, *included)],
        include_dirs=[str(folder.relative_to(ROOT))],
        extra_compile_args=["-O3", "-std=c11", "-Wall", "-Wextra", "-fvisibility=hidden"],
    )
    return builder


builder = make_builder("tailrace._native", HERE)
front_builder = make_builder("tailrace_server._reactor", HERE / "front")
