"""What results of commands share: their base, how documents name artifacts, and the tables of accuracies.

A result is a dataclass whose fields are the JSON document, with the forms that people read. Fields may be added; none
is taken away or changes its meaning without a note in the changelog (docs/scripting.md).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Self, dataclass_transform

from apmctl.blocks import Block, Table
from apmctl.errors import translate
from apmctl.text import duration, label, reading, size
from apmctl_core import config

if TYPE_CHECKING:
    from apmctl_core.artifacts.kinds.reports import ReportRow
    from apmctl_core.jobs import StageTime

BEGAN: ContextVar[float] = ContextVar("began")  # when the command did, before what it imports
_LOADED = time.monotonic()


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Document:
    """A JSON object, made from a value of the engine; its subclasses are frozen, keyword-only dataclasses."""

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    @classmethod
    def of(cls, source: object, **more: Any) -> Self:
        """The fields in `more`, and the others from the attributes of `source`, or else by their defaults."""
        names = [f.name for f in dataclasses.fields(cls) if f.name not in more and hasattr(source, f.name)]  # type: ignore[arg-type]
        return cls(**{name: getattr(source, name) for name in names}, **more)


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


class Product(Identity):
    """An artifact that a command made or reused."""

    reused: bool

    @property
    def headline(self) -> str:
        return super().headline + (" (reused)" if self.reused else "")


class Timed(Document):
    """What a command took.

    `elapsed_s` is the engine's work, `total_s` all since the command began, imports and the reading of data included;
    `stages` are parts of it, of this process alone.
    """

    elapsed_s: float
    peak_memory_bytes: int
    stages: Sequence[StageTime] = ()
    total_s: float = dataclasses.field(default_factory=lambda: round(time.monotonic() - BEGAN.get(_LOADED), 3))

    def cost(self) -> list[str]:
        """The whole time and that of each stage; the memory."""
        seconds: dict[str, float] = {}  # several artifacts may be made by stages of one name
        for stage in self.stages:
            seconds[stage.name] = seconds.get(stage.name, 0.0) + stage.seconds
        reused = {name for name in seconds if all(s.reused for s in self.stages if s.name == name)}
        own = [f"{name} {'reused' if name in reused else duration(took)}" for name, took in seconds.items()]
        other = self.total_s - sum(stage.seconds for stage in self.stages)
        parts = [*own, f"other {duration(other)}"] if any(not s.reused for s in self.stages) else []
        times = f" ({', '.join(parts)})" if parts else ""
        return [f"{duration(self.total_s)}{times}", f"peak memory {size(self.peak_memory_bytes)}"]


@dataclasses.dataclass(frozen=True)
class Judged:
    """A row of a report with what may be said of it."""

    row: ReportRow

    def document(self) -> dict[str, Any]:
        """The row's document, its verdict, and the 95% intervals of the accuracy and of what stands beside it."""
        from apmctl_core.evaluation.verdict import verdict
        from apmctl_core.intervals import of_mean

        row, said = self.row, verdict(self.row)
        low, high = of_mean(row.accuracies) or (None, None)
        return {
            **row.document(),
            "accuracy_low": low,
            "accuracy_high": high,
            "verdict": said.name,
            "difference_low": said.low,
            "difference_high": said.high,
            "baselines": {name: _beside(row, name) for name in row.baselines},
        }


def _beside(row: ReportRow, name: str) -> dict[str, float | None]:
    """A baseline of a row: its mean accuracy, and that of the set above it, with intervals."""
    from apmctl_core.intervals import of_mean

    accuracies = row.baselines[name]
    mean = fmean(accuracies)
    low, high = of_mean(accuracies, row.draws(name)) or (None, None)
    below, above = row.difference(name) or (None, None)
    return {
        "accuracy_mean": mean,
        "accuracy_low": low,
        "accuracy_high": high,
        "difference": row.accuracy_mean - mean,
        "difference_low": below,
        "difference_high": above,
    }


def readings(metrics: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Metrics as people read them."""
    return [(label(name), reading(name, value)) for name, value in metrics.items()]


def flat(values: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Nested tables as pairs of a dotted key and a value."""
    return [(k, ", ".join(map(str, v)) if isinstance(v, list) else v) for k, v in config.flat(values)]


PLACE = ("network", "labels", "set")  # what a line of a table is about
_SHOWN = ("gain", "coreset_gain", "ior")  # scores that columns of differences show


def accuracies(results: Sequence[Judged], own: str = "distilled") -> list[Block]:
    """The table of an evaluation, in per cent, with other baselines, scores, verdicts and the protocol below it.

    `own` is what the networks were trained on.
    """
    rows = [judged.row for judged in results]
    headers: tuple[str, ...] = ("network", "labels", own)
    if any(row.random_accuracies for row in rows):
        headers += ("random", "difference")
    table = Table(headers, [(row.arch, row.labels, *row.cells())[: len(headers)] for row in rows], wrap=("network",))
    title = f"accuracy in per cent on {tested(rows)} [95% interval]"
    places = [(row.arch, row.labels) for row in rows]
    return [title, table, *_baselines(rows), *scores(rows, places), *_verdicts(rows), *protocol_lines(rows)]


def tested(rows: Sequence[ReportRow]) -> str:
    """What was tested on: where the data has no test split of its own, what stood for it."""
    splits = {str(row.protocol.get("test_split", "the test split")) for row in rows}
    return splits.pop() if len(splits) == 1 else "the test split"


def _baselines(rows: Sequence[ReportRow]) -> list[Block]:
    """Real images other than random ones: a line for each, and what the set is above it."""
    cells = [
        (row.arch, row.labels, name, *row.beside(name)) for row in rows for name in row.baselines if name != "random"
    ]
    if not cells:
        return []
    headers = ("network", "labels", "images", "accuracy", "difference")
    return ["real images that were chosen, or all of them (whole)", Table(headers, cells, wrap=("network",))]


def scores(rows: Sequence[ReportRow], places: Sequence[tuple[str, ...]]) -> list[Block]:
    """The scores that no column of differences shows; `places` are network, labels and perhaps the set of each row."""
    names = list(dict.fromkeys(name for row in rows for name in row.scores if name not in _SHOWN))
    if not names:
        return []
    headers = (*PLACE[: len(places[0])], *map(label, names))
    values = [[reading(name, row.scores.get(name, "-")) for name in names] for row in rows]
    cells = [(*place, *each) for place, each in zip(places, values, strict=True)]
    return ["scores, in fractions", Table(headers, cells, right=headers[len(places[0]) :], wrap=("network",))]


def _verdicts(rows: Sequence[ReportRow]) -> list[str]:
    """A sentence for each row that is not clearly better than random real images."""
    from apmctl_core.evaluation.verdict import verdict

    judged = [(row, verdict(row).sentence) for row in rows]
    return [f"{row.arch}, {row.labels} labels: {translate(text, 'eval')}" for row, text in judged if text]


def protocol_lines(rows: Sequence[ReportRow]) -> list[str]:
    """What all rows share in one line, and what they do not in a line for each of it."""
    shared, differing = [], []
    for name in dict.fromkeys(name for row in rows for name in row.protocol):
        values = [(str(row.protocol[name]), row) for row in rows if name in row.protocol]
        if len(values) == len(rows) and len({value for value, _ in values}) == 1:
            shared.append(f"{label(name)} {values[0][0]}")
        else:
            each = (f"{value} ({row.arch} {row.labels})" for value, row in values)
            differing.append(f"  {label(name)}: {', '.join(each)}")
    return [f"protocol: {', '.join(shared)}", *differing]
