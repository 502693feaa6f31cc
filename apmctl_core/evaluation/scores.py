"""Scores of a row of a report: one number each, made of the accuracies that were measured.

To add one, decorate a function of a row with `@score("name")`; None where the row cannot say.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from apmctl_core.artifacts.kinds.reports import ReportRow
from apmctl_core.registry import Registry

Score = Callable[[ReportRow], float | None]

SCORES: Registry[Score] = Registry("score")


def score(name: str) -> Callable[[Score], Score]:
    """Register a score under the name that reports give it."""
    return lambda function: SCORES.add(name, function)


def scores_of(row: ReportRow) -> dict[str, float]:
    """All scores that a row has."""
    return {name: value for name, function in SCORES.items() if (value := function(row)) is not None}


@score("coreset_gain")
def coreset_gain(row: ReportRow) -> float | None:
    """Accuracy above that of the best of the coresets under the same labels and protocol."""
    return row.accuracy_mean - max(map(fmean, row.coresets.values())) if row.coresets else None


@score("gain")
def gain(row: ReportRow) -> float | None:
    """Accuracy above that of as many random real images under the same labels and protocol."""
    return None if row.random_accuracy_mean is None else row.accuracy_mean - row.random_accuracy_mean
