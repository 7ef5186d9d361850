"""Where a run took place: a number without its machine means nothing."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import sqlite3
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("tailrace", "cffi", "pyroaring", "rocksdict", "tantivy", "bm25s")
_MEMORY_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs"})
_ROOT: Final = Path(__file__).resolve().parent.parent


def _first_line_value(path: str, key: str) -> str | None:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _mount_of(directory: Path) -> tuple[str, str, str]:
    """(device, file system, options) of the mount that holds ``directory``."""
    best = ("unknown", "unknown", "")
    longest = -1
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return best
    wanted = directory.resolve()
    for line in mounts.splitlines():
        device, point, kind, options = line.split()[:4]
        point = point.replace("\\040", " ")
        if wanted.is_relative_to(point) and len(point) >= longest:
            best, longest = (device, kind, options), len(point)
    return best


def _write_cache_of(directory: Path) -> str | None:
    """The kernel's idea of the disk's cache: ``write back`` needs flushes, which a sync sends."""
    number = os.stat(directory).st_dev
    node = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    for candidate in (node, node / ".."):
        try:
            return (candidate / "queue/write_cache").read_text(encoding="ascii").strip()
        except OSError:
            continue
    return None


def _commit() -> str | None:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return f"{commit} with local changes" if git("status", "--porcelain") else commit
    except (OSError, subprocess.CalledProcessError):
        return None


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def conditions(
    directory: Path, more_versions: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Everything about this machine that the numbers depend on, as JSON values."""
    device, file_system, options = _mount_of(directory)
    memory = _first_line_value("/proc/meminfo", "MemTotal")
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _first_line_value("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": memory,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_before": os.getloadavg()[0],
        "directory": str(directory),
        "device": device,
        "file_system": file_system,
        "mount_options": options,
        "disk_write_cache": _write_cache_of(directory),
        "versions": _versions() | dict(more_versions or {}),
    }


def warnings(found: dict[str, object]) -> list[str]:
    """What makes these conditions bad ones, as sentences."""
    said: list[str] = []
    if found["file_system"] in _MEMORY_FILE_SYSTEMS:
        said.append("the directory is in memory: a sync costs nothing there; use --dir")
    load, cores = found["load_before"], found["cores"]
    if isinstance(load, float) and isinstance(cores, int) and load > cores / 2:
        said.append(f"the machine was busy before the run (load {load:.1f} on {cores} cores)")
    return said
