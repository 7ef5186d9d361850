"""The bars a release must reach: one system's rate against another's, in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.measure import Series

Who = tuple[str, str]
"""(job, system)"""


@dataclass(frozen=True, slots=True)
class Bar:
    """``who`` must reach ``factor`` times ``reference``; against None, ``factor`` units a second.

    ``detail``: what is judged is this detail (reference None), not the rate. ``at_most``: it
    must not exceed ``factor``. ``alternative``: reaching this bar is as good.
    ``required`` False: shown for information, never a failure.
    """

    title: str
    who: Who
    reference: Who | None
    factor: float
    required: bool = True
    detail: str | None = None
    at_most: bool = False
    alternative: Bar | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar with what was measured: the ratio of the medians, and the ratios of the rounds."""

    bar: Bar
    value: float
    low: float
    high: float
    alternative: Verdict | None = None

    @property
    def reached(self) -> bool:
        """By this value alone."""
        factor = self.bar.factor
        return self.value <= factor if self.bar.at_most else self.value >= factor

    @property
    def passed(self) -> bool:
        return self.reached or (self.alternative is not None and self.alternative.reached)


def _judge_one(bar: Bar, by_who: Mapping[Who, Series]) -> Verdict | None:
    who = by_who.get(bar.who)
    if who is None:
        return None
    if bar.detail is not None:
        values = [m.details[bar.detail] for m in who.rounds if bar.detail in m.details]
        if not values:
            return None
        return Verdict(bar, statistics.median(values), min(values), max(values))
    if bar.reference is None:
        return Verdict(bar, who.rate, min(who.rates), max(who.rates))
    reference = by_who.get(bar.reference)
    if reference is None:
        return None
    ratios = [a / b for a, b in zip(who.rates, reference.rates, strict=True)]
    return Verdict(bar, who.rate / reference.rate, min(ratios), max(ratios))


def judge(bars: Iterable[Bar], series: Sequence[Series]) -> list[Verdict]:
    """The verdicts on all bars whose two sides were measured in this run."""
    by_who = {(one.job, one.system): one for one in series}
    verdicts: list[Verdict] = []
    for bar in bars:
        verdict = _judge_one(bar, by_who)
        if verdict is None:
            continue
        other = None if bar.alternative is None else _judge_one(bar.alternative, by_who)
        verdicts.append(replace(verdict, alternative=other))
    return verdicts
