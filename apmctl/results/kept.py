"""Results of the commands on the store: `list`, `show`, `verify` and `rm`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from apmctl.blocks import Block, Pairs, Table
from apmctl.results import Document
from apmctl.results.made import Identity, accuracies, flat, readings
from apmctl.text import count, plural, size
from apmctl_core.errors import ApmError

if TYPE_CHECKING:
    from apmctl_core.artifacts.artifact import Artifact, Run
    from apmctl_core.artifacts.kinds.reports import ReportRow
    from apmctl_core.artifacts.manifest import FileEntry


@dataclass(frozen=True, kw_only=True)
class ListedArtifact(Identity):
    """An artifact in a list; `accuracy` is the first that is known of it."""

    dataset: str | None
    size_bytes: int
    accuracy: float | None
    created: str | None

    def row(self) -> tuple[str, ...]:
        """The cells of `Listing`'s table."""
        accuracy = "-" if self.accuracy is None else f"{100 * self.accuracy:.1f}"
        return self.kind, self.ref, str(self.dataset), size(self.size_bytes), accuracy, _local(self.created)


def _local(created: Any) -> str:
    """A time in the local time zone, to the minute; `-` for what is not a time."""
    try:
        return datetime.fromisoformat(created).astimezone().isoformat(" ", "minutes")[:16]
    except (TypeError, ValueError, OverflowError):
        return "-"


@dataclass(frozen=True, kw_only=True)
class UnfinishedRun(Identity):
    """A run that another command works on or that was interrupted."""

    running: bool
    progress: Mapping[str, Any] | None

    def row(self) -> tuple[str, ...]:
        """The cells of `Listing`'s table."""
        state = "running" if self.running else "interrupted; rerun the same command to resume"
        p = self.progress or {}
        known = {"done", "total", "unit"} <= p.keys()
        return self.kind, self.ref, f"{p['done']}/{p['total']} {plural(str(p['unit']))}" if known else "-", state


@dataclass(frozen=True, kw_only=True)
class Listing(Document):
    """The artifacts and the unfinished runs of a store."""

    command: str = "list"
    artifacts: Sequence[ListedArtifact]
    runs: Sequence[UnfinishedRun]

    @classmethod
    def by(cls, artifacts: Sequence[Artifact], runs: Sequence[Run], kind: str | None = None) -> Listing:
        """Of a store's artifacts and runs those of a kind, with the accuracies that its reports know."""
        reports = _newest_reports(artifacts)
        return cls(
            artifacts=[_listed(a, _accuracy(a, reports)) for a in artifacts if kind in (None, a.kind)],
            runs=[UnfinishedRun.of(run) for run in runs if kind in (None, run.kind)],
        )

    def brief(self) -> str:
        return "\n".join(artifact.ref for artifact in self.artifacts)

    def blocks(self) -> Iterator[Block]:
        if not self.artifacts and not self.runs:
            yield "nothing yet; `apmctl distill digits --ipc 1` makes a first set"
        if self.artifacts:
            yield Table(
                ("kind", "artifact", "data", "size", "accuracy", "created"),
                [artifact.row() for artifact in self.artifacts],
                right=("size", "accuracy"),
                spare=("data", "created"),
                wrap=("artifact",),
            )
        if self.artifacts and self.runs:
            yield ""
        if self.runs:
            rows = [run.row() for run in self.runs]
            yield Table(("unfinished", "artifact", "progress", "state"), rows, wrap=("state",))


def _listed(artifact: Artifact, accuracy: float | None) -> ListedArtifact:
    return ListedArtifact.of(
        artifact,
        dataset=artifact.manifest.data.get("dataset"),
        size_bytes=artifact.size,
        accuracy=accuracy,
        created=artifact.manifest.environment.get("created"),
    )


def _newest_reports(artifacts: Sequence[Artifact]) -> dict[str, Artifact]:
    """The newest report on each set, by the set's id."""
    reports = [a for a in artifacts if a.kind == "report"]
    reports.sort(key=lambda report: str(report.manifest.environment.get("created")))
    return {report.manifest.inputs.get("set", ""): report for report in reports}


def _accuracy(artifact: Artifact, reports: Mapping[str, Artifact]) -> float | None:
    """The first accuracy that is known of an artifact: a pool's own, a set's by `reports` (its id -> its report)."""
    if artifact.kind == "pool":
        return _fraction(artifact.manifest.metrics.get("test_accuracy_mean"))
    report = artifact if artifact.kind == "report" else reports.get(artifact.id)
    with contextlib.suppress(ApmError):  # `verify` says what is wrong with a report
        rows = report_rows(report) if report is not None else ()
        return rows[0].accuracy_mean if rows else None
    return None


def _fraction(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def report_rows(report: Artifact) -> Sequence[ReportRow]:
    """The rows of a report. Raises ArtifactError where it is damaged."""
    from apmctl_core.artifacts.kinds.reports import load_report

    return load_report(report).rows


@dataclass(frozen=True, kw_only=True)
class Shown(Document):
    """An artifact with all of its manifest."""

    command: str = "show"
    artifact: Identity
    recipe: Mapping[str, Any]
    inputs: Mapping[str, str]
    data: Mapping[str, Any]
    metrics: Mapping[str, Any]
    files: Mapping[str, FileEntry]
    environment: Mapping[str, Any]

    def brief(self) -> str:
        return str(self.artifact.path)

    def blocks(self) -> Iterator[Block]:
        shape = " x ".join(map(str, self.data["shape"]))
        files = [(name, f"{size(f.size)}, sha256 {f.sha256[:12]}") for name, f in sorted(self.files.items())]
        sections: dict[str, Sequence[tuple[str, object]]] = {
            "recipe": flat(self.recipe),
            "inputs": list(self.inputs.items()),
            "metrics": readings(self.metrics),
            "files": files,
            "environment": flat(self.environment),
        }
        yield self.artifact.headline
        data = [("data", self.data.get("dataset")), ("shape", shape), ("classes", len(self.data["classes"]))]
        yield Pairs([("path", self.artifact.path), *data])
        for title, pairs in sections.items():
            if pairs:
                yield title
                yield Pairs(pairs)


@dataclass(frozen=True, kw_only=True)
class ShownReport(Shown):
    """A report with its rows."""

    results: Sequence[ReportRow]

    def blocks(self) -> Iterator[Block]:
        yield from super().blocks()
        yield from accuracies(self.results)


def shown(artifact: Artifact) -> Shown:
    """All that there is to show of an artifact."""
    identity = Identity.of(artifact)
    if artifact.kind == "report":
        return ShownReport.of(artifact.manifest, artifact=identity, results=report_rows(artifact))
    return Shown.of(artifact.manifest, artifact=identity)


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A sound artifact: the number of its files, and their bytes."""

    command: str = "verify"
    artifact: Identity
    files: int
    bytes: int

    def brief(self) -> str:
        return self.artifact.ref

    def blocks(self) -> Iterator[Block]:
        yield f"{self.artifact.headline} is sound: {count(self.files, 'file')}, {size(self.bytes)}"


@dataclass(frozen=True, kw_only=True)
class Removed:
    """The references of what was removed."""

    command: str = "rm"
    removed: Sequence[str]

    def brief(self) -> str:
        return "\n".join(self.removed)

    def blocks(self) -> Iterator[Block]:
        yield from (f"removed {ref}" for ref in self.removed)
