"""The programs that measure over HTTP, on tiny settings: counts, lost data, never speeds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import fanout, http_append, http_catch_up, http_read, mixed, servers
from bench.__main__ import main
from bench.append_target import HttpTarget, Job, RedisTarget
from bench.http_systems import Systems as HttpSystems
from bench.http_systems import forgives, running
from bench.loadgen import http
from bench.loadgen.plan import LoadError
from bench.loadgen.process import LoadProcess
from bench.measure import Budget, Case, Measurement
from bench.optional import Missing
from bench.peers import electric_server, node_server, redis_server
from bench.run import Options, run_forgiving
from bench.servers import NotStarted, Starter
from bench.shapes import LostData
from bench.systems import CEILING, ELECTRIC, NODE, NODE_MEMORY, REDIS, SENDFILE, TAILRACE
from tailrace_server.fast import kept

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
STEPS = 20
FEW = ("--steps", str(STEPS), "--seconds", "60")
"""Steps alone end a measurement, however long they take here."""
PEERS = {
    NODE: node_server,
    NODE_MEMORY: node_server,
    ELECTRIC: electric_server,
    REDIS: redis_server,
}


def peer(name: str) -> Starter:
    found = PEERS[name].find()
    if isinstance(found, Missing):
        pytest.skip(str(found))
    starter: Starter = found[name]
    return starter


def run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, *arguments: str
) -> dict[str, Any]:
    """The JSON of one round; everything it wrote elsewhere must be gone."""
    place, output = tmp_path / "disk", tmp_path / "report.json"
    words = [command, "--quiet", "--rounds", "1", "--dir", str(place), "--json", str(output)]
    assert main([*words, *arguments]) == 0
    assert list(place.iterdir()) == []
    report: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    text = capsys.readouterr().out
    for result in report["results"]:
        assert result["system"] in text
        assert result["rate_min"] > 0
    return report


def only(*names: tuple[str, str]) -> list[str]:
    return [word for job, system in names for word in ("--only", f"{job} | {system}")]


def find(report: dict[str, Any], job: str, system: str) -> dict[str, Any]:
    (result,) = [r for r in report["results"] if (r["job"], r["system"]) == (job, system)]
    found: dict[str, Any] = result["rounds"][0]
    return found


def test_http_append(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = (
        *(http_append.ONE, http_append.SOME, http_append.MANY, http_append.BATCHED),
        *(http_append.STREAMS_2000, http_append.PRODUCERS, http_append.STEADY),
    )
    wanted = only(*((job.name, TAILRACE) for job in jobs), (http_append.SOME.name, CEILING))
    report = run(tmp_path, capsys, "http-append", *FEW, *wanted)
    for job in jobs:
        one = find(report, job.name, TAILRACE)
        assert one["units"] == max(STEPS, job.connections) * job.events
        assert one["details"].keys() >= {"p50_ms", "p99_ms", "load_us", "server_mib"}
    # A small job may take less than a tick of the clock.
    assert sum(find(report, job.name, TAILRACE)["cpu_s"] for job in jobs) > 0
    titles = {bar["title"] for bar in report["bars"]}
    assert titles == {
        *("2,000 streams / 64", "100 events a request"),
        *("ceiling, 64 / tailrace", "producers / without"),
    }


@pytest.mark.parametrize("name", PEERS)
def test_peers_have_what_they_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    peer(name)
    jobs = (http_append.SOME, http_append.BATCHED, http_append.PRODUCERS)
    wanted = only(*((job.name, name) for job in jobs))
    report = run(tmp_path, capsys, "http-append", *FEW, *wanted)
    assert find(report, http_append.SOME.name, name)["units"] == 64
    if name != NODE_MEMORY:
        assert find(report, http_append.BATCHED.name, name)["units"] == 64 * 100
    if name in (NODE, ELECTRIC):
        assert find(report, http_append.PRODUCERS.name, name)["units"] == 64


def test_http_append_to_a_server_given_by_url(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with servers.tailrace(tmp_path / "given") as server:
        url = f"other=http://{server.base.host}:{server.base.port}{server.base.prefix}"
        wanted = only((http_append.ONE.name, "other"))
        report = run(tmp_path, capsys, "http-append", "--url", url, *FEW, *wanted)
    assert find(report, http_append.ONE.name, "other")["units"] == STEPS


def test_a_url_without_a_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["http-append", "--url", "http://127.0.0.1:1"])
    assert "NAME=http://" in capsys.readouterr().err


def test_http_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = only((http_read.SOME.name, TAILRACE), (http_read.SOME.name, CEILING))
    report = run(tmp_path, capsys, "http-read", *FEW, *wanted)
    assert find(report, http_read.SOME.name, TAILRACE)["units"] == 64


def test_http_read_asks_for_more_streams_than_answers_are_kept() -> None:
    assert http_read.APART.streams > kept.ANSWERS_MAX


def test_http_catch_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = only((http_catch_up.JOB, TAILRACE), (http_catch_up.JOB, SENDFILE))
    arguments = ("--megabytes", "2", "--seconds", "0", *wanted)
    report = run(tmp_path, capsys, "http-catch-up", *arguments)
    size = report["settings"]["stream_bytes"]
    assert size > 2_000_000
    assert find(report, http_catch_up.JOB, SENDFILE)["units"] == size
    ours = find(report, http_catch_up.JOB, TAILRACE)
    assert 0.99 * size < ours["units"] < 1.01 * size
    assert ours["details"]["growth_mib"] >= 0
    titles = {bar["title"] for bar in report["bars"]}
    assert titles == {"one client / sendfile", "server's memory grows by"}


@pytest.mark.parametrize("job", [fanout.SSE_50, fanout.POLL_50])
def test_fanout(tmp_path: Path, capsys: pytest.CaptureFixture[str], job: fanout.Job) -> None:
    report = run(tmp_path, capsys, "fanout", "--steps", "10", *only((job.name, f"{TAILRACE}")))
    assert find(report, job.name, TAILRACE)["units"] == 10 * 50


def test_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(tmp_path, capsys, "replay", "--clients", "12", *only(("replay", TAILRACE)))
    one = find(report, "replay", TAILRACE)
    assert one["units"] == 12
    assert one["details"]["megabytes_s"] > 0


def test_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = only((mixed.STREAMS_JOB, TAILRACE), (mixed.SESSIONS_JOB, TAILRACE))
    report = run(tmp_path, capsys, "mixed", *FEW, *wanted)
    for job in (mixed.STREAMS_JOB, mixed.SESSIONS_JOB):
        one = find(report, job, TAILRACE)
        assert one["units"] == STEPS
        assert one["details"]["read_p99_ms"] > 0
        assert one["details"]["tail_p99_ms"] > 0
    assert one["details"]["search_p99_ms"] > 0


# ---- nothing false is reported ---------------------------------------------------------

JOB = Job("some", connections=4, streams=8)


def test_a_server_that_answers_and_keeps_nothing_is_noticed(tmp_path: Path) -> None:
    with servers.nothing(tmp_path / "server") as server, LoadProcess() as load:
        target = HttpTarget(load, server.base, JOB.streams)
        done = load.run(http.plan(server.base, target.group(JOB, STEPS))).groups[0]
        assert sum(done.acknowledged) == STEPS
        with pytest.raises(LostData, match=f"answered {STEPS} events and gives back 0"):
            target.check(JOB, done)


def test_redis_with_an_entry_missing_is_noticed(tmp_path: Path) -> None:
    starter = peer(REDIS)
    with starter(tmp_path / "server") as server, LoadProcess() as load:
        target = RedisTarget(load, server.base, JOB.streams)
        done = load.run(http.plan(server.base, target.group(JOB, STEPS))).groups[0]
        target.check(JOB, done)
        with pytest.raises(LostData, match="Redis answered"):
            target.check(JOB, done)


def test_a_peer_that_fails_is_left_out_and_named(tmp_path: Path) -> None:
    def fails(_: Path, __: Budget) -> Measurement:
        raise LoadError("it said\n404")

    def works(_: Path, __: Budget) -> Measurement:
        return Measurement(1, 1.0, 0.0)

    options = Options(0.0, 2, 1, (), tmp_path, quiet=True)
    cases = [Case("job", NODE, fails), Case("job", TAILRACE, works)]
    series, failures = run_forgiving(options, cases, tmp_path, forgives)
    assert [one.system for one in series] == [TAILRACE]
    assert failures == [f"'job | {NODE}' was left out: it said 404"]
    with pytest.raises(LoadError):
        run_forgiving(options, [Case("job", TAILRACE, fails)], tmp_path, forgives)


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    systems = HttpSystems({"broken": broken}, [], [])
    with running(systems, tmp_path) as environment, pytest.raises(NotStarted, match="oh no"):
        environment.server("broken")


def broken(directory: Path) -> Any:
    command = [sys.executable, "-c", "import sys; sys.exit('oh no')"]
    return servers.process(command, directory, servers.announced(""))


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("name", [TAILRACE, NODE, ELECTRIC, REDIS])
def test_an_answered_append_is_a_sync_of_the_kernel(tmp_path: Path, name: str) -> None:
    if name != TAILRACE:
        peer(name)
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,msync", "-o", str(trace)]
    command += [sys.executable, "-m", "bench", "http-append", "--quiet", "--rounds", "1"]
    command += ["--steps", str(STEPS), "--dir", str(tmp_path / "disk")]
    command += only((http_append.ONE.name, name))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "engine")])}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    assert "left out: " not in done.stdout.partition(f"| {name}'")[2], done.stdout
    traced = trace.read_text(encoding="utf-8")
    resumed = re.findall(r"(?:fdatasync|fsync)(?:\(\d+\)| resumed>\))\s+= 0", traced)
    assert len(resumed) >= STEPS
