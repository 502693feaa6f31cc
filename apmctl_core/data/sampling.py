"""Draws of real images, the same number of every class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from apmctl_core.errors import DataError

if TYPE_CHECKING:
    import torch


def require_images(labels: np.ndarray, per_class: int, classes: Sequence[str] = ()) -> np.ndarray:
    """The number of images of each class, int64 (K,), for `labels` int64 (N,) in 0..K-1.

    `classes` names the classes in errors, and says how many there are. Raises DataError if one has fewer than
    `per_class` images.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if not len(counts) or counts.min() < per_class:
        k = int(np.argmax(counts < per_class)) if len(counts) else 0
        name, count = classes[k] if classes else k, int(counts[k]) if len(counts) else 0
        raise DataError(
            f"class '{name}' has {count} image{'' if count == 1 else 's'}, `distill.ipc` {per_class} asks for more",
            f"set `distill.ipc` to {count} or less" if count else "every class needs images",
        )
    return counts


def stratified_sample(
    labels: np.ndarray, per_class: int, rng: torch.Generator, classes: Sequence[str] = ()
) -> np.ndarray:
    """Indices int64 (K * per_class,) of images drawn without replacement, those of class 0 first, then of class 1, ...

    `rng` is on the CPU; the others, and errors, as in `require_images`.
    """
    import torch

    counts = require_images(labels, per_class, classes)
    order = np.argsort(labels, kind="stable")
    starts = np.cumsum(counts) - counts
    drawn = [
        order[start + torch.randperm(n, generator=rng)[:per_class].numpy()]
        for start, n in zip(starts, counts.tolist(), strict=True)
    ]
    return np.concatenate(drawn).astype(np.int64)
