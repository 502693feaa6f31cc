"""What a loaded data set is: memory-mapped arrays, class names and a fingerprint."""

from __future__ import annotations

import contextlib
import mmap
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Split:
    """One split: `images` uint8 (N, C, H, W) and `labels` int64 (N,) in 0..K-1, both read-only memory maps."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as it is decoded in the cache.

    `classes` are in the order of the labels; `fingerprint` is the sha256 (64 hex digits) over shapes, images, labels
    and class names of both splits, so that equal fingerprints mean equal data wherever it was read from. `split` says
    what is tested on, in words (None: decoded by a version that kept no record of it), and `notes` what everybody who
    reads the data is told: where the test split is not an official one, and which images were left out.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    fingerprint: str
    split: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        c, h, w = self.train.images.shape[1:]
        return c, h, w

    @property
    def num_classes(self) -> int:
        return len(self.classes)


def release(array: np.ndarray) -> None:
    """Give the pages of a memory-mapped array back to the system; they are read again when they are needed.

    Pages of a map count as resident memory until then, so a pass over a large data set calls this now and then.
    Nothing happens to arrays that are no memory map, or where the system has no such call.
    """
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        with contextlib.suppress(OSError, ValueError):
            base.madvise(mmap.MADV_DONTNEED)
