"""What the engine reports while it works. Stages call `emit`; whoever runs them decides what to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`done` of `total` units of a stage; `metrics` are the latest readings (losses, rates, bytes)."""

    stage: str
    done: int
    total: int
    unit: str
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Note:
    """A sentence for the user: a fallback that was taken, something reused, something odd in the data."""

    text: str
    level: Literal["info", "warning"] = "info"


Event = Progress | Note
Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """The sink of those who do not listen."""
