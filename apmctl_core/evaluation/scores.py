"""Scores of a row of a report: one number each, made of the accuracies that were measured, in fractions.

To add one, decorate a function of a row with `@score("name")`; None where the row cannot say. What it takes beside the
row are the rows of the same network by their labels, its own among them.

HLR, IOR, LRS and ARS are those of DD-Ranking, with nothing chosen on the test split (FIELD: scores).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import msgspec

from apmctl_core.artifacts.kinds.reports import ReportRow
from apmctl_core.registry import Registry

Score = Callable[[ReportRow, Mapping[str, ReportRow]], float | None]

SCORES: Registry[Score] = Registry("score")

_WEIGHT = 0.5  # of IOR against HLR, and of accuracies with augmentation against those without


def score(name: str) -> Callable[[Score], Score]:
    """Register a score under the name that reports give it."""
    return lambda function: SCORES.add(name, function)


def with_scores(rows: Sequence[ReportRow]) -> tuple[ReportRow, ...]:
    """The rows of a report, each with all the scores that it has."""
    return tuple(msgspec.structs.replace(row, scores=_scores(row, rows)) for row in rows)


def _scores(row: ReportRow, rows: Sequence[ReportRow]) -> dict[str, float]:
    kinds = {other.labels: other for other in rows if other.arch == row.arch}
    return {name: value for name, function in SCORES.items() if (value := function(row, kinds)) is not None}


@score("coreset_gain")
def coreset_gain(row: ReportRow, _: Mapping[str, ReportRow]) -> float | None:
    """Accuracy above that of the best of the coresets under the same labels and protocol."""
    return row.accuracy_mean - max(map(fmean, row.coresets.values())) if row.coresets else None


@score("gain")
def gain(row: ReportRow, _: Mapping[str, ReportRow]) -> float | None:
    """Accuracy above that of as many random real images under the same labels and protocol."""
    return None if row.random_accuracy_mean is None else row.accuracy_mean - row.random_accuracy_mean


@score("hlr")
def hlr(row: ReportRow, _: Mapping[str, ReportRow]) -> float | None:
    """Hard label recovery: how far the set stays behind all real images, both under hard labels."""
    return fmean(row.whole) - row.accuracy_mean if row.whole else None


@score("ior")
def ior(row: ReportRow, kinds: Mapping[str, ReportRow]) -> float | None:
    """Improvement over random: the gain under the set's own labels, which are soft where it has any."""
    return gain(row, kinds) if row.labels == "soft" or "soft" not in kinds else None


@score("lrs")
def lrs(row: ReportRow, kinds: Mapping[str, ReportRow]) -> float | None:
    """Label-robust score, between 0 and 1: of IOR and HLR in equal parts."""
    over, behind = ior(row, kinds), hlr(kinds["hard"], kinds) if "hard" in kinds else None
    return None if over is None or behind is None else _squeezed(_WEIGHT * over - (1 - _WEIGHT) * behind)


@score("ars")
def ars(row: ReportRow, kinds: Mapping[str, ReportRow]) -> float | None:
    """Augmentation-robust score, between 0 and 1: of the gains with and without augmentation in equal parts."""
    with_it, plain = gain(row, kinds), row.unaugmented
    if with_it is None or not {"distilled", "random"} <= plain.keys():
        return None
    without = fmean(plain["distilled"]) - fmean(plain["random"])
    return _squeezed(_WEIGHT * with_it + (1 - _WEIGHT) * without)


def _squeezed(value: float) -> float:
    """A value of [-1, 1] in [0, 1], as DD-Ranking has it: (exp(a) - exp(-1)) / (e - exp(-1))."""
    return (math.exp(value) - math.exp(-1)) / (math.e - math.exp(-1))
