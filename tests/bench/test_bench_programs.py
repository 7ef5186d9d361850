"""The programs run, on tiny settings, and say what they measured."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import append
from bench.__main__ import main
from bench.bars import Bar
from bench.conditions import conditions
from bench.measure import Measurement, Series
from bench.optional import Missing, load
from bench.report import Report
from bench.systems import MEMCPY, RAW, SQLITE, TAILRACE

NEVER_S = "600"


def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The JSON of a run; everything it wrote elsewhere must be gone."""
    place = tmp_path / "disk"
    output = tmp_path / "report.json"
    status = main([*arguments, "--quiet", "--dir", str(place), "--json", str(output)])
    assert status == 0
    assert list(place.iterdir()) == []
    report: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    text = capsys.readouterr().out
    for result in report["results"]:
        assert result["system"] in text
        assert result["rate_min"] <= result["rate"] <= result["rate_max"]
        assert result["rate_min"] > 0
    for key in ("cpu", "cores", "kernel", "file_system", "versions", "commit"):
        assert key in report["conditions"]
    return report


def find(report: dict[str, Any], job: str, system: str) -> dict[str, Any]:
    (result,) = [r for r in report["results"] if (r["job"], r["system"]) == (job, system)]
    found: dict[str, Any] = result
    return found


def test_append(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(tmp_path, capsys, "append", "--rounds", "1", "--seconds", NEVER_S, "--steps", "10")
    one = find(report, append.SINGLE, TAILRACE)
    assert [m["units"] for m in one["rounds"]] == [10]
    assert all(m["syncs"] >= 10 for m in one["rounds"])
    batched = find(report, append.BATCH_1000, TAILRACE)
    assert [m["units"] for m in batched["rounds"]] == [10_000]
    threads = find(report, append.SPREAD_64, append.THREADS)
    assert all(m["units"] == 640 for m in threads["rounds"])
    flight = find(report, append.SPREAD_64, append.IN_FLIGHT)
    assert all(m["units"] >= 10 for m in flight["rounds"])
    titles = {bar["title"] for bar in report["bars"]}
    assert {"1,000 per call / raw", "64 in flight / SQLite", "one blocking writer / raw"} <= titles
    for bar in report["bars"]:
        assert bar["low"] <= bar["high"]
        assert bar["passed"] is (None if bar["bar"] is None else bar["value"] >= bar["bar"])


def test_only_runs_the_cases_that_were_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(tmp_path, capsys, "append", "--rounds", "1", "--steps", "2", "--only", "raw write")
    assert {result["system"] for result in report["results"]} == {RAW}
    assert report["bars"] == []


def test_strict_fails_when_a_bar_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable = Bar("unreachable", (append.SINGLE, SQLITE), (append.SINGLE, RAW), 1e9)
    monkeypatch.setattr(append, "BARS", (unreachable,))
    arguments = ["append", "--quiet", "--rounds", "1", "--steps", "2", "--dir", str(tmp_path)]
    arguments += ["--only", f"{append.SINGLE} | {SQLITE}", "--only", f"{append.SINGLE} | {RAW}"]
    assert main(arguments) == 0
    assert main([*arguments, "--strict"]) == 1


def test_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(tmp_path, capsys, "read", "--events", "500", "--rounds", "1", "--steps", "3")
    size = report["settings"]["session_bytes"]
    assert size > 500 * 100
    ours = [result for result in report["results"] if result["system"] == TAILRACE]
    assert len(ours) == 3
    for result in report["results"]:
        assert [m["units"] for m in result["rounds"]] == [3 * size]
    assert any(result["system"] == MEMCPY for result in report["results"])


def test_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(tmp_path, capsys, "search", "--events", "600", "--sessions", "3", "--steps", "10")
    (ours,) = [result for result in report["results"] if result["system"] == TAILRACE]
    assert ours["rounds"][0]["units"] == 600
    assert set(ours["details"]) >= {
        "all_p50_ms",
        "all_p99_ms",
        "session_p50_ms",
        "session_p99_ms",
        "visible_ms",
    }
    assert len({result["system"] for result in report["results"]}) >= 2


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
@pytest.mark.parametrize("ending", ["png", "svg"])
def test_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    picture = tmp_path / f"append.{ending}"
    run(
        tmp_path,
        capsys,
        *(
            "append",
            "--rounds",
            "1",
            "--steps",
            "2",
            "--only",
            "1 event per call | raw",
            "--only",
            "1 event per call | SQLite",
        ),
        *("--plot", str(picture)),
    )
    start = picture.read_bytes()[:200]
    assert start.startswith(b"\x89PNG") if ending == "png" else b"<?xml" in start


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
def test_a_plot_shows_the_number_that_counts(tmp_path: Path) -> None:
    """Where every system reaches the rate that is asked for, the picture is of the latency."""
    plot = load("plot")
    assert not isinstance(plot, Missing)
    rounds = [Measurement(50, 1.0, 0.1, details={"p99_ms": value}) for value in (7.5, 5.25, 9.0)]
    series = [
        Series("job", "one", tuple(rounds)),
        Series("job", "no latency", (Measurement(50, 1.0, 0.1),)),
    ]
    report = Report(
        command="c",
        title="t",
        unit="events",
        conditions=conditions(tmp_path),
        warnings=[],
        settings={},
        series=series,
        verdicts=[],
        notes=[],
        columns={"p99_ms": "p99 ms"},
        drawn="p99_ms",
    )
    picture = tmp_path / "picture.svg"
    plot.draw(report, picture)
    said = re.findall(r"<!-- (.*) -->", picture.read_text(encoding="utf-8"))
    assert {"one", "7.5", "p99 ms (logarithmic)"} <= set(said)
    assert not {"no latency", "50"} & set(said)


def test_plot_without_matplotlib_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bench.plot", None)
    with pytest.raises(SystemExit):
        main(["append", "--plot", "x.png"])
    assert "pip install matplotlib" in capsys.readouterr().err
