"""What a kind of artifact is: its folder, its files and how its values are checked. `kinds/` has one file for each."""

from __future__ import annotations

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

    `folder` is its folder in a store; `series` are the names of numbered files, of which it has the first ones;
    `check(artifact, shapes_of)` reads all values of an artifact and raises ArtifactError for what is wrong with them;
    `quick_check(artifact)` does so whenever one is opened, where that takes no time, and returns what it has read.
    """

    name: str
    folder: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    check: Callable[..., object]
    quick_check: Callable[..., object] = lambda artifact: None  # noqa: ARG005

    def has(self, name: str) -> bool:
        """Whether an artifact of this kind may have a file of this name, the manifest itself aside."""
        return name in (*self.required, *self.optional, *self.series, HISTORY)

    def problem(self, names: Collection[str]) -> str | None:
        """What is wrong with the names of an artifact's files, if anything."""
        for name in names:
            if not self.has(name):
                return f"a {self.name} has no file {name[:100]!r}"
        for name in self.required:
            if name not in names:
                return f"a {self.name} needs {name}"
        numbered = tuple(name for name in self.series if name in names)
        whole = numbered == self.series[: len(numbered)]
        return None if whole else "numbered files must count from 000 without a gap"


KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> None:
    """Make a kind known; artifacts of other kinds are refused."""
    KINDS[kind.name] = kind
