"""Draws of real images, the same number of every class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from apmctl_core.errors import DataError

if TYPE_CHECKING:
    import torch


def _draw(count: int, take: int, rng: np.random.Generator | torch.Generator) -> np.ndarray:
    if isinstance(rng, np.random.Generator):
        return rng.permutation(count)[:take]
    import torch

    drawn: np.ndarray = torch.randperm(count, generator=rng)[:take].numpy()
    return drawn


def _check(counts: np.ndarray, per_class: int, classes: Sequence[str] | None) -> None:
    short = np.flatnonzero(counts < per_class)
    if not len(counts) or len(short):
        k = int(short[0]) if len(short) else 0
        name, count = (classes[k] if classes else str(k)), int(counts[k]) if len(counts) else 0
        raise DataError(
            f"class '{name}' has {count} image{'' if count == 1 else 's'}, `distill.ipc` {per_class} asks for more",
            f"set `distill.ipc` to {count} or less" if count else "every class needs images",
        )


def stratified_sample(
    labels: np.ndarray,
    per_class: int,
    rng: np.random.Generator | torch.Generator,
    classes: Sequence[str] | None = None,
) -> np.ndarray:
    """Indices int64 (K * per_class,) of images drawn without replacement, those of class 0 first, then of class 1, ...

    `labels` int64 (N,) in 0..K-1; `rng` is a generator of numpy or of torch (on the CPU); `classes` names the classes
    in errors, and says how many there are. Raises DataError if a class has fewer than `per_class` images.
    """
    labels = np.asarray(labels)
    counts = np.bincount(labels, minlength=len(classes or ()))
    _check(counts, per_class, classes)
    order = np.argsort(labels, kind="stable")
    starts = np.cumsum(counts) - counts
    drawn = [order[start + _draw(int(n), per_class, rng)] for start, n in zip(starts, counts, strict=True)]
    return np.concatenate(drawn).astype(np.int64)
