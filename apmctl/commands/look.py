"""`apmctl list`, `show` and `verify`: the content of the store, and the results of these commands."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from apmctl import progress
from apmctl.blocks import Block, Pairs, Table
from apmctl.commands.runs import ShownRun, UnfinishedRun, unfinished
from apmctl.options import OUTPUT, REF, STORE
from apmctl.output import Sink
from apmctl.results import Document, Identity, accuracies, flat, readings
from apmctl.signature import option, takes
from apmctl.text import count, size
from apmctl_core.errors import ApmError

if TYPE_CHECKING:
    from apmctl_core.artifacts.artifact import Artifact, Run
    from apmctl_core.artifacts.kinds.reports import ReportRow
    from apmctl_core.artifacts.manifest import FileEntry
    from apmctl_core.artifacts.store import Store


class ListedArtifact(Identity):
    """An artifact in a list; `accuracy` is the first that is known of it."""

    dataset: str | None
    size_bytes: int
    accuracy: float | None
    created: str | None

    @classmethod
    def by(cls, artifact: Artifact, reports: Mapping[str, Artifact]) -> Self:
        """An artifact with what its manifest and `reports` (a set's id -> its newest report) know."""
        manifest = artifact.manifest
        dataset, created = manifest.data.get("dataset"), manifest.environment.get("created")
        accuracy = _accuracy(artifact, reports)
        return cls.of(artifact, dataset=dataset, size_bytes=artifact.size, accuracy=accuracy, created=created)

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


class Listing(Document):
    """The artifacts and the unfinished runs of a store."""

    command: str = "list"
    artifacts: Sequence[ListedArtifact]
    runs: Sequence[UnfinishedRun]

    @classmethod
    def by(cls, artifacts: Sequence[Artifact], runs: Sequence[Run], kind: str | None = None) -> Self:
        """Of a store's artifacts and runs those of a kind, with the accuracies that its reports know."""
        reports = _newest_reports(artifacts)
        return cls(
            artifacts=[ListedArtifact.by(a, reports) for a in artifacts if kind in (None, a.kind)],
            runs=[UnfinishedRun.by(run) for run in runs if kind in (None, run.kind)],
        )

    def brief(self) -> str:
        return "\n".join(artifact.ref for artifact in self.artifacts)

    def blocks(self) -> Iterator[Block]:
        if not self.artifacts and not self.runs:
            yield "no artifacts yet; `apmctl distill digits --ipc 1` makes a first set"
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
            yield from unfinished(self.runs)


def _newest_reports(artifacts: Sequence[Artifact]) -> dict[str, Artifact]:
    """The newest report on each set, by the set's id."""
    reports = [a for a in artifacts if a.kind == "report"]
    reports.sort(key=lambda report: str(report.manifest.environment.get("created")))
    return {report.manifest.inputs.get("set", ""): report for report in reports}


def _accuracy(artifact: Artifact, reports: Mapping[str, Artifact]) -> float | None:
    """The first accuracy that is known of an artifact: a pool's own, a set's by `reports` (its id -> its report)."""
    if artifact.kind == "pool":
        mean = artifact.manifest.metrics.get("test_accuracy_mean")
        return float(mean) if isinstance(mean, (int, float)) and not isinstance(mean, bool) else None
    report = artifact if artifact.kind == "report" else reports.get(artifact.id)
    with contextlib.suppress(ApmError):  # it may have been removed since it was listed
        return next((row.accuracy_mean for row in report_rows(report)), None) if report else None
    return None


def report_rows(report: Artifact) -> Sequence[ReportRow]:
    """The rows of a report. Raises ArtifactError where it is damaged."""
    from apmctl_core.artifacts.kinds.reports import load_report

    return load_report(report).rows


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
        data += [("test split", self.data["split"])] if "split" in self.data else []
        yield Pairs([("path", self.artifact.path), *data])
        for title, pairs in sections.items():
            if pairs:
                yield title
                yield Pairs(pairs)


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


class Verified(Document):
    """A sound artifact: the number of its files, and their bytes."""

    command: str = "verify"
    artifact: Identity
    files: int
    bytes: int

    def brief(self) -> str:
        return self.artifact.ref

    def blocks(self) -> Iterator[Block]:
        yield f"{self.artifact.headline} is sound: {count(self.files, 'file')}, {size(self.bytes)}"


Kind = StrEnum("Kind", ["pool", "set", "report"])
_KIND = option(None, "--kind", Kind | None, "Only artifacts of this kind.", metavar="|".join(Kind))


@takes(STORE, OUTPUT, _KIND)
def list_(kind: Kind | None, store: Store, out: Sink) -> None:
    """List artifacts, and unfinished runs with their progress."""
    artifacts, damaged = store.scan()
    for entry in damaged:
        out.note(f"skipped {entry.ref}: {entry.error.message}", "warning")
    out.result(Listing.by(artifacts, store.runs(), kind))


@takes(REF, STORE, OUTPUT)
def show(ref: str, store: Store, out: Sink) -> None:
    """Show an artifact: its recipe, inputs, metrics and files; or how far an unfinished run is."""
    if run := store.run(ref):
        out.result(ShownRun.by(run))
        return
    with progress.listening(out) as emit:
        from apmctl_core.artifacts.verify import note_missing_digest
        from apmctl_core.hub.find import find

        artifact = find(store, ref, emit=emit)
        note_missing_digest(artifact, emit)
    out.result(shown(artifact))


@takes(REF, STORE, OUTPUT)
def verify(ref: str, store: Store, out: Sink) -> None:
    """Check every file of an artifact against its manifest, and every value as loading would."""
    with progress.listening(out) as emit:
        from apmctl_core.artifacts.verify import require_sound
        from apmctl_core.hub.find import find
        from apmctl_core.models import state_shapes

        artifact = find(store, ref, emit=emit)
        require_sound(artifact, state_shapes, emit=emit)
    out.result(Verified(artifact=Identity.of(artifact), files=len(artifact.manifest.files), bytes=artifact.size))
