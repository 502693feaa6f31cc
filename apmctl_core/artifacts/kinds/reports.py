"""Reports: `report.json`, the accuracies of networks trained on a set beside those on random real images.

References are reports on no set: of networks trained on all real images.

Accuracies are fractions. Means and standard deviations in a file are for other readers: here they are computed, and
what a file says must agree.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from apmctl_core import intervals
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.artifacts.kind import Kind, register
from apmctl_core.artifacts.manifest import convert, refused
from apmctl_core.errors import NumericsError
from apmctl_core.intervals import Bounds
from apmctl_core.storage.files import read_bounded, write_bytes
from apmctl_core.storage.strict_json import parse_object

FILE = "report.json"
MAX_BYTES = 4 << 20
_TAKEN = {"distilled", "random", "whole"}  # names of images that are no coreset
_STATISTICS = ("accuracy_mean", "accuracy_std", "random_accuracy_mean", "random_accuracy_std")

_Text = Annotated[str, Meta(min_length=1, max_length=200)]
_Accuracy = Annotated[float, Meta(ge=0, le=1)]
_Accuracies = Annotated[tuple[_Accuracy, ...], Meta(min_length=1)]


class ReportRow(Struct, frozen=True):
    """Accuracies of networks of one architecture, trained with one kind of labels under one protocol.

    `random_accuracies` are those of networks trained on random real images instead, empty where there are none;
    `coresets` those of networks trained on real images that were chosen, by how; `whole` those of networks trained on
    all real images; `unaugmented` those of networks that saw the set, or random images, without augmentation; `scores`
    are further measures of the set under this row's protocol, by name.
    """

    arch: _Text
    labels: _Text
    accuracies: _Accuracies
    random_accuracies: tuple[_Accuracy, ...]
    protocol: dict[str, Any]
    scores: dict[str, float] = {}
    coresets: dict[str, _Accuracies] = {}
    whole: tuple[_Accuracy, ...] = ()
    unaugmented: dict[str, _Accuracies] = {}

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

    def document(self) -> dict[str, Any]:
        """The row as JSON has it; null where there is nothing to compare with."""
        fields = msgspec.structs.asdict(self) | {name: getattr(self, name) for name in _STATISTICS}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @property
    def baselines(self) -> dict[str, tuple[float, ...]]:
        """The accuracies of networks trained on real images, by how these were chosen."""
        random = {"random": self.random_accuracies} if self.random_accuracies else {}
        return {**random, **self.coresets, **({"whole": self.whole} if self.whole else {})}

    def draws(self, baseline: str) -> int:
        """How many draws of images the networks of a baseline cycle through; 0 where each has the same or its own."""
        draws = self.protocol.get("random_draws") if baseline == "random" else 0
        return draws if type(draws) is int else 0

    def difference(self, baseline: str) -> Bounds | None:
        """The 95% interval of the accuracy above that of a baseline; None where there are too few networks."""
        return intervals.of_difference(self.accuracies, self.baselines.get(baseline, ()), self.draws(baseline))

    def cells(self) -> tuple[str, str, str]:
        """Accuracy, accuracy of random real images and the difference, in per cent with intervals, for a table."""
        return shown(self.accuracies), *self.beside("random")

    def beside(self, baseline: str) -> tuple[str, str]:
        """The accuracy of a baseline and the difference to it, in per cent with intervals, for a table."""
        other = self.baselines.get(baseline, ())
        if not other:
            return "-", "-"
        return shown(other, self.draws(baseline)), signed(self.accuracy_mean - fmean(other), self.difference(baseline))


class Report(Struct, frozen=True):
    """The report on the set of reference `set`, which is empty for a reference."""

    set: Annotated[str, Meta(max_length=200)]
    rows: Annotated[tuple[ReportRow, ...], Meta(max_length=1_000)] = msgspec.field(name="results")


def percent(mean: float, std: float) -> str:
    """A fraction in per cent, with its standard deviation."""
    return f"{100 * mean:.1f} ± {100 * std:.1f}"


def shown(accuracies: Sequence[float], draws: int = 0) -> str:
    """A mean accuracy in per cent with its 95% interval, e.g. `53.8 [53.2, 54.4]`; `-` of none."""
    if not accuracies:
        return "-"
    return f"{100 * fmean(accuracies):.1f}" + _bracketed(intervals.of_mean(accuracies, draws), "")


def signed(difference: float, bounds: Bounds | None) -> str:
    """A difference of accuracies in points with its interval, e.g. `+13.7 [+12.1, +15.3]`."""
    return f"{100 * difference:+.1f}" + _bracketed(bounds, "+")


def _bracketed(bounds: Bounds | None, sign: str) -> str:
    return " [{:{s}.1f}, {:{s}.1f}]".format(*(100 * end for end in bounds), s=sign) if bounds else ""


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


def load_report(artifact: Artifact, kind: str = "report") -> Report:
    """The report of an artifact. Raises ArtifactError where it is damaged, MismatchError for another kind."""
    artifact.require(kind)
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
        if taken := row.coresets.keys() & _TAKEN:
            raise refused(what, f"results[{index}].coresets cannot have {taken.pop()!r}")
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


for _kind in ("report", "reference"):
    _load = functools.partial(load_report, kind=_kind)
    register(Kind(name=_kind, folder=f"{_kind}s", required=(FILE,), check=_check, quick_check=_load))
