"""95% intervals: of a mean accuracy over networks, and of the difference of two.

By Student's t, and not by the bootstrap: of five networks a percentile bootstrap covers the mean 83 times in a hundred
(docs/log.md). Networks that saw the same draw of random images are no independent evidence on random images: where
there are more networks than draws, their means by draw are the sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, variance

Bounds = tuple[float, float]

_QUANTILE = 0.975


def of_mean(values: Sequence[float], draws: int = 0) -> Bounds | None:
    """The interval of a mean accuracy; None of fewer than two values. Value i belongs to draw i modulo `draws`."""
    sample = _units(values, draws)
    if len(sample) < 2:
        return None
    reach = _student_t(len(sample) - 1) * math.sqrt(variance(sample) / len(sample))
    return max(0.0, fmean(values) - reach), min(1.0, fmean(values) + reach)


def of_difference(own: Sequence[float], other: Sequence[float], draws: int = 0) -> Bounds | None:
    """The interval of the difference of two mean accuracies whose networks share nothing, by Welch's t.

    `draws` are those of `other`. None where either is of fewer than two.
    """
    units = _units(other, draws)
    if min(len(own), len(units)) < 2:
        return None
    middle, reach = fmean(own) - fmean(other), _welch(own, units)
    return max(-1.0, middle - reach), min(1.0, middle + reach)


def of_pairs(own: Sequence[float], other: Sequence[float]) -> Bounds | None:
    """The interval of the mean difference of networks that share seeds, value by value; None of fewer than two.

    Raises ValueError where they are not as many.
    """
    differences = [a - b for a, b in zip(own, other, strict=True)]
    if len(differences) < 2:
        return None
    reach = _student_t(len(differences) - 1) * math.sqrt(variance(differences) / len(differences))
    return max(-1.0, fmean(differences) - reach), min(1.0, fmean(differences) + reach)


def _units(values: Sequence[float], draws: int) -> Sequence[float]:
    """What is independent among values: their means by draw where several share one, else themselves."""
    if 1 < draws < len(values):
        return [fmean(values[draw::draws]) for draw in range(draws)]
    return values


def _welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Half the width of the interval of the difference of two means; degrees of freedom after Satterthwaite."""
    parts = [(variance(values) / len(values), len(values) - 1) for values in (first, second)]
    squared = math.fsum(part for part, _ in parts)
    if squared == 0:
        return 0.0
    # Of shares, as the square of a small variance is nothing.
    freedom = 1 / math.fsum((part / squared) ** 2 / count for part, count in parts)
    return _student_t(math.floor(freedom + 1e-9)) * math.sqrt(squared)


def _student_t(freedom: int) -> float:
    """The 97.5% quantile of Student's t."""
    from scipy.special import stdtrit  # slow to import, and only needed where there is something to judge

    return float(stdtrit(freedom, _QUANTILE))
