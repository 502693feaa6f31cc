"""The accuracies that are known of the artifacts in a store, and which one stands for a set.

It is the one that `apmctl eval SET` without flags gives: soft labels, the set's own network and its own protocol; of
several the newest. Accuracies that were measured otherwise come after it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apmctl.text import count
from apmctl_core.errors import ApmError

if TYPE_CHECKING:
    from apmctl.output import Sink
    from apmctl_core.artifacts.artifact import Artifact
    from apmctl_core.artifacts.kinds.reports import ReportRow
    from apmctl_core.artifacts.manifest import Manifest
    from apmctl_core.artifacts.store import Store


@dataclass(frozen=True)
class Measure:
    """A row of a report, and the report."""

    report: Artifact
    row: ReportRow

    @property
    def gain(self) -> float | None:
        """How much better than as many random real images."""
        random = self.row.random_accuracy_mean
        return None if random is None else self.row.accuracy_mean - random


class Measures:
    """What the reports of a store say, each of which is read once."""

    def __init__(self, artifacts: Iterable[Artifact]) -> None:
        self._of: dict[str, list[Measure]] = {}
        for report in artifacts:
            if report.kind in ("report", "reference"):
                with contextlib.suppress(ApmError):  # it may have been removed since it was listed
                    measures = [Measure(report, row) for row in report_rows(report)]
                    self._of[report.id] = measures
                    self._of.setdefault(report.manifest.inputs.get("set", ""), []).extend(measures)

    def of(self, artifact: Artifact) -> list[Measure]:
        """All that is known of a set, or that a report says, the one to show first."""
        manifest = artifact.manifest
        own, usual = network(manifest), _protocol(manifest)

        def rank(measure: Measure) -> tuple[bool, bool, bool, float]:
            row, report = measure.row, measure.report.manifest
            return row.labels == "soft", row.arch == own, _protocol(report) == usual, report.created or 0.0

        return sorted(self._of.get(artifact.id, []), key=rank, reverse=True)


def labels(kind: str, arch: str, own: Any) -> str:
    """What networks were trained on, and which where it was not the one of the recipe."""
    return kind if arch == own else f"{kind}, {arch}"


def protocol(values: Mapping[str, Any]) -> str:
    """A protocol in a few words: its name, the number of networks, their epochs."""
    counts = [count(values[unit], unit) for unit in ("networks", "epochs") if isinstance(values.get(unit), int)]
    return ", ".join([*([str(values["name"])] if "name" in values else []), *counts]) or "-"


def sound(store: Store, kind: str | None, out: Sink) -> list[Artifact]:
    """The artifacts of a store, or those of a kind; damaged ones are left out with a warning."""
    artifacts, damaged = store.scan(kind)
    for entry in damaged:
        out.note(f"skipped {entry.ref}: {entry.error.message}", "warning")
    return artifacts


def report_rows(report: Artifact) -> Sequence[ReportRow]:
    """The rows of a report. Raises ArtifactError where it is damaged."""
    from apmctl_core.artifacts.kinds.reports import load_report

    return load_report(report, report.kind).rows


def setting(recipe: Mapping[str, Any], path: str) -> Any:
    """A setting of a recipe by its dotted path; None for one that it lacks: recipes come from strangers, too."""
    value: Any = recipe
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def number(value: Any) -> float | None:
    """A metric that must be a number, and may be anything."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def network(manifest: Manifest) -> Any:
    """The architecture of an artifact's own network."""
    return setting(manifest.recipe, "model.arch")


def _protocol(manifest: Manifest) -> Any:
    """What a recipe says of how networks are trained, whichever and on whatever labels."""
    evaluate = setting(manifest.recipe, "evaluate")
    kept = {k: v for k, v in evaluate.items() if k not in ("arch", "labels")} if isinstance(evaluate, dict) else None
    return kept, setting(manifest.recipe, "model.width")
