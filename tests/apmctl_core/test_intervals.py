"""95% intervals: agreement with scipy, coverage, draws that networks share, pairs."""

import numpy as np
import pytest
from scipy import stats

from apmctl_core import intervals

FIVE = (0.71, 0.68, 0.73, 0.69, 0.72)


def test_that_of_a_mean_is_students() -> None:
    low, high = stats.t.interval(0.95, 4, loc=np.mean(FIVE), scale=stats.sem(FIVE))
    assert intervals.of_mean(FIVE) == (pytest.approx(low), pytest.approx(high))


def test_that_of_pairs_is_students_of_the_differences() -> None:
    other = (0.64, 0.63, 0.65, 0.61, 0.66)
    low, high = stats.ttest_rel(FIVE, other).confidence_interval(0.95)
    assert intervals.of_pairs(FIVE, other) == (pytest.approx(low), pytest.approx(high))
    with pytest.raises(ValueError, match="zip"):
        intervals.of_pairs(FIVE, other[:3])


def test_networks_of_one_draw_of_random_images_are_no_independent_evidence() -> None:
    by_draw = (0.60, 0.70, 0.80)
    values = [value + (0.02 if odd else -0.02) for odd in (0, 1) * 5 for value in by_draw]  # ten networks a draw
    assert intervals.of_mean(values, draws=3) == pytest.approx(intervals.of_mean(by_draw))
    assert intervals.of_difference(FIVE, values, draws=3) == pytest.approx(intervals.of_difference(FIVE, by_draw))
    for draws in (0, 1, 30, 31):  # one draw, or none shared: the networks are all there is
        assert intervals.of_mean(values, draws) == intervals.of_mean(values)


def test_they_cover_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    runs = 2000
    means = [intervals.of_mean(0.5 + 0.01 * rng.standard_normal(5)) for _ in range(runs)]
    differences = [
        intervals.of_difference(0.5 + 0.01 * rng.standard_normal(5), 0.5 + 0.03 * rng.standard_normal(5))
        for _ in range(runs)
    ]
    assert 0.93 < np.mean([low <= 0.5 <= high for low, high in means]) < 0.97
    assert 0.93 < np.mean([low <= 0 <= high for low, high in differences]) < 0.98


def test_they_stay_where_accuracies_can_be() -> None:
    assert intervals.of_mean((0.9, 1.0)) == (pytest.approx(0.3147, abs=1e-4), 1.0)
    assert intervals.of_mean((0.0, 0.1)) == (0.0, pytest.approx(0.6853, abs=1e-4))
    assert intervals.of_difference((0.1, 0.9), (0.2, 0.4)) == (-1.0, 1.0)
    assert intervals.of_pairs((1.0, 0.0), (0.0, 1.0)) == (-1.0, 1.0)


def test_of_one_value_there_is_none() -> None:
    assert intervals.of_mean((0.5,)) is None
    assert intervals.of_difference((0.5,), (0.1, 0.2)) is None
    assert intervals.of_difference((0.1, 0.2), ()) is None
    assert intervals.of_pairs((0.5,), (0.4,)) is None


def test_the_least_variance_has_an_interval() -> None:
    low, high = intervals.of_difference((0.0, 1e-100), (0.5, 0.5)) or (0, 0)
    assert (low, high) == (pytest.approx(-0.5), pytest.approx(-0.5))
    assert intervals.of_difference((0.0, 1e-100), (0.0, 1e-100)) == (pytest.approx(0), pytest.approx(0))
