"""Thresholds of an evaluation: what is held against what, and what is refused before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest

from apmctl.thresholds import Thresholds
from apmctl_core.artifacts.kinds.reports import ReportRow
from apmctl_core.errors import ConfigError

# Means 0.60 and 0.50, standard errors 0.0082; the best coreset has 0.55.
ROW = ReportRow(
    "convnet3",
    "soft",
    (0.58, 0.6, 0.62, 0.6),
    (0.48, 0.5, 0.52, 0.5),
    {},
    {"gain": 0.1, "coreset_gain": 0.05},
    {"herding": (0.54, 0.56), "el2n": (0.2, 0.2)},
)


def missed(row: ReportRow = ROW, *, strict: bool = False, **least: float) -> str:
    given: dict[str, Any] = {"min_accuracy": None, "min_gain": None, "min_gain_coreset": None, **least}
    failure = Thresholds(strict=strict, **given).missed(row)
    return failure.message if failure else ""


@pytest.mark.parametrize(
    ("name", "reached", "above", "strictly"),
    [
        # The lower ends are 0.6 - 3.18 x 0.0082, 0.1 - 2.45 x 0.0115 and 0.05 - 4.30 x 0.0129.
        ("min_accuracy", 0.6, 0.61, 0.574),
        ("min_gain", 0.099, 0.11, 0.0717),
        ("min_gain_coreset", 0.049, 0.06, -0.0055),
    ],
)
def test_the_mean_is_held_against_a_threshold_and_strictly_the_lower_end(
    name: str, reached: float, above: float, strictly: float
) -> None:
    flag = "--" + name.replace("_", "-")
    assert missed(**{name: reached}) == ""
    assert f"below {flag} {above:g}" in missed(**{name: above})
    assert missed(strict=True, **{name: strictly - 0.002}) == ""
    message = missed(strict=True, **{name: strictly + 0.002})
    assert message.startswith("the lower end of the 95% interval of the ")
    assert f"(convnet3, soft labels) is {strictly:.3f}"[:-1] in message


def test_the_first_threshold_that_is_missed_is_told() -> None:
    assert "--min-gain 0.2" in missed(min_accuracy=0.5, min_gain=0.2, min_gain_coreset=0.2)


def test_what_is_not_known_reaches_nothing() -> None:
    alone = ReportRow("convnet3", "soft", (0.9,), (), {})
    assert "is unknown, below --min-gain -1" in missed(alone, min_gain=-1)
    assert "is unknown, below --min-accuracy 0.1" in missed(alone, strict=True, min_accuracy=0.1)
    assert missed(alone, min_accuracy=0.1) == ""


@pytest.mark.parametrize(
    ("least", "changes", "says"),
    [
        ({"min_accuracy": 40}, {}, "--min-accuracy must be a fraction, got 40"),
        ({"min_accuracy": -0.1}, {}, "--min-accuracy must be a fraction"),
        ({"min_gain": 1.5}, {}, "--min-gain must be a fraction"),
        ({"min_gain_coreset": 0.1}, {}, "--min-gain-coreset needs coresets"),
        ({"min_accuracy": 0.1, "strict": True}, {"repeats": 1}, "--strict needs more than one network"),
        ({"strict": True}, {}, "--strict needs a threshold"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_evaluation(
    least: dict[str, Any], changes: dict[str, Any], says: str
) -> None:
    given = {"min_accuracy": None, "min_gain": None, "min_gain_coreset": None, "strict": False} | least
    with pytest.raises(ConfigError, match=says):
        Thresholds(**given).check(changes)


def test_what_makes_sense_is_not() -> None:
    Thresholds(min_accuracy=0.4, min_gain=-0.1, min_gain_coreset=0.0, strict=True).check({"baseline": ["herding"]})
    more = {"repeats": 1, "interval": 0.05}  # begins with one network and goes on
    Thresholds(min_accuracy=0.4, min_gain=None, min_gain_coreset=None, strict=True).check(more)
