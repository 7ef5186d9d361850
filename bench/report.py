"""What a run found, as a table to read and as JSON to keep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.bars import Verdict
from bench.measure import Series


@dataclass(frozen=True, slots=True)
class Report:
    """One run of one command.

    ``unit`` is what rates count ("events", "bytes"); ``scale`` divides rates in the table only
    and ``scaled_unit`` names the result ("GB/s"). ``baseline`` is the system that the column
    of ratios compares with, within a job. ``columns`` are details to show: name -> heading.
    ``drawn`` is the one of them that a picture shows where the rate says little; None: the rate.
    """

    command: str
    title: str
    unit: str
    conditions: dict[str, object]
    warnings: list[str]
    settings: dict[str, object]
    series: list[Series]
    verdicts: list[Verdict]
    notes: list[str]
    scale: float = 1.0
    scaled_unit: str | None = None
    baseline: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    drawn: str | None = None

    @property
    def rate_heading(self) -> str:
        return self.scaled_unit or f"{self.unit}/s"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width; the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _one(unit: str) -> str:
    """The singular of a unit."""
    return unit.removesuffix("ies") + "y" if unit.endswith("ies") else unit.removesuffix("s")


def _series_lines(report: Report) -> list[str]:
    with_baseline = report.baseline is not None
    with_syncs = any(one.units_per_sync is not None for one in report.series)
    head = ["", report.rate_heading, "spread", f"CPU µs/{_one(report.unit)}"]
    if report.scale != 1.0:
        head[3] = "CPU s/GB"
    if with_syncs:
        head.append(f"{report.unit}/sync")
    if with_baseline:
        head.append(f"of {report.baseline}")
    head += report.columns.values()
    rates = {(one.job, one.system): one.rate for one in report.series}
    rows = [head]
    job = None
    for one in report.series:
        if one.job != job:
            job = one.job
            rows.append([job] + [""] * (len(head) - 1))
        cpu = one.cpu_us_per_unit * (1e3 if report.scale != 1.0 else 1)
        row = [f"  {one.system}", _number(one.rate / report.scale), f"±{one.spread:.0%}"]
        row.append(_number(cpu))
        if with_syncs:
            per_sync = one.units_per_sync
            row.append("" if per_sync is None else _number(per_sync))
        if with_baseline:
            base = rates.get((one.job, report.baseline or ""))
            row.append("" if base is None else f"{one.rate / base:.2f}x")
        for name in report.columns:
            value = one.detail(name)
            row.append("" if value is None else _number(value))
        rows.append(row)
    return _align(rows)


def _verdict_row(report: Report, verdict: Verdict, *, title: str, result: str) -> list[str]:
    bar = verdict.bar
    if bar.detail is not None:
        scale, unit = 1.0, f" {report.columns[bar.detail].rpartition(' ')[2]}"
    elif bar.reference is None:
        scale, unit = report.scale, f" {report.rate_heading}"
    else:
        scale, unit = 1.0, "x"
    limit = f"{bar.factor / scale:,g}{unit}"
    return [
        title,
        f"{verdict.value / scale:,.2f}{unit}",
        f"{verdict.low / scale:,.2f}..{verdict.high / scale:,.2f}",
        ("" if not bar.required else f"at most {limit}" if bar.at_most else limit),
        result,
    ]


def _verdict_lines(report: Report) -> list[str]:
    if not report.verdicts:
        return []
    rows = [["bars", "measured", "rounds", "bar", ""]]
    for verdict in report.verdicts:
        bar = verdict.bar
        result = "pass" if verdict.passed else "FAIL"
        result = result if bar.required else "(no bar)"
        rows.append(_verdict_row(report, verdict, title=f"  {bar.title}", result=result))
        if verdict.alternative is not None:
            title = f"    or {verdict.alternative.bar.title}"
            rows.append(_verdict_row(report, verdict.alternative, title=title, result=""))
    return ["", *_align(rows)]


def _disk_line(found: dict[str, object]) -> str:
    mount = f"{found['file_system']} on {found['device']} ({found['mount_options']})"
    return f"{found['directory']}: {mount}, disk cache {found['disk_write_cache']}"


def as_text(report: Report) -> str:
    """The whole report for a terminal."""
    found = report.conditions
    versions = found["versions"]
    assert isinstance(versions, dict)
    lines = [
        report.title,
        "",
        f"{found['cpu']}, {found['cores']} cores, {found['memory']}, {found['kernel']}",
        _disk_line(found),
        f"commit {found['commit']}, " + ", ".join(f"{k} {v}" for k, v in versions.items()),
        ", ".join(f"{name} {value}" for name, value in report.settings.items()),
        *(f"WARNING: {warning}" for warning in report.warnings),
        "",
        *_series_lines(report),
        *_verdict_lines(report),
    ]
    if report.notes:
        lines += ["", *report.notes]
    return "\n".join(lines)


def as_json(report: Report) -> dict[str, object]:
    """The whole report as JSON values; rates are in ``unit`` per second, never scaled."""
    return {
        "command": report.command,
        "title": report.title,
        "unit": report.unit,
        "conditions": report.conditions,
        "warnings": report.warnings,
        "settings": report.settings,
        "results": [
            {
                "job": one.job,
                "system": one.system,
                "rate": one.rate,
                "rate_min": min(one.rates),
                "rate_max": max(one.rates),
                "cpu_us_per_unit": one.cpu_us_per_unit,
                "units_per_sync": one.units_per_sync,
                "details": {name: one.detail(name) for name in one.detail_names()},
                "rounds": [
                    {
                        "units": m.units,
                        "seconds": m.seconds,
                        "cpu_s": m.cpu_s,
                        "syncs": m.syncs,
                        "details": m.details,
                    }
                    for m in one.rounds
                ],
            }
            for one in report.series
        ],
        "bars": [
            {
                "title": verdict.bar.title,
                "who": list(verdict.bar.who),
                "reference": verdict.bar.reference and list(verdict.bar.reference),
                "bar": verdict.bar.factor if verdict.bar.required else None,
                "value": verdict.value,
                "low": verdict.low,
                "high": verdict.high,
                "passed": verdict.passed if verdict.bar.required else None,
            }
            for verdict in report.verdicts
        ],
        "notes": report.notes,
    }


def write_json(report: Report, path: Path) -> None:
    path.write_text(json.dumps(as_json(report), indent=2) + "\n", encoding="utf-8")
