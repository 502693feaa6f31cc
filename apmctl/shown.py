"""What `apmctl show` has of each kind of artifact: all of its manifest, and what the store knows of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from apmctl.blocks import Block, Pairs, Table
from apmctl.measures import Measures, number, protocol, report_rows, setting, sound
from apmctl.results import Document, Identity, Judged, accuracies, flat, readings
from apmctl.text import age, count, date, duration, size

if TYPE_CHECKING:
    from apmctl.output import Sink
    from apmctl_core.artifacts.artifact import Artifact
    from apmctl_core.artifacts.manifest import FileEntry
    from apmctl_core.artifacts.store import Store

Facts = Iterator[tuple[str, object]]
_LISTED = 8


class Shown(Document):
    """An artifact with all of its manifest; what people read begins with what matters of its kind."""

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
        yield self.artifact.headline
        yield from self.measured()
        yield "how it was made"
        yield Pairs([*self.origin(), *self._circumstances()])
        yield f"`apmctl show {self.artifact.ref} --all` adds the recipe, metrics, files and environment"

    def measured(self) -> Iterator[Block]:
        """What is known of its accuracy."""
        yield from ()

    def origin(self) -> Facts:
        """What it was made of, and how."""
        yield from self._data()

    def _circumstances(self) -> Facts:
        seconds, e = number(self.metrics.get("seconds")), self.environment
        if seconds is not None:
            yield "time", duration(seconds) + (f" on {e['device']}" if "device" in e else "")
        version = f" with apmctl {e['apmctl']}" if "apmctl" in e else ""
        yield "made", f"{date(e.get('created'))} ({age(e.get('created'))}){version}"
        yield "path", self.artifact.path

    def _data(self) -> Facts:
        shape = " x ".join(map(str, self.data["shape"]))
        yield "data", f"{self.data.get('dataset')}, {count(len(self.data['classes']), 'classes')}, images of {shape}"
        if "split" in self.data:
            yield "test split", self.data["split"]

    def _network(self) -> Facts:
        yield "network", f"{self._setting('model.arch')}, width {self._setting('model.width')}"

    def _setting(self, path: str) -> Any:
        return setting(self.recipe, path)

    def details(self) -> Iterator[Block]:
        """All of the manifest."""
        files = [(name, f"{size(f.size)}, sha256 {f.sha256[:12]}") for name, f in sorted(self.files.items())]
        sections: dict[str, Sequence[tuple[str, object]]] = {
            "recipe": flat(self.recipe),
            "inputs": list(self.inputs.items()),
            "metrics": readings(self.metrics),
            "files": files,
            "environment": flat(self.environment),
        }
        for title, pairs in sections.items():
            if pairs:
                yield title
                yield Pairs(pairs)


class ReportOnSet(Identity):
    """A report on a set, as the document of the set has it."""

    created: str | None
    results: Sequence[Judged]

    @classmethod
    def by(cls, report: Artifact) -> Self:
        """A report with its rows."""
        created = report.manifest.environment.get("created")
        return cls.of(report, created=created, results=[Judged(row) for row in report_rows(report)])


class PoolOfSet(Identity):
    """The pool that a set was made with, and the accuracy of its teachers."""

    teachers: float | None
    accuracy_mean: float | None
    accuracy_std: float | None

    @classmethod
    def by(cls, pool: Artifact) -> Self:
        """A pool with what its metrics say."""
        known = {name: number(pool.manifest.metrics.get(metric)) for name, metric in _OF_POOL.items()}
        return cls.of(pool, **known)

    def __str__(self) -> str:
        return f"{self.ref}, {_teachers(self.teachers, self.accuracy_mean, self.accuracy_std)}"


_OF_POOL = {"teachers": "teachers", "accuracy_mean": "test_accuracy_mean", "accuracy_std": "test_accuracy_std"}


def _teachers(teachers: float | None, mean: float | None, std: float | None) -> str:
    """The number of teachers, and their accuracy in per cent."""
    from apmctl_core.artifacts.kinds.reports import percent

    known = [count(int(teachers), "teacher")] if teachers is not None else []
    known += [f"{percent(mean, std or 0.0)} per cent on the test split"] if mean is not None else []
    return ", ".join(known)


class ShownSet(Shown):
    """A set. `results` are the rows of the report that stands for it; `reports` are all on it, that one first."""

    results: Sequence[Judged]
    reports: Sequence[ReportOnSet]
    pool: PoolOfSet | None

    @classmethod
    def by(cls, artifact: Artifact, store: Store, out: Sink) -> Self:
        """A set with its reports and its pool, as far as the store has them."""
        measures = Measures(r for r in sound(store, "report", out) if r.manifest.inputs.get("set") == artifact.id)
        found = {measure.report.id: measure.report for measure in measures.of(artifact)}
        reports = [ReportOnSet.by(report) for report in found.values()]
        pool = store.get("pool", artifact.manifest.inputs.get("pool", ""))
        return cls.of(
            artifact.manifest,
            artifact=Identity.of(artifact),
            results=reports[0].results if reports else [],
            reports=reports,
            pool=PoolOfSet.by(pool) if pool else None,
        )

    def measured(self) -> Iterator[Block]:
        if not self.reports:
            yield f"not evaluated yet; `apmctl eval {self.artifact.ref}` measures it beside random real images"
            return
        first, *others = self.reports
        yield from accuracies(self.results)
        yield f"report {first.ref}, {age(first.created)}"
        rows = [
            (row.arch, row.labels, *row.cells(), protocol(row.protocol), report.id, age(report.created))
            for report in others
            for row in (judged.row for judged in report.results)
        ]
        if rows:
            headers = ("network", "labels", "distilled", "random", "difference", "protocol", "report", "age")
            yield "other reports"
            yield Table(headers, rows[:_LISTED], right=headers[2:5], spare=("age", "protocol"))
        if len(rows) > _LISTED:
            yield f"and {len(rows) - _LISTED} more; `--json` has all"

    def origin(self) -> Facts:
        ipc, images = self._setting("distill.ipc"), self.metrics.get("images")
        yield from self._data()
        yield "images", f"{ipc} per class" if images is None else f"{images}, {ipc} per class"
        if "set" in self.inputs:
            yield "images from", f"set {self.inputs['set']}"
        else:
            seed, rounds = self.recipe.get("seed"), self._setting("distill.rounds")
            yield "method", f"{self._setting('distill.method')}, {rounds} rounds, seed {seed}"
        yield from self._network()
        labellers = number(self.metrics.get("labelling_teachers"))
        if labellers is not None:
            yield "soft labels", f"mean of {count(int(labellers), 'teacher')}" if labellers > 1 else "of one teacher"
        if "pool" in self.inputs:
            yield "teachers", self.pool or f"pool {self.inputs['pool']}, which is not in the store"


class ShownPool(Shown):
    """A pool, and the sets of the store that were made with it."""

    sets: Sequence[Identity]

    @classmethod
    def by(cls, artifact: Artifact, store: Store, out: Sink) -> Self:
        """A pool with its sets."""
        sets = [Identity.of(a) for a in sound(store, "set", out) if a.manifest.inputs.get("pool") == artifact.id]
        return cls.of(artifact.manifest, artifact=Identity.of(artifact), sets=sets)

    def measured(self) -> Iterator[Block]:
        accuracy = _teachers(*(number(self.metrics.get(metric)) for metric in _OF_POOL.values()))
        yield accuracy or "no accuracy is known"

    def origin(self) -> Facts:
        yield from self._data()
        yield from self._network()
        teachers, epochs = self._setting("teachers.count"), self._setting("teachers.epochs")
        yield "training", f"{teachers} teachers, {epochs} epochs each, seed {self.environment.get('seed', '-')}"
        more = f" and {len(self.sets) - _LISTED} more" if len(self.sets) > _LISTED else ""
        yield "used by", ", ".join(each.ref for each in self.sets[:_LISTED]) + more or "no set in the store"


class ShownReport(Shown):
    """A report with its rows, and its set as far as the store has it."""

    results: Sequence[Judged]
    set: Identity | None

    @classmethod
    def by(cls, artifact: Artifact, store: Store, out: Sink) -> Self:  # noqa: ARG003
        """A report with its rows and its set. Raises ArtifactError where it is damaged."""
        measured = store.get("set", artifact.manifest.inputs.get("set", ""))
        return cls.of(
            artifact.manifest,
            artifact=Identity.of(artifact),
            results=[Judged(row) for row in report_rows(artifact)],
            set=Identity.of(measured) if measured else None,
        )

    def measured(self) -> Iterator[Block]:
        yield from accuracies(self.results, own="distilled" if self.artifact.kind == "report" else "all real")

    def origin(self) -> Facts:
        if "set" in self.inputs:
            yield "set", self.set.ref if self.set else f"{self.inputs['set']}, which is not in the store"
        yield from self._data()


_KINDS: Mapping[str, type[ShownSet] | type[ShownPool] | type[ShownReport]] = {
    "set": ShownSet,
    "pool": ShownPool,
    "report": ShownReport,
    "reference": ShownReport,
}


def shown(artifact: Artifact, store: Store, out: Sink) -> Shown:
    """All that there is to show of an artifact, with what the store knows of it; `out` hears of what is damaged."""
    if artifact.kind in _KINDS:
        return _KINDS[artifact.kind].by(artifact, store, out)
    return Shown.of(artifact.manifest, artifact=Identity.of(artifact))
