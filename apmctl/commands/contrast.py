"""What several artifacts differ in, as `apmctl show` has it: settings, data, inputs, metrics and accuracies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from apmctl import differing
from apmctl.blocks import Block, Table
from apmctl.measures import Measure, Measures, protocol
from apmctl.results import Document, Identity

if TYPE_CHECKING:
    from apmctl_core.artifacts.artifact import Artifact

_OF_THE_SET = ("images",)  # what a protocol says of the set, not of the networks


class Accuracies(Document):
    """The mean accuracies under one protocol, one for each artifact; null for one that was not measured so."""

    network: str
    labels: str
    protocol: Mapping[str, Any]
    means: Sequence[float | None]

    def row(self) -> tuple[str, ...]:
        """The cells of `Contrast`'s table."""
        name = f"accuracy: {self.labels} labels, {self.network}, {protocol(self.protocol)}"
        return name, *("-" if mean is None else f"{100 * mean:.1f}" for mean in self.means)


class Contrast(Document):
    """Several artifacts: by its dotted path, each field that is not the same in all, with their values in order."""

    command: str = "show"
    artifacts: Sequence[Identity]
    differences: Mapping[str, Sequence[Any]]
    accuracies: Sequence[Accuracies]

    @classmethod
    def by(cls, artifacts: Sequence[Artifact], reports: Sequence[Artifact]) -> Self:
        """What artifacts differ in, with the accuracies that reports know."""
        from apmctl_core.artifacts import differences

        return cls(
            artifacts=[Identity.of(artifact) for artifact in artifacts],
            differences=differences.between([artifact.manifest for artifact in artifacts]),
            accuracies=list(_accuracies(artifacts, Measures([*reports, *artifacts]))),
        )

    def brief(self) -> str:
        return "\n".join(str(artifact.path) for artifact in self.artifacts)

    def blocks(self) -> Iterator[Block]:
        rows = [each.row() for each in self.accuracies]
        rows += differing.rows(self.differences)
        if not rows:
            yield "nothing differs"
            return
        refs = [artifact.ref for artifact in self.artifacts]
        yield Table(("", *refs), rows, wrap=("", *refs))


def _accuracies(artifacts: Sequence[Artifact], measures: Measures) -> Iterator[Accuracies]:
    """The accuracies of artifacts under each protocol that one of them was measured by; of several the newest."""
    tables: list[dict[str, Measure]] = []
    for artifact in artifacts:
        ordered = measures.of(artifact)
        tables.append({_conditions(measure): measure for measure in reversed(ordered)})
    for conditions in dict.fromkeys(key for table in tables for key in reversed(table)):
        row = next(table[conditions].row for table in tables if conditions in table)
        means = [table[conditions].row.accuracy_mean if conditions in table else None for table in tables]
        yield Accuracies(network=row.arch, labels=row.labels, protocol=row.protocol, means=means)


def _conditions(measure: Measure) -> str:
    """What must be the same for two accuracies to be compared."""
    row = measure.row
    same = {name: value for name, value in row.protocol.items() if name not in _OF_THE_SET}
    return json.dumps([row.labels, row.arch, same], sort_keys=True)
