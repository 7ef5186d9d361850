"""The bars a release must reach: one system's rate against another's, in the same run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.measure import Series

Who = tuple[str, str]
"""(job, system)"""


@dataclass(frozen=True, slots=True)
class Bar:
    """``who`` must reach ``factor`` times ``reference``; against None, ``factor`` units a second.

    ``required`` False: shown for information, never a failure.
    """

    title: str
    who: Who
    reference: Who | None
    factor: float
    required: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar with what was measured: the ratio of the medians, and the ratios of the rounds."""

    bar: Bar
    value: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        return self.value >= self.bar.factor


def judge(bars: Iterable[Bar], series: Sequence[Series]) -> list[Verdict]:
    """The verdicts on all bars whose two sides were measured in this run."""
    by_who = {(one.job, one.system): one for one in series}
    verdicts: list[Verdict] = []
    for bar in bars:
        who = by_who.get(bar.who)
        if who is None:
            continue
        if bar.reference is None:
            verdicts.append(Verdict(bar, who.rate, min(who.rates), max(who.rates)))
            continue
        reference = by_who.get(bar.reference)
        if reference is None:
            continue
        ratios = [a / b for a, b in zip(who.rates, reference.rates, strict=True)]
        verdicts.append(Verdict(bar, who.rate / reference.rate, min(ratios), max(ratios)))
    return verdicts
