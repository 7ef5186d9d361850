"""A report as a picture: one horizontal bar per case, grouped by job. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.report import Report
from bench.systems import TAILRACE

_OURS: Final = "#0b6e99"
_THEIRS: Final = "#b8bec4"
_WIDTH_INCHES: Final = 9.0
_ROW_INCHES: Final = 0.3
_MARGIN_INCHES: Final = 1.4


def draw(report: Report, path: Path) -> None:
    """Write ``path``; its ending chooses the format. The whiskers are slowest and fastest round."""
    labels: list[str] = []
    places: list[float] = []
    place = 0.0
    job = None
    headings: list[tuple[float, str]] = []
    for one in report.series:
        if one.job != job:
            job = one.job
            place += 1.0
            headings.append((place, job))
            place += 1.0
        labels.append(one.system)
        places.append(place)
        place += 1.0
    figure = Figure(
        figsize=(_WIDTH_INCHES, _MARGIN_INCHES + _ROW_INCHES * place), layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rates = [one.rate / report.scale for one in report.series]
    below = [one.rate / report.scale - min(one.rates) / report.scale for one in report.series]
    above = [max(one.rates) / report.scale - one.rate / report.scale for one in report.series]
    colors = [_OURS if one.system.startswith(TAILRACE) else _THEIRS for one in report.series]
    axes.barh(places, rates, color=colors, xerr=[below, above], ecolor="#555555", height=0.8)
    axes.set_xscale("log")
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    for at, rate, whisker in zip(places, rates, above, strict=True):
        text = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
        axes.annotate(
            text,
            (rate + whisker, at),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    for at, heading in headings:
        axes.annotate(
            heading,
            (0, at),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontweight="bold",
        )
    axes.margins(x=0.2)
    axes.set_xlabel(f"{report.rate_heading} (logarithmic)")
    found = report.conditions
    axes.set_title(
        f"{report.title}\n{found['cpu']}, {found['cores']} cores, {found['file_system']}, "
        f"commit {found['commit']}",
        fontsize=10,
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)
