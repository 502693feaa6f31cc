"""Scores of rows against values computed by hand."""

import math

import pytest

from apmctl_core.artifacts.kinds.reports import ReportRow
from apmctl_core.evaluation.scores import with_scores

SOFT = ReportRow("convnet3", "soft", (0.60, 0.64), (0.50, 0.54), {})
HARD = ReportRow("convnet3", "hard", (0.40, 0.44), (0.30, 0.34), {}, whole=(0.80, 0.84))
PLAIN = {"distilled": (0.50, 0.50), "random": (0.45, 0.47)}


def squeezed(value: float) -> float:
    return (math.exp(value) - math.exp(-1)) / (math.e - math.exp(-1))


def test_by_hand() -> None:
    soft, hard = with_scores((SOFT, HARD))
    # HLR 0.82 - 0.42 = 0.40; IOR 0.62 - 0.52 = 0.10; LRS of 0.5 * 0.10 - 0.5 * 0.40 = -0.15.
    assert hard.scores == pytest.approx({"gain": 0.10, "hlr": 0.40})
    assert soft.scores == pytest.approx({"gain": 0.10, "ior": 0.10, "lrs": 0.2096784}, abs=1e-6)
    assert soft.scores["lrs"] == pytest.approx(squeezed(-0.15))


def test_by_hand_without_augmentation() -> None:
    (row,) = with_scores((ReportRow("vit", "soft", (0.60, 0.64), (0.50, 0.54), {}, unaugmented=PLAIN),))
    # ARS of 0.5 * (0.62 - 0.52) + 0.5 * (0.50 - 0.46) = 0.07.
    assert row.scores["ars"] == pytest.approx(0.2997907, abs=1e-6) == pytest.approx(squeezed(0.07), abs=1e-6)


def test_scores_of_a_set_with_hard_labels_alone_are_on_one_row() -> None:
    (row,) = with_scores((HARD,))
    assert row.scores == pytest.approx({"gain": 0.10, "hlr": 0.40, "ior": 0.10, "lrs": squeezed(-0.15)})


def test_rows_of_another_network_do_not_count() -> None:
    other = ReportRow("vit", "hard", (0.1,), (0.1,), {}, whole=(0.9,))
    assert "lrs" not in with_scores((SOFT, other))[0].scores
    assert with_scores((SOFT, other, HARD))[0].scores["lrs"] == pytest.approx(squeezed(-0.15))


def test_what_was_not_measured_has_no_score() -> None:
    (row,) = with_scores((ReportRow("vit", "soft", (0.5,), (), {}, unaugmented={"distilled": (0.4,)}),))
    assert row.scores == {}
