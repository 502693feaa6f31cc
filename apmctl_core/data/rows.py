"""What a source of images hands over: encoded images in order, with integer labels, and where each one lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Payload = bytes | Path | np.ndarray
"""An image not decoded yet: a file's bytes, a file, or pixels uint8 (H, W) or (H, W, 3)."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Images of one split, N of them.

    `labels` int64 (N,) are values of the source, negative for an image without label; `batches()` starts a new pass
    over the encoded images, in the order of the labels; `where(i)` says for people where image i lies.
    """

    labels: np.ndarray
    batches: Callable[[], Iterable[Sequence[Payload]]]
    where: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Source:
    """An opened source: the training rows and the candidates for the test split, the best first.

    `names` are the class names that integer labels index, or None where the labels' values name the classes;
    `origin` is kept beside the cached data, for people.
    """

    train: Rows
    tests: tuple[Rows, ...]
    names: tuple[str, ...] | None
    origin: str


def in_batches(items: Sequence[Payload], size: int = 256) -> Callable[[], Iterator[Sequence[Payload]]]:
    """The `batches` of items that are all at hand."""

    def batches() -> Iterator[Sequence[Payload]]:
        for start in range(0, len(items), size):
            yield items[start : start + size]

    return batches
