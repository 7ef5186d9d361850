"""The real command and what it finds in its data directory."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.server import cli_support
from tests.server.cli_support import append, events, fails, serving

SNAPSHOT = "/ds/demo/s/snapshot/00000001"


def test_zeros_are_kept_ahead_of_the_log_only_if_they_may_be(tmp_path: Path) -> None:
    data = tmp_path / "data"
    flag = "--log-reserve-bytes"
    with serving(data) as server:
        assert append(server.url, "s").status_code == 204
        assert server.stop() == 0
    (segment,) = (data / "log").glob("*.segment")
    spare = data / "log" / f"{0:016x}.spare"
    for arguments, variables, kept in (
        ((), {}, True),
        ((flag, "0"), {}, False),
        ((), {"TAILRACE_LOG_RESERVE_BYTES": "0"}, False),
        ((flag, str(segment.stat().st_size - 1)), {}, False),  # not room for one
        ((flag, str(segment.stat().st_size)), {"TAILRACE_LOG_RESERVE_BYTES": "0"}, True),
    ):
        with spare.open("wb") as file:
            file.truncate(segment.stat().st_size)
        with serving(data, *arguments, variables=variables) as server:
            assert server.stop() == 0
        assert spare.exists() == kept, (arguments, variables)


def test_what_the_engine_logs_comes_in_the_same_form(tmp_path: Path) -> None:
    """Here: that a backup was restored without the files of its snapshots."""
    data = tmp_path / "data"
    with serving(data) as server:
        for path, body in (("/ds/demo", b""), ("/ds/demo/s", b"x"), (SNAPSHOT, b"folded")):
            headers = {"Content-Type": "text/plain"}
            answer = httpx.put(server.url + path, content=body, headers=headers)
            assert answer.status_code in (201, 204)
        assert server.stop() == 0
        before = len(server.log.read_text().splitlines())
    (snapshot,) = (data / "snapshots").iterdir()
    snapshot.unlink()
    checked = cli_support.run("check", "--data-dir", str(data))
    assert checked.returncode == 2
    assert f"snapshots/{snapshot.name} at position 0" in checked.stdout
    assert "stream demo/s: the file is missing" in checked.stdout
    with serving(data, "--log-format", "json", "--log-level", "error") as server:
        assert httpx.get(server.url + "/ds/demo/s").content == b"x"
        assert httpx.get(server.url + SNAPSHOT).status_code == 500
        assert server.stop() == 0
        first, *_ = map(json.loads, server.log.read_text().splitlines()[before:])
    assert first["level"] == "error"
    assert first["event"].startswith("1 snapshots have no file in snapshots: those of demo/s.")


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A store with a byte of an acknowledged record changed."""
    data = tmp_path / "data"
    with serving(data) as server:
        for number in range(20):
            assert append(server.url, f"s{number % 4}").status_code == 204
        server.process.kill()
        server.process.wait()
    hit = False
    for file in sorted(data.rglob("*")):
        if file.is_file():
            content = bytearray(file.read_bytes())
            if content.count(b"user.message") >= 20:  # the log; the first record is of s0
                content[content.find(b"user.message")] ^= 1
                file.write_bytes(content)
                hit = True
                break
    assert hit
    return data


def test_damage_is_told_and_repaired(damaged: Path) -> None:
    data = ["--data-dir", str(damaged)]
    said = fails(*data)
    assert "tailrace check --data-dir" in said
    assert "tailrace repair --data-dir" in said
    checked = cli_support.run("check", *data)
    assert checked.returncode == 2
    assert "DAMAGED" in checked.stdout
    repaired = cli_support.run("repair", *data)
    assert repaired.returncode == 0, repaired.stderr
    assert "given up" in repaired.stdout
    with serving(damaged) as server:
        assert len(events(server.url, "s1")) == 5
        assert append(server.url, "s0").status_code == 204
        assert server.stop() == 0


@pytest.mark.parametrize("what", ["MANIFEST", "log/0000000000000000.segment"])
def test_what_serve_advises_for_a_damaged_file_helps(tmp_path: Path, what: str) -> None:
    data = tmp_path / "data"
    with serving(data) as server:
        assert append(server.url, "s").status_code == 204
        assert server.stop() == 0
    with (data / what).open("r+b") as file:
        file.write(b"garbage!")
    said = fails("--data-dir", str(data))
    assert what in said and "tailrace repair --data-dir" in said
    checked = cli_support.run("check", "--data-dir", str(data))
    assert checked.returncode in (1, 2)
    assert "tailrace repair" in checked.stderr and "tailrace check" not in checked.stderr
    repaired = cli_support.run("repair", "--data-dir", str(data))
    assert repaired.returncode == 0, repaired.stderr
    assert "made again" in repaired.stdout and what in repaired.stdout
    with serving(data) as server:
        assert len(events(server.url, "s")) == 1
        assert server.stop() == 0


def test_what_cannot_be_mended_is_said_to_need_a_backup(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as server:
        assert append(server.url, "s").status_code == 204
        assert server.stop() == 0
    (data / "MANIFEST").unlink()
    for segment in (data / "log").glob("*.segment"):
        segment.write_bytes(b"")
    for done in (
        fails("--data-dir", str(data)),
        cli_support.run("repair", "--data-dir", str(data)).stderr,
    ):
        assert "MANIFEST" in done and "Traceback" not in done
    assert "restore the directory from a backup" in done and "tailrace repair" not in done


def test_a_directory_that_may_not_be_read_is_not_said_to_be_damaged(tmp_path: Path) -> None:
    """Exit status 2 of a check means damage, and only that."""
    (tmp_path / "data").touch()
    for verb in ("check", "repair", "rotate-webhook-key"):
        done = cli_support.run(verb, "--data-dir", str(tmp_path / "data"))
        assert done.returncode == 1, verb


def test_a_new_webhook_key_makes_no_store(tmp_path: Path) -> None:
    done = cli_support.run("rotate-webhook-key", "--data-dir", str(tmp_path))
    assert done.returncode == 1 and "holds no store" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_check_of_a_sound_store(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as server:
        append(server.url, "s")
        assert server.stop() == 0
    checked = cli_support.run("check", "--data-dir", str(data))
    assert checked.returncode == 0, checked.stderr
    assert "ok" in checked.stdout
    assert "nothing to repair" in cli_support.run("repair", "--data-dir", str(data)).stdout


@pytest.mark.parametrize("verb", ["check", "repair"])
def test_check_and_repair_of_nothing(tmp_path: Path, verb: str) -> None:
    for directory in (tmp_path / "missing", tmp_path):
        done = cli_support.run(verb, "--data-dir", str(directory))
        assert done.returncode == 1
        assert str(directory) in done.stderr
        assert "Traceback" not in done.stderr
    assert {file.name for file in tmp_path.iterdir()} <= {"LOCK"}
