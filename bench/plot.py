"""A report as a picture: one horizontal bar per case, grouped by job. Needs matplotlib."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.measure import Series
from bench.report import Report
from bench.systems import TAILRACE

_OURS: Final = "#0b6e99"
_THEIRS: Final = "#b8bec4"
_WIDTH_INCHES: Final = 9.0
_ROW_INCHES: Final = 0.3
_MARGIN_INCHES: Final = 1.4


def _values(report: Report, one: Series) -> list[float]:
    """What the picture shows of each round; none if the rounds do not have it."""
    if report.drawn is None:
        return [rate / report.scale for rate in one.rates]
    return [m.details[report.drawn] for m in one.rounds if report.drawn in m.details]


def draw(report: Report, path: Path) -> None:
    """Write ``path``; its ending chooses the format. The whiskers are slowest and fastest round."""
    labels: list[str] = []
    places: list[float] = []
    place = 0.0
    job = None
    headings: list[tuple[float, str]] = []
    shown: list[list[float]] = []
    for one in report.series:
        values = _values(report, one)
        if not values:
            continue
        shown.append(values)
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
    medians = [statistics.median(values) for values in shown]
    below = [median - min(values) for median, values in zip(medians, shown, strict=True)]
    above = [max(values) - median for median, values in zip(medians, shown, strict=True)]
    colors = [_OURS if label.startswith(TAILRACE) else _THEIRS for label in labels]
    axes.barh(places, medians, color=colors, xerr=[below, above], ecolor="#555555", height=0.8)
    axes.set_xscale("log")
    axes.set_yticks(places, labels)
    axes.set_ylim(place, 0.0)  # downwards, and with room for the first heading
    for at, median, whisker in zip(places, medians, above, strict=True):
        text = f"{median:,.0f}" if median >= 100 else f"{median:.3g}"
        axes.annotate(
            text,
            (median + whisker, at),
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
    heading = report.rate_heading if report.drawn is None else report.columns[report.drawn]
    axes.set_xlabel(f"{heading} (logarithmic)")
    found = report.conditions
    axes.set_title(
        f"{report.title}\n{found['cpu']}, {found['cores']} cores, {found['file_system']}, "
        f"commit {found['commit']}",
        fontsize=10,
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)
