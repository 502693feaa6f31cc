"""What may be said of numbers: whether a set is better than random real images, and whether its images have moved.

A difference of two means over networks is noise where its 95% interval contains zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from apmctl_core.artifacts.kinds.reports import ReportRow
from apmctl_core.intervals import Bounds

# Half a grey level of 8 bits in standard deviations of images: less is lost when an image is saved.
UNMOVED = 0.01


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How one mean accuracy compares with another; `low` and `high` bound the difference with 95%.

    `unknown` where there is nothing to compare with, or fewer than two networks on either side.
    """

    name: Literal["above", "below", "noise", "unknown"]
    low: float | None = None
    high: float | None = None
    sentence: str = ""  # empty where the numbers speak for themselves


def verdict(row: ReportRow) -> Verdict:
    """What a row says of its set. Welch's t-test, 95%, two-sided; degrees of freedom after Satterthwaite."""
    if not row.random_accuracies:
        return Verdict(name="unknown")
    return judge(row.difference("random"), "random real images")


def judge(bounds: Bounds | None, other: str) -> Verdict:
    """What the interval of a difference to `other` says; None is that of a single network."""
    if bounds is None:
        text = "one network cannot tell a difference from noise; train more (`evaluate.repeats`)"
        return Verdict(name="unknown", sentence=text)
    low, high = bounds
    span = f"difference {100 * low:+.1f} to {100 * high:+.1f} points, 95% interval"
    if low > 0:
        return Verdict(name="above", low=low, high=high)
    if high < 0:
        return Verdict(name="below", low=low, high=high, sentence=f"worse than {other} ({span})")
    text = f"within noise of {other} ({span}); more networks (`evaluate.repeats`) tell more"
    return Verdict(name="noise", low=low, high=high, sentence=text)


def unmoved(metrics: Mapping[str, Any]) -> str | None:
    """The sentence for a set whose images are still what they began as, by its metrics; None where they moved."""
    distance = metrics.get("distance_from_start")
    if not isinstance(distance, (int, float)) or distance >= UNMOVED:
        return None
    return (
        f"the images did not move: they are {distance:.4f} standard deviations from their start; "
        "try more `distill.rounds` or a higher `distill.image_lr`"
    )
