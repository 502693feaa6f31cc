"""What a pipeline asks of an evaluation: thresholds on the first row, under which `eval` exits 1."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from apmctl.errors import FAILED, Failure
from apmctl.signature import Group, Values, option, together
from apmctl_core.errors import ConfigError

if TYPE_CHECKING:
    from apmctl_core.artifacts.kinds.reports import ReportRow

Bounds = tuple[float, float] | None  # the 95% interval


@dataclass(frozen=True)
class Thresholds:
    """The least accuracy, gain over random images and gain over the best coreset, each None or a fraction.

    `strict`: the lower end of the 95% interval over networks has to reach it, not the mean alone.
    """

    min_accuracy: float | None
    min_gain: float | None
    min_gain_coreset: float | None
    strict: bool

    def check(self, changes: dict[str, Any]) -> None:
        """Raise ConfigError, before anything is trained, for what no evaluation with these changes can tell."""
        for name, low in (("min_accuracy", 0), ("min_gain", -1), ("min_gain_coreset", -1)):
            value = getattr(self, name)
            if value is not None and not low <= value <= 1:
                flag = "--" + name.replace("_", "-")
                raise ConfigError(f"{flag} must be a fraction, got {value}", "e.g. 0.4 for 40 per cent")
        if self.min_gain_coreset is not None and not changes.get("baseline"):
            raise ConfigError("--min-gain-coreset needs coresets to compare with", "add e.g. --baseline all")
        if self.strict and self.min_accuracy is self.min_gain is self.min_gain_coreset is None:
            raise ConfigError("--strict needs a threshold to hold an interval against", "add e.g. --min-gain 0")
        if self.strict and changes.get("repeats") == 1 and "interval" not in changes:
            raise ConfigError("--strict needs more than one network", "leave --repeats out, or give 5")

    def missed(self, row: ReportRow) -> Failure | None:
        """The failure to report where a row misses a threshold."""
        for flag, least, what, value, bounds in self._measured(row):
            reached = (bounds[0] if bounds else None) if self.strict else value
            if least is not None and (reached is None or reached < least):
                end = "the lower end of the 95% interval of the " if self.strict else ""
                shown = "unknown" if reached is None else f"{reached:.4f}"
                message = f"{end}{what} ({row.arch}, {row.labels} labels) is {shown}, below {flag} {least:g}"
                return Failure("BelowThreshold", message, "distil with more images per class or more rounds", FAILED)
        return None

    def _measured(self, row: ReportRow) -> list[tuple[str, float | None, str, float | None, Bounds]]:
        """Each threshold with what was measured: flag, threshold, name, value, interval."""
        from apmctl_core.intervals import of_mean

        best = max(row.coresets, key=lambda name: fmean(row.coresets[name]), default="")
        return [
            ("--min-accuracy", self.min_accuracy, "accuracy", row.accuracy_mean, of_mean(row.accuracies)),
            ("--min-gain", self.min_gain, "gain over random images", row.scores.get("gain"),
             row.difference("random")),
            ("--min-gain-coreset", self.min_gain_coreset, "gain over the best coreset", row.scores.get("coreset_gain"),
             row.difference(best)),
        ]  # fmt: skip


def _collect(values: Values) -> Thresholds:
    return Thresholds(**values)


_PANEL = "Evaluation"
THRESHOLDS: Group = together(
    "thresholds",
    (
        option(_PANEL, "--min-accuracy", float | None, "Exit 1 if the first row's accuracy is below it.", metavar="X"),
        option(_PANEL, "--min-gain", float | None, "Exit 1 if its gain over random images is below it.", metavar="X"),
        option(_PANEL, "--min-gain-coreset", float | None, "The same over the best coreset.", metavar="X"),
        option(_PANEL, "--strict", bool, "Hold the lower end of the 95% interval against these.", False),
    ),
    _collect,
)
