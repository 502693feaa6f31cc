"""What the stages hand to each other: plain values, with no notion of files or stores.

Shape legend: M images in a set, C channels, H x W pixels, K classes, D draws of a random baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from apmctl_core.config import ModelConfig
from apmctl_core.data import packed
from apmctl_core.data.preprocessing import Preprocessing

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Task:
    """What the amount of work depends on: image shape (C, H, W), classes, arithmetic, and images of either split."""

    shape: tuple[int, int, int]
    num_classes: int
    preprocessing: str
    precision: str
    train: int = 0
    test: int = 0

    @property
    def image_bytes(self) -> int:
        """Bytes of an image in float32."""
        return 4 * math.prod(self.shape)

    @property
    def preprocessing_bytes(self) -> int:
        """Bytes of what brings images into the space of the networks, as it is kept."""
        return packed.bytes_of(self.preprocessing, self.shape)


@dataclass(frozen=True, kw_only=True)
class TeacherPool:
    """Trained teachers of one architecture on one data set; `states` may read each from disk when it is asked for."""

    model: ModelConfig
    shape: tuple[int, int, int]
    num_classes: int
    states: Sequence[State]
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """As many random real images as a set has, labelled as the set is: what its accuracy is compared with.

    `index_DM` points into the training split, so that no real image is ever part of an artifact.
    """

    index_DM: Tensor
    logits_DMK: Tensor


@dataclass(frozen=True, kw_only=True)
class DistilledSet:
    """Synthetic images in the space that networks train on, with their logits.

    `images` float32 (M, C, H, W) · `logits` float32 (M, K) · `labels` int64 (M,), the class that each image was
    distilled for · `stage` int64 (M,), the stage of progressive distillation that made it (0 without stages).
    """

    images: Tensor
    logits: Tensor
    labels: Tensor
    stage: Tensor
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    baseline: Baseline | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        c, h, w = self.images.shape[1:]
        return c, h, w

    @property
    def num_classes(self) -> int:
        return self.logits.shape[1]
