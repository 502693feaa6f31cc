"""What results of commands share: their base, how documents name artifacts, and the tables of accuracies.

A result is a dataclass whose fields are the JSON document, with the forms that people read. Fields may be added; none
is taken away or changes its meaning without a note in the changelog (docs/scripting.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, dataclass_transform

from apmctl.blocks import Block, Table
from apmctl.text import label, reading
from apmctl_core import config

if TYPE_CHECKING:
    from apmctl_core.artifacts.kinds.reports import ReportRow


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


def readings(metrics: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Metrics as people read them."""
    return [(label(name), reading(name, value)) for name, value in metrics.items()]


def flat(values: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Nested tables as pairs of a dotted key and a value."""
    return [(k, ", ".join(map(str, v)) if isinstance(v, list) else v) for k, v in config.flat(values)]


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
    shared, differing = [], []
    for name in dict.fromkeys(name for row in rows for name in row.protocol):
        values = [str(row.protocol.get(name)) for row in rows]
        if len(set(values)) == 1:
            shared.append(f"{label(name)} {values[0]}")
        else:
            each = (f"{value} ({row.arch} {row.labels})" for value, row in zip(values, rows, strict=True))
            differing.append(f"  {label(name)}: {', '.join(each)}")
    return [f"protocol: {', '.join(shared)}", *differing]
