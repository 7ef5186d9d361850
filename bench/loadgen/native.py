"""The C of the load generator: compiled when it has changed, called through cffi.

It is compiled next to its sources and never packaged: nobody needs it who does not measure.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from cffi import FFI

from bench.loadgen.plan import Group, GroupResult, Histogram, LoadError, Plan, Result

_HERE: Final = Path(__file__).resolve().parent
_BUILT: Final = _HERE / "_built"
_FLAGS: Final = ("-O2", "-std=c11", "-Wall", "-Wextra", "-shared", "-fPIC", "-Wl,-Bsymbolic")
_HEADERS: Final = ("histogram.h", "load.h", "target.h")
_CONSTANT: Final = re.compile(r"#define \w+ \d+$")
_NOWHERE: Final = 0xFFFFFFFF
_ERRORS: Final = (
    "not connected",
    "connection lost",
    "unexpected status",
    "malformed answer",
    "event lost, repeated or out of order",
    "no answer",
)


def _declarations(header: str) -> str:
    """The header without preprocessor lines, but for constants."""
    lines = (_HERE / header).read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#") or _CONSTANT.match(line))


def build() -> Path:
    """The compiled library, made if its sources have changed. Raises LoadError with the
    compiler's words.
    """
    sources = sorted(_HERE.glob("*.c"))
    digest = hashlib.sha256()
    for path in (*sources, *sorted(_HERE.glob("*.h"))):
        digest.update(path.read_bytes())
    library = _BUILT / f"load-{digest.hexdigest()[:16]}.so"
    if library.exists():
        return library
    _BUILT.mkdir(exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=_BUILT, suffix=".tmp")
    os.close(descriptor)
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [*compiler, *_FLAGS, "-o", name, *(str(source) for source in sources)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LoadError(f"the load generator needs a C compiler ({compiler[0]})") from None
    if done.returncode != 0:
        raise LoadError(f"the load generator does not compile:\n{done.stderr}")
    Path(name).rename(library)  # perhaps over the same one, made by another process meanwhile
    for old in _BUILT.glob("*.so"):
        if old != library:
            old.unlink(missing_ok=True)
    return library


@cache
def library() -> tuple[FFI, Any]:
    """The declarations, and what they are declared of."""
    ffi = FFI()
    for header in _HEADERS:
        ffi.cdef(_declarations(header))
    return ffi, ffi.dlopen(str(build()))


class _Memory:
    """What C is given pointers to, kept alive as long as this."""

    def __init__(self, ffi: FFI) -> None:
        self._ffi = ffi
        self._kept: list[Any] = []

    def keep(self, what: Any) -> Any:
        self._kept.append(what)
        return what

    def text(self, data: bytes) -> Any:
        return self.keep(self._ffi.from_buffer("uint8_t[]", data))

    def texts(self, many: Sequence[bytes]) -> tuple[Any, Any]:
        """All of them in one piece, and where each ends."""
        ends: list[int] = []
        end = 0
        for one in many:
            end += len(one)
            ends.append(end)
        return self.text(b"".join(many)), self.keep(self._ffi.new("uint32_t[]", ends or [0]))

    def counts(self, length: int) -> Any:
        return self.keep(self._ffi.new("uint64_t[]", length))


def _fill(ffi: FFI, lib: Any, c: Any, group: Group, memory: _Memory) -> None:
    c.kind, c.wire = int(group.kind), int(group.wire)
    c.connections, c.answers = group.connections, group.answers
    c.status_a, c.status_b = group.statuses
    c.targets = len(group.heads)
    c.heads, c.head_ends = memory.texts(group.heads)
    c.starts, c.start_ends = memory.texts(group.starts)
    c.tail, c.tail_length = memory.text(group.tail), len(group.tail)
    c.bodies = len(group.bodies)
    c.body_bytes, c.body_ends = memory.texts(group.bodies)
    c.stamp_at = _NOWHERE if group.stamp_at is None else group.stamp_at
    c.marker, c.marker_length = memory.text(group.marker), len(group.marker)
    c.producer_epoch = -1 if group.producer_epoch is None else group.producer_epoch
    c.stamped, c.once = group.stamped, group.once
    c.source = -1 if group.source is None else group.source
    c.steps = group.steps or 0
    c.rate = group.rate or 0.0
    c.acknowledged = memory.counts(c.targets)
    c.found = memory.counts(c.targets)
    c.ends = memory.keep(ffi.new("char[]", c.targets * lib.LG_TOKEN_BYTES_MAX))
    c.received = memory.counts(group.connections)
    c.histogram = memory.counts(lib.LG_HISTOGRAM_BUCKETS)


def _result(ffi: FFI, lib: Any, c: Any, group: Group) -> GroupResult:
    counts = ffi.unpack(c.histogram, lib.LG_HISTOGRAM_BUCKETS)
    buckets = tuple((lib.lg_bucket_top(i), count) for i, count in enumerate(counts) if count)
    return GroupResult(
        name=group.name,
        acknowledged=ffi.unpack(c.acknowledged, c.targets),
        found=ffi.unpack(c.found, c.targets),
        ends=[
            ffi.string(c.ends + i * lib.LG_TOKEN_BYTES_MAX).decode("ascii")
            for i in range(c.targets)
        ],
        received=ffi.unpack(c.received, c.connections),
        units=c.units,
        body_bytes=c.body_length,
        latency=Histogram(buckets),
        reconnects=c.reconnects,
        errors={what: c.errors[i] for i, what in enumerate(_ERRORS) if c.errors[i]},
        error_text=ffi.string(c.error_text).decode("utf-8", "replace"),
    )


def _ipv4(host: str) -> int:
    return int.from_bytes(socket.inet_aton(socket.gethostbyname(host)), "big")


def run(plan: Plan) -> Result:
    """Carry a plan out, in this thread. Raises LoadError if that is not possible at all;
    what went wrong on single connections is in the result.
    """
    ffi, lib = library()
    memory = _Memory(ffi)
    groups = memory.keep(ffi.new("lg_group[]", len(plan.groups)))
    for index, group in enumerate(plan.groups):
        _fill(ffi, lib, groups[index], group, memory)
    c = ffi.new("lg_plan *")
    c.address, c.port = _ipv4(plan.host), plan.port
    c.server_pid = plan.server_pid or 0
    c.warm_up_s, c.window_s, c.patience_s = plan.warm_up_s, plan.window_s, plan.patience_s
    c.groups_length, c.groups = len(plan.groups), groups
    failed = lib.lg_run(c) != 0
    results = [_result(ffi, lib, groups[i], group) for i, group in enumerate(plan.groups)]
    if failed:
        for result in results:
            result.check()
        raise LoadError(ffi.string(c.failure).decode("utf-8", "replace"))
    return Result(
        groups=results,
        measured_s=c.measured_s,
        cpu_s=c.cpu_s,
        server_cpu_s=c.server_cpu_s,
        drained_s=c.drained_s,
        drained_cpu_s=c.drained_cpu_s,
    )


def serve(listener: socket.socket, get: bytes, other: bytes, path: Path | None) -> None:
    """Be the server that does nothing, until the process ends."""
    ffi, lib = library()
    name = ffi.NULL if path is None else ffi.new("char[]", os.fsencode(path))
    lib.lg_serve(listener.fileno(), get, len(get), other, len(other), name)
    sys.exit("the server that does nothing could not go on")
