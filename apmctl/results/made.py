"""Results of the commands that make artifacts: `teachers`, `distill`, `relabel` and `eval`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from apmctl.blocks import Block, Pairs, Table
from apmctl.results import Document
from apmctl.text import duration, label, reading, size
from apmctl_core.config import to_dict

if TYPE_CHECKING:
    from apmctl_core.artifacts.kinds.reports import ReportRow
    from apmctl_core.jobs import Outcome, Plan, PlanStep


@dataclass(frozen=True, kw_only=True)
class Identity(Document):
    """An artifact, or an unfinished run, as every document names it."""

    kind: str
    id: str
    name: str
    path: Path

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.id}"

    @property
    def headline(self) -> str:
        return f"{self.kind} {self.ref}"


@dataclass(frozen=True, kw_only=True)
class Product(Identity):
    """An artifact that a command made or reused."""

    reused: bool

    @property
    def headline(self) -> str:
        return super().headline + (" (reused)" if self.reused else "")


@dataclass(frozen=True, kw_only=True)
class Made(Document):
    """An artifact and what it took; seconds and bytes are those of this command."""

    command: str
    artifact: Product
    metrics: Mapping[str, Any]
    elapsed_s: float
    peak_memory_bytes: int

    @classmethod
    def by(cls, command: str, outcome: Outcome, **more: Any) -> Self:
        """What `command` made; `more` are the fields that a subclass adds."""
        return cls.of(outcome, command=command, artifact=Product.of(outcome.artifact, reused=outcome.reused), **more)

    def brief(self) -> str:
        return self.artifact.ref

    def blocks(self) -> Iterator[Block]:
        preview = self.artifact.path / "preview.png"
        paths = [("path", self.artifact.path)] + ([("preview", preview)] if preview.is_file() else [])
        yield self.artifact.headline
        yield Pairs([*paths, *readings(self.metrics)])
        yield _cost(self.elapsed_s, self.peak_memory_bytes)


def readings(metrics: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Metrics as people read them."""
    return [(label(name), reading(name, value)) for name, value in metrics.items()]


def _cost(seconds: float, peak_bytes: int) -> str:
    return f"{duration(seconds)}, peak memory {size(peak_bytes)}"


@dataclass(frozen=True, kw_only=True)
class EvaluationReport(Product):
    """A report; `set` is the set that was evaluated."""

    set: str | None


@dataclass(frozen=True, kw_only=True)
class Evaluated(Document):
    """Accuracies: a row for each network and kind of labels."""

    command: str = "eval"
    artifact: EvaluationReport
    results: Sequence[ReportRow]
    elapsed_s: float
    peak_memory_bytes: int

    @classmethod
    def by(cls, outcome: Outcome) -> Self:
        """The result of an evaluation."""
        evaluated, rows = outcome.metrics.get("set"), outcome.metrics["results"]
        report = EvaluationReport.of(outcome.artifact, reused=outcome.reused, set=evaluated)
        return cls.of(outcome, artifact=report, results=rows)

    def brief(self) -> str:
        return "\n".join(f"{row.accuracy_mean:.4f}" for row in self.results)

    def blocks(self) -> Iterator[Block]:
        yield self.artifact.headline
        yield from accuracies(self.results)
        yield _cost(self.elapsed_s, self.peak_memory_bytes)


_SHOWN = ("gain",)  # scores that the column of the difference shows


def accuracies(rows: Sequence[ReportRow]) -> list[Block]:
    """The table of an evaluation, in per cent, with the protocol below it."""
    scores = list(dict.fromkeys(name for row in rows for name in row.scores if name not in _SHOWN))
    headers = ("network", "labels", "distilled", "random", "difference", *map(label, scores))
    cells = [
        (row.arch, row.labels, *row.cells(), *(reading(n, row.scores.get(n, "-")) for n in scores)) for row in rows
    ]
    return ["accuracy in per cent on the test split", Table(headers, cells, right=headers[2:]), *_protocol(rows)]


def _protocol(rows: Sequence[ReportRow]) -> list[str]:
    """What all rows share in one line, and what they do not in a line for each of it."""
    names = list(dict.fromkeys(name for row in rows for name in row.protocol))
    values = {name: [str(row.protocol.get(name)) for row in rows] for name in names}
    shared = [f"{label(name)} {column[0]}" for name, column in values.items() if len(set(column)) == 1]
    which = [f"{row.arch} {row.labels}" for row in rows]
    differing = [
        f"  {label(name)}: {', '.join(f'{value} ({row})' for value, row in zip(column, which, strict=True))}"
        for name, column in values.items()
        if len(set(column)) > 1
    ]
    return [f"protocol: {', '.join(shared)}", *differing]


@dataclass(frozen=True, kw_only=True)
class Planned(Document):
    """What a command would do: the settled recipe, the steps, time and memory; no `id` while the data is unknown."""

    command: str
    dry_run: bool = True
    id: str | None
    exists: bool
    settings_from: str
    recipe: Mapping[str, Any]
    steps: Sequence[PlanStep]
    seconds: float
    memory_bytes: int
    segment: int

    def brief(self) -> str:
        return self.id or ""

    def blocks(self) -> Iterator[Block]:
        yield f"dry run of {self.command}; settings: {self.settings_from}"
        yield Pairs(flat(self.recipe))
        yield f"id {self.id or 'unknown until the data is available'}"
        if self.exists:
            yield "exists; would be reused"
            return
        rows = [
            (step.name, step.detail, f"about {duration(step.seconds)}" if step.seconds else "-") for step in self.steps
        ]
        yield Table(("step", "what", "time"), rows, wrap=("what",))
        yield (
            f"about {duration(self.seconds)} and {size(self.memory_bytes)} of memory on this machine, "
            f"at most {self.segment} images per pass"
        )


def planned(plan: Plan, origin: str) -> Planned:
    """A plan for a recipe that began as `origin`."""
    return Planned.of(plan, settings_from=origin, recipe=to_dict(plan.recipe))


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """Nested tables as pairs of a dotted key and a value."""
    pairs: list[tuple[str, object]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            pairs += flat(value, f"{prefix}{key}.")
        else:
            pairs.append((prefix + key, ", ".join(map(str, value)) if isinstance(value, list) else value))
    return pairs
