"""The published settings (APM, Table A9, as in METHOD)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from apmctl_core.config.recipe import Preprocessing


@dataclass(frozen=True)
class Row:
    """The settings of one data set and IPC; `batch` 0 is the whole set."""

    dataset: str
    classes: int
    ipc: int
    arch: str
    preprocessing: Preprocessing
    image_lr: float
    student_lr: float
    eval_epochs: int
    batch: int

    @property
    def step(self) -> float:
        """Learning rate of one image: the loss is a mean over B, so this is what carries over to another B."""
        return self.image_lr / (self.batch or self.ipc * self.classes)


TABLE = (
    Row("cifar10", 10, 50, "convnet3", "zca", 1, 0.02, 1000, 0),
    Row("cifar10", 10, 500, "convnet3", "zca", 1, 0.02, 1000, 2500),
    Row("cifar10", 10, 1000, "convnet3", "zca", 1, 0.02, 600, 2500),
    Row("cifar100", 100, 10, "convnet3", "zca", 1, 0.02, 1000, 0),
    Row("cifar100", 100, 50, "convnet3", "zca", 1, 0.04, 1000, 2500),
    Row("cifar100", 100, 100, "convnet3", "zca", 1, 0.04, 600, 2500),
    Row("tiny-imagenet", 200, 10, "convnet4", "standard", 20, 0.1, 1000, 500),
    Row("tiny-imagenet", 200, 50, "convnet4", "standard", 40, 0.1, 1000, 500),
    Row("tiny-imagenet", 200, 100, "convnet4", "standard", 40, 0.1, 600, 500),
    Row("imagenet-1k", 1000, 10, "convnet4", "standard", 20, 0.1, 1000, 500),
    Row("imagenet-1k", 1000, 50, "convnet4", "standard", 20, 0.1, 600, 500),
    Row("imagenet-1k", 1000, 100, "convnet4", "standard", 20, 0.1, 600, 500),
)


def nearest(dataset: str, ipc: int | None) -> Row:
    """The row of the data set whose IPC is nearest; of CIFAR-10 for a data set that has none."""
    rows = [row for row in TABLE if row.dataset == dataset] or [TABLE[0]]
    return min(rows, key=lambda row: abs(math.log(row.ipc / (ipc or row.ipc))))
