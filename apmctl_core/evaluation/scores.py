"""Scores of a row of a report: one number each, made of the accuracies that were measured.

To add one, decorate a function of a row with `@score("name")`; None where the row cannot say.
"""

from __future__ import annotations

from collections.abc import Callable

from apmctl_core.artifacts.kinds.reports import ReportRow

Score = Callable[[ReportRow], float | None]

_SCORES: dict[str, Score] = {}


def score(name: str) -> Callable[[Score], Score]:
    """Register a score under the name that reports give it."""

    def register(function: Score) -> Score:
        _SCORES[name] = function
        return function

    return register


def scores_of(row: ReportRow) -> dict[str, float]:
    """All scores that a row has."""
    values = {name: function(row) for name, function in _SCORES.items()}
    return {name: value for name, value in values.items() if value is not None}


@score("gain")
def gain(row: ReportRow) -> float | None:
    """Accuracy above that of as many random real images under the same labels and protocol."""
    if row.random_accuracy_mean is None:
        return None
    return row.accuracy_mean - row.random_accuracy_mean
