"""What a method of distillation is: its configuration, the first state of the images, one cycle, and its cost.

Shape legend: M images in a set, B drawn for a cycle, C channels, H x W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from apmctl_core.config import DistillConfig
from apmctl_core.data import Dataset
from apmctl_core.machine.cost import Cost
from apmctl_core.machine.interrupts import shielded
from apmctl_core.machine.segment import Segment
from apmctl_core.models import NetworkSize
from apmctl_core.registry import Registry
from apmctl_core.training.context import Context
from apmctl_core.training.examples import random_real_images
from apmctl_core.values import Task, TeacherPool


@dataclass
class ImageState:
    """The images of a run after `cycle` cycles; they change only between cycles.

    `images` float32 (M, C, H, W) and `labels` int64 (M,), on the CPU · `extra` what a method keeps of each image, (M,
    ...) · `metrics` of the latest cycle · `segment` that the latest cycle was computed with.
    """

    images: Tensor
    labels: Tensor
    extra: dict[str, Tensor]
    segment: Segment
    cycle: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    def apply(self, update: Update) -> None:
        """Move the result of a cycle into the state; an interruption waits until it is whole."""
        with shielded():
            if update.others:
                update.others(self)
            self.images[update.index] = update.images.to(self.images.device)
            for name, values in update.extra.items():
                self.extra[name][update.index] = values.to(self.images.device)
            self.metrics = dict(update.metrics)
            self.cycle += 1


@dataclass(frozen=True, kw_only=True)
class Update:
    """What a cycle changes: the drawn images (B, C, H, W), what is kept of each, and readings of the cycle.

    `index` int64 (B,) says which images of the set they are; `others` moves the images that were not drawn, and
    comes first.
    """

    index: Tensor
    images: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    others: Callable[[ImageState], None] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


class Method(ABC):
    """A method at work on one data set with one pool of teachers; `distill` runs its cycles and keeps their state.

    All that is drawn comes from `context.stream` by the number of the cycle, so that a resumed run draws the same.
    """

    def __init__(self, dataset: Dataset, pool: TeacherPool, config: DistillConfig, context: Context) -> None:
        self.dataset = dataset
        self.pool = pool
        self.config = config
        self.context = context

    @property
    @abstractmethod
    def cycles(self) -> int:
        """How many cycles a run has."""

    @property
    def brake(self) -> str:
        """What to lower where the images go astray: settings in backquotes."""
        return "`distill.image_lr`"

    @abstractmethod
    def rounds(self, cycles: int) -> int:
        """How many updates of the images so many cycles make: what progress is counted in."""

    @abstractmethod
    def cycle(self, state: ImageState, segment: Segment) -> Update:
        """One cycle on a state, which is left as it is. Raises NumericsError where a number stops being finite."""

    @classmethod
    @abstractmethod
    def cost(cls, config: DistillConfig, task: Task, size: NetworkSize) -> Cost:
        """What a run asks of the machine, for networks of a size; without disk, which all methods share."""

    def first(self) -> ImageState:
        """The state before the first cycle: `ipc` random real images a class, or noise in their place."""
        labels, images = torch.arange(self.dataset.num_classes).repeat_interleave(self.config.ipc), self.start()
        return ImageState(images, labels, self.extra(images), self.context.segment)

    def start(self) -> Tensor:
        """The images (M, C, H, W) of the first state, the same whenever they are asked for."""
        rng = self.context.stream.at("init").generator()
        if self.config.init == "real":
            return random_real_images(self.dataset, self.config.ipc, self.pool.preprocessing, rng)
        count = self.config.ipc * self.dataset.num_classes
        return torch.randn(count, *self.dataset.shape, generator=rng)

    def extra(self, images: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """What the method keeps of each image beside it, at the beginning."""
        return {}


METHODS: Registry[type[Method]] = Registry("distill.method")


def method(name: str) -> Callable[[type[Method]], type[Method]]:
    """Register a method under the name that `distill.method` gives it."""
    return lambda cls: METHODS.add(name, cls)
