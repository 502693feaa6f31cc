"""`apmctl list` and `verify`: the content of the store, and the results of both commands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from apmctl import progress
from apmctl.blocks import Block, Table
from apmctl.commands.runs import UnfinishedRun, unfinished
from apmctl.measures import Measures, labels, network, number, protocol, setting, sound
from apmctl.options import OUTPUT, REF, STORE
from apmctl.output import Sink
from apmctl.results import Document, Identity
from apmctl.signature import option, takes, together
from apmctl.text import age, count, size

if TYPE_CHECKING:
    from apmctl_core.artifacts.artifact import Artifact, Run
    from apmctl_core.artifacts.store import Store


class Measured(Document):
    """Where the accuracy of an artifact in a list is from: the report, and what it measured."""

    report: str
    network: str
    labels: str
    protocol: Mapping[str, Any]


class ListedArtifact(Identity):
    """An artifact in a list, with the accuracy that stands for it (`Measures`); a pool has that of its teachers."""

    dataset: str | None
    size_bytes: int
    accuracy: float | None
    created: str | None
    ipc: int | None
    network: str | None
    random_accuracy: float | None
    gain: float | None
    measured: Measured | None

    @classmethod
    def by(cls, artifact: Artifact, measures: Measures) -> Self:
        """An artifact with what its manifest and the store's reports know."""
        manifest = artifact.manifest
        ipc = None if artifact.kind in ("pool", "reference") else setting(manifest.recipe, "distill.ipc")
        known = {"dataset": manifest.data.get("dataset"), "created": manifest.environment.get("created")}
        known |= {"size_bytes": artifact.size, "ipc": ipc, "network": network(manifest)}
        if best := next(iter(measures.of(artifact)), None):
            row = best.row
            known |= {"accuracy": row.accuracy_mean, "random_accuracy": row.random_accuracy_mean, "gain": best.gain}
            measured = Measured.of(row, report=best.report.ref, network=row.arch)
            return cls.of(artifact, measured=measured, **known)
        known |= dict.fromkeys(("accuracy", "random_accuracy", "gain", "measured"))
        if artifact.kind == "pool":
            known["accuracy"] = number(manifest.metrics.get("test_accuracy_mean"))
        return cls.of(artifact, **known)

    def row(self) -> tuple[str, ...]:
        """The cells of `Listing`'s table."""
        own, on, how = str(self.network or "-"), "-", "-"
        if self.measured is not None:
            on, how = labels(self.measured.labels, self.measured.network, own), protocol(self.measured.protocol)
        elif self.accuracy is not None:
            on = "teachers"
        percent = ["-" if value is None else f"{100 * value:.1f}" for value in (self.accuracy, self.random_accuracy)]
        gain = "-" if self.gain is None else f"{100 * self.gain:+.1f}"
        ipc = "-" if self.ipc is None else str(self.ipc)
        cells = (self.kind, self.ref, str(self.dataset), ipc, own, percent[0], on, percent[1], gain, how)
        return *cells, size(self.size_bytes), age(self.created)


_ACCURACY = ("accuracy", "labels", "random", "gain", "protocol")
_HEADERS = ("kind", "artifact", "data", "ipc", "network", *_ACCURACY, "size", "age")
_NUMBERS = ("ipc", "accuracy", "random", "gain", "size")
_SPARE = ("protocol", "network", "random", "data", "size", "ipc", "gain", "labels", "age", "accuracy", "kind")


class Listing(Document):
    """The artifacts and the unfinished runs of a store."""

    command: str = "list"
    artifacts: Sequence[ListedArtifact]
    runs: Sequence[UnfinishedRun]
    hidden: int  # artifacts that are not of the choice

    @classmethod
    def by(cls, artifacts: Sequence[Artifact], runs: Sequence[Run], choice: Choice | None = None) -> Self:
        """Of a store's artifacts and runs those of a choice, with the accuracies that all of its reports know."""
        choice, measures = choice or Choice(), Measures(artifacts)
        chosen = sorted(filter(choice.has, artifacts), key=_newest_of_a_name)
        listed = [(artifact, ListedArtifact.by(artifact, measures)) for artifact in chosen]
        if choice.sort is not None:
            listed.sort(key=lambda pair: _ORDERS[str(choice.sort)](*pair))
        return cls(
            artifacts=[artifact for _, artifact in listed],
            runs=[UnfinishedRun.by(run) for run in runs if choice.has_run(run)],
            hidden=len(artifacts) - len(listed),
        )

    def brief(self) -> str:
        return "\n".join(artifact.ref for artifact in self.artifacts)

    def blocks(self) -> Iterator[Block]:
        if not self.artifacts and self.hidden:
            yield f"none of {count(self.hidden, 'artifact')} fits; `apmctl list` shows all"
        elif not self.artifacts and not self.runs:
            yield "no artifacts yet; `apmctl distill digits --ipc 1` makes a first set"
        if self.artifacts:
            rows = [artifact.row() for artifact in self.artifacts]
            yield Table(_HEADERS, rows, right=_NUMBERS, spare=_SPARE, wrap=("artifact",))
        if self.artifacts and self.runs:
            yield ""
        if self.runs:
            yield from unfinished(self.runs)


def _newest_of_a_name(artifact: Artifact) -> tuple[object, ...]:
    return artifact.kind, artifact.name, -(artifact.manifest.created or 0.0)


def _falling(value: float | None) -> float:
    """What sorts large numbers first and unknown ones last."""
    return math.inf if value is None else -value


_ORDERS: Mapping[str, Callable[[Artifact, ListedArtifact], Any]] = {
    "name": lambda artifact, _: artifact.name,
    "age": lambda artifact, _: _falling(artifact.manifest.created),
    "size": lambda artifact, _: -artifact.size,
    "accuracy": lambda _, listed: _falling(listed.accuracy),
    "gain": lambda _, listed: _falling(listed.gain),
}
Kind = StrEnum("Kind", ["pool", "set", "report", "coreset", "reference"])
Sort = StrEnum("Sort", ["name", "age", "size", "accuracy", "gain"])


@dataclass(frozen=True)
class Choice:
    """What to list of a store, and in which order; None stands for all, and for kind and name, the newest first."""

    kind: Kind | None = None
    dataset: str | None = None
    sort: Sort | None = None

    def has(self, artifact: Artifact) -> bool:
        """Whether an artifact is listed."""
        dataset = artifact.manifest.data.get("dataset")
        return self.kind in (None, artifact.kind) and self.dataset in (None, dataset)

    def has_run(self, run: Run) -> bool:
        """Whether an unfinished run is listed; one that does not say how it was begun is of no known data set."""
        dataset = setting(run.request.recipe, "data.dataset") if run.request else ""
        return self.kind in (None, run.kind) and self.dataset in (None, dataset)


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


_CHOICE = (
    option(None, "--kind", Kind | None, "Only artifacts of this kind.", metavar="|".join(Kind)),
    option(None, "--dataset", str | None, "Only artifacts of this data set.", metavar="NAME"),
    option(
        None, "--sort", Sort | None, "Largest, best or newest first [default: kind and name].", metavar="|".join(Sort)
    ),
)


@takes(together("choice", _CHOICE, lambda values: Choice(**values)), STORE, OUTPUT)
def list_(choice: Choice, store: Store, out: Sink) -> None:
    """List artifacts with their accuracies beside random real images, and unfinished runs with their progress."""
    out.result(Listing.by(sound(store, None, out), store.runs(), choice))


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
