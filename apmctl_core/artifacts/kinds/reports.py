"""Reports: `report.json`, the accuracies of networks trained on a set beside those on random real images.

Accuracies are fractions. Means and standard deviations in a file are for other readers: here they are computed, and
what a file says must agree.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kind import Kind, register
from apmctl_core.artifacts.manifest import convert, refused
from apmctl_core.errors import NumericsError
from apmctl_core.storage.files import read_bounded, write_bytes
from apmctl_core.storage.strict_json import parse_object

FILE = "report.json"
MAX_BYTES = 4 << 20
_STATISTICS = ("accuracy_mean", "accuracy_std", "random_accuracy_mean", "random_accuracy_std")

_Text = Annotated[str, Meta(min_length=1, max_length=200)]
_Accuracy = Annotated[float, Meta(ge=0, le=1)]


class ReportRow(Struct, frozen=True):
    """Accuracies of networks of one architecture, trained with one kind of labels under one protocol.

    `random_accuracies` are those of networks trained on random real images instead, empty where there are none;
    `coresets` those of networks trained on real images that were chosen, by how; `scores` are further measures of the
    set under this row's protocol, by name.
    """

    arch: _Text
    labels: _Text
    accuracies: Annotated[tuple[_Accuracy, ...], Meta(min_length=1)]
    random_accuracies: tuple[_Accuracy, ...]
    protocol: dict[str, Any]
    scores: dict[str, float] = {}
    coresets: dict[str, Annotated[tuple[_Accuracy, ...], Meta(min_length=1)]] = {}

    @property
    def accuracy_mean(self) -> float:
        return fmean(self.accuracies)

    @property
    def accuracy_std(self) -> float:
        """The population's standard deviation."""
        return _std(self.accuracies)

    @property
    def random_accuracy_mean(self) -> float | None:
        return fmean(self.random_accuracies) if self.random_accuracies else None

    @property
    def random_accuracy_std(self) -> float | None:
        return _std(self.random_accuracies) if self.random_accuracies else None

    @property
    def random_draws(self) -> int:
        """How many draws of random images the networks cycle through; 0 where the row does not say."""
        draws = self.protocol.get("random_draws")
        return draws if type(draws) is int else 0

    def document(self) -> dict[str, Any]:
        """The row as JSON has it; null where there is nothing to compare with."""
        fields = msgspec.structs.asdict(self) | {name: getattr(self, name) for name in _STATISTICS}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    def cells(self) -> tuple[str, str, str]:
        """Accuracy, accuracy of random real images and the difference, in per cent, for a table."""
        own = _shown(self.accuracies)
        if not self.random_accuracies:
            return own, "-", "-"
        difference = 100 * (self.accuracy_mean - fmean(self.random_accuracies))
        return own, _shown(self.random_accuracies), f"{difference:+.1f}"

    def cell(self, coreset: str) -> str:
        """The accuracy of a coreset in per cent, for a table."""
        return _shown(self.coresets.get(coreset, ()))


class Report(Struct, frozen=True):
    """The report on the set of reference `set`."""

    set: Annotated[str, Meta(max_length=200)]
    rows: Annotated[tuple[ReportRow, ...], Meta(max_length=1_000)] = msgspec.field(name="results")


def percent(mean: float, std: float) -> str:
    """A fraction in per cent, with its standard deviation."""
    return f"{100 * mean:.1f} ± {100 * std:.1f}"


def _shown(accuracies: Sequence[float]) -> str:
    """A mean for a table, with its deviation where there is more than one."""
    if len(accuracies) < 2:
        return f"{100 * accuracies[0]:.1f}" if accuracies else "-"
    return percent(fmean(accuracies), _std(accuracies))


def save_report(folder: Path, report: Report) -> None:
    """Write a report into the folder of a run.

    Raises NumericsError for a number that is not finite, ArtifactError for one that `load_report` refuses, StoreError
    where the disk refuses.
    """
    document = {"set": report.set, "results": [row.document() for row in report.rows]}
    try:
        data = json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"
    except ValueError as e:
        raise NumericsError("the report has a number that is not finite", "nothing is written") from e
    _parse(data, "the report")
    write_bytes(folder / FILE, data)


def load_report(artifact: Artifact) -> Report:
    """The report of an artifact. Raises ArtifactError where it is damaged, MismatchError for another kind."""
    artifact.require("report")
    if isinstance(artifact.content, Report):  # read and checked when the artifact was opened
        return artifact.content
    data = _read(artifact)
    artifact.require_sha256(FILE, hashlib.sha256(data).hexdigest())
    return _parse(data, str(artifact.path / FILE))


def _read(artifact: Artifact) -> bytes:
    return read_bounded(artifact.file(FILE), MAX_BYTES)


def _check(artifact: Artifact, *_: object) -> None:
    _parse(_read(artifact), str(artifact.path / FILE))


def _parse(data: bytes, what: str) -> Report:
    document = parse_object(data, what)
    report = convert(document, Report, what)
    for index, (row, values) in enumerate(zip(report.rows, document["results"], strict=True)):
        for name in _STATISTICS:
            if name in values and not _agree(values[name], getattr(row, name)):
                raise refused(what, f"results[{index}].{name} does not agree with the row")
    return report


def _agree(claimed: Any, value: float | None) -> bool:
    if value is None or type(claimed) not in (int, float):
        return claimed is value
    return math.isclose(claimed, value, abs_tol=1e-9)


def _std(values: Sequence[float]) -> float:
    mean = fmean(values)  # statistics.pstdev takes no NaN
    return math.sqrt(fmean((value - mean) ** 2 for value in values))


register(Kind(name="report", folder="reports", required=(FILE,), check=_check, quick_check=load_report))
