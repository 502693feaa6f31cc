"""Sets beside each other: how far the accuracy of each is from that of the first one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from apmctl_core import intervals
from apmctl_core.evaluation.verdict import Verdict, judge


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference of two mean accuracies, with what its interval says.

    `paired`: the interval is that of the differences of networks with the same seed, else by Welch's t.
    """

    value: float
    paired: bool
    verdict: Verdict
    bounds: intervals.Bounds | None


def difference(own: Sequence[float], first: Sequence[float]) -> Difference:
    """The difference of two sets that were measured by one recipe, whose networks share seeds one by one.

    As many networks make pairs; otherwise they are taken to share nothing.
    """
    paired = len(own) == len(first)
    bounds = intervals.of_pairs(own, first) if paired else intervals.of_difference(own, first)
    return Difference(
        value=fmean(own) - fmean(first), paired=paired, verdict=judge(bounds, "the first set"), bounds=bounds
    )
