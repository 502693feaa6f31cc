"""What may be said of numbers: whether a set is better than random real images, and whether its images have moved.

A difference of two means over networks is noise where its 95% interval by Welch's t-test contains zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any, Literal

from apmctl_core.artifacts.kinds.reports import ReportRow

_QUANTILE = 0.975
# Half a grey level of 8 bits in standard deviations of images: less is lost when an image is saved.
UNMOVED = 0.01


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a row compares with as many random real images; `low` and `high` bound the difference with 95%.

    `unknown` where there are no random images, or fewer than two networks on either side.
    """

    name: Literal["above", "below", "noise", "unknown"]
    low: float | None = None
    high: float | None = None
    sentence: str = ""  # empty where the numbers speak for themselves


def verdict(row: ReportRow) -> Verdict:
    """What a row says of its set. Welch's t-test, 95%, two-sided; degrees of freedom after Satterthwaite."""
    own, random = row.accuracies, row.random_accuracies
    if not random:
        return Verdict(name="unknown")
    bounds = difference(own, random)
    if bounds is None:
        text = "one network cannot tell a difference from noise; train more (`evaluate.repeats`)"
        return Verdict(name="unknown", sentence=text)
    low, high = bounds
    span = f"difference {100 * low:+.1f} to {100 * high:+.1f} points, 95% interval"
    if low > 0:
        return Verdict(name="above", low=low, high=high)
    if high < 0:
        return Verdict(name="below", low=low, high=high, sentence=f"worse than random real images ({span})")
    text = f"within noise of random real images ({span}); more networks (`evaluate.repeats`) tell more"
    return Verdict(name="noise", low=low, high=high, sentence=text)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95% interval of a mean accuracy over networks, by Student's t; None of fewer than two."""
    if len(values) < 2:
        return None
    reach = _student_t(len(values) - 1) * math.sqrt(variance(values) / len(values))
    return max(0.0, fmean(values) - reach), min(1.0, fmean(values) + reach)


def difference(own: Sequence[float], other: Sequence[float]) -> tuple[float, float] | None:
    """The 95% interval of a difference of mean accuracies, by Welch's t; None where either is of fewer than two."""
    if min(len(own), len(other)) < 2:
        return None
    middle, reach = fmean(own) - fmean(other), _reach(own, other)
    return max(-1.0, middle - reach), min(1.0, middle + reach)


def unmoved(metrics: Mapping[str, Any]) -> str | None:
    """The sentence for a set whose images are still what they began as, by its metrics; None where they moved."""
    distance = metrics.get("distance_from_start")
    if not isinstance(distance, (int, float)) or distance >= UNMOVED:
        return None
    return (
        f"the images did not move: they are {distance:.4f} standard deviations from their start; "
        "try more `distill.rounds` or a higher `distill.image_lr`"
    )


def _reach(first: Sequence[float], second: Sequence[float]) -> float:
    """Half the width of the interval of the difference of two means."""
    parts = [(variance(values) / len(values), len(values) - 1) for values in (first, second)]
    squared = math.fsum(part for part, _ in parts)
    if squared == 0:
        return 0.0
    freedom = squared**2 / math.fsum(part**2 / count for part, count in parts)
    return _student_t(math.floor(freedom + 1e-9)) * math.sqrt(squared)


def _student_t(freedom: int) -> float:
    """The 97.5% quantile of Student's t."""
    from scipy.special import stdtrit  # slow to import, and only needed where there is something to judge

    return float(stdtrit(freedom, _QUANTILE))
