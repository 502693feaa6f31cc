"""What a kind of artifact is: its folder, its files and how its values are checked. `kinds/` has one file for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from apmctl_core.config import ModelConfig

HISTORY = "events.jsonl"  # any artifact may have one

Shapes = Mapping[str, tuple[int, ...]]
# Names and shapes of the weights of a network, given the shape of the images (C, H, W) and the number of classes.
ShapesOf = Callable[[ModelConfig, tuple[int, int, int], int], Shapes]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of artifact.

    `folder` is its folder in a store; `series` matches the names of numbered files, with the number as its group;
    `check(artifact, shapes_of)` reads all values of an artifact and raises ArtifactError for what is wrong with them.
    """

    name: str
    folder: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    series: re.Pattern[str] | None = None
    check: Callable[..., object]

    def has(self, name: str) -> bool:
        """Whether an artifact of this kind may have a file of this name, the manifest itself aside."""
        return name in (*self.required, *self.optional, HISTORY) or self._number(name) is not None

    def problem(self, names: Collection[str]) -> str | None:
        """What is wrong with the names of an artifact's files, if anything."""
        for name in names:
            if not self.has(name):
                return f"a {self.name} has no file {name[:100]!r}"
        for name in self.required:
            if name not in names:
                return f"a {self.name} needs {name}"
        numbers = sorted(number for name in names if (number := self._number(name)) is not None)
        return None if numbers == list(range(len(numbers))) else "numbered files must count from 000 without a gap"

    def _number(self, name: str) -> int | None:
        match = self.series.fullmatch(name) if self.series else None
        return int(match[1]) if match else None


KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> None:
    """Make a kind known; artifacts of other kinds are refused."""
    KINDS[kind.name] = kind
