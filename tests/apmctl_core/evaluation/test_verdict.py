"""What is said of a row beside random images, by Welch's interval, and of images that did not move."""

import pytest
from scipy import stats

from apmctl_core.artifacts.kinds.reports import ReportRow
from apmctl_core.evaluation.verdict import UNMOVED, unmoved, verdict


def row(own, random):
    return ReportRow("convnet3", "soft", tuple(own), tuple(random), {})


@pytest.mark.parametrize(
    ("own", "random", "name"),
    [
        ((0.80, 0.82, 0.81, 0.79, 0.80), (0.70, 0.71, 0.69, 0.72, 0.70), "above"),
        ((0.60, 0.61, 0.60, 0.59, 0.60), (0.70, 0.71, 0.69, 0.72, 0.70), "below"),
        ((0.71, 0.68, 0.73, 0.69, 0.72), (0.70, 0.71, 0.69, 0.72, 0.70), "noise"),
        ((0.800, 0.801), (0.70, 0.699), "above"),
        ((0.80, 0.74), (0.70, 0.69), "noise"),
        ((0.5, 0.5), (0.5, 0.5), "noise"),
        ((0.6, 0.6), (0.5, 0.5), "above"),
        ((0.9,), (0.1, 0.2), "unknown"),
        ((0.9, 0.8), (), "unknown"),
    ],
)
def test_a_difference_is_noise_where_its_interval_contains_zero(own, random, name):
    said = verdict(row(own, random))
    assert said.name == name
    if name != "unknown":
        assert {"above": said.low > 0, "below": said.high < 0, "noise": said.low <= 0 <= said.high}[name]
    assert bool(said.sentence) == (name != "above" and bool(random))


def test_the_interval_is_that_of_welch():
    own, random = (0.71, 0.68, 0.73, 0.69, 0.72), (0.64, 0.70, 0.61)
    said = verdict(row(own, random))
    theirs = stats.ttest_ind(own, random, equal_var=False)
    # Degrees of freedom are rounded down, so the interval is a little wider.
    low, high = theirs.confidence_interval(0.95)
    assert said.low <= low < high <= said.high
    freedom = int(theirs.df)
    half = (high - low) / 2 * stats.t.ppf(0.975, freedom) / stats.t.ppf(0.975, theirs.df)
    assert (said.high - said.low) / 2 == pytest.approx(half, rel=1e-6)


def test_the_sentence_gives_the_interval_in_points():
    said = verdict(row((0.60, 0.62), (0.70, 0.72)))
    assert said.sentence.startswith("worse than random real images (difference -16.1 to -3.9 points")
    assert "`evaluate.repeats`" in verdict(row((0.7, 0.6), (0.7, 0.62))).sentence
    assert "`evaluate.repeats`" in verdict(row((0.7,), (0.7,))).sentence


def test_images_that_stay_where_they_began_are_named():
    assert unmoved({"distance_from_start": UNMOVED}) is None
    assert unmoved({"moved": 0.0}) is None  # a set of an older version
    text = unmoved({"distance_from_start": 0.0})
    assert text is not None
    assert text.startswith("the images did not move")
    assert "`distill.rounds`" in text
