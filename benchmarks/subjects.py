"""What is measured: data of noise, untrained teachers, and the engine in a child, one refresh cycle at a time.

Speed and memory do not depend on what the images show or the teachers know, so neither is real.
Shape legend: M images in a set, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from children import Channel, Paced, peak_bytes

from apmctl_core.config import ApmConfig, ModelConfig, from_dict
from apmctl_core.data import Dataset, Split, load
from apmctl_core.data.preprocessing import Preprocessing
from apmctl_core.events import Emit, silent
from apmctl_core.machine import memory
from apmctl_core.machine.cost import Cost
from apmctl_core.machine.runtime import Runtime, resolve
from apmctl_core.methods import METHODS
from apmctl_core.models import build, size_of
from apmctl_core.seeding import Stream
from apmctl_core.stages.distill import distill
from apmctl_core.training.context import Context
from apmctl_core.values import State, Task, TeacherPool

Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A distillation to be measured: its shape (C, H, W), network and settings."""

    shape: Shape
    classes: int
    model: ModelConfig
    config: ApmConfig

    @classmethod
    def of(cls, values: dict[str, Any]) -> Setting:
        """A setting out of the plain values that a child is given: shape, classes, arch, width, and ApmConfig's."""
        rest = dict(values)
        shape, classes = tuple(rest.pop("shape")), rest.pop("classes")
        model = ModelConfig(arch=rest.pop("arch"), width=rest.pop("width"))
        return cls(shape=shape, classes=classes, model=model, config=from_dict(ApmConfig, rest))

    def cost(self, precision: str) -> Cost:
        """What the engine takes this distillation to need."""
        task = Task(
            shape=self.shape, num_classes=self.classes, train=0, test=0, preprocessing="standard", precision=precision
        )
        size = size_of(self.model, self.shape, self.classes)
        return METHODS[self.config.method].cost(self.config, task, size)

    @property
    def image_bytes(self) -> int:
        """Bytes of all synthetic images as float32, without their momentum, which takes as many."""
        return 4 * self.config.ipc * self.classes * int(np.prod(self.shape))


def context(runtime: Runtime, cost: Cost, precision: str, emit: Emit = silent) -> Context:
    """The context of a stage of the engine; whether it is compiled is the runtime's."""
    return Context(stream=Stream(0), runtime=runtime.for_cost(cost, emit), precision=precision, emit=emit)


def noise(shape: Shape, classes: int, *, train: int, test: int = 1, seed: int = 0) -> Dataset:
    """A data set of random pixels, `train` and `test` images a class."""
    rng = np.random.default_rng(seed)

    def split(count: int) -> Split:
        labels = np.arange(classes, dtype=np.int64).repeat(count)
        return Split(rng.integers(0, 256, (len(labels), *shape), dtype=np.uint8), labels)

    names = tuple(f"class {k}" for k in range(classes))
    return Dataset("noise", names, split(train), split(test), "0" * 64)


def dataset_of(setting: Setting, data: str | None, cache: str | None) -> Dataset:
    """The real CIFAR-10 from a folder of parquet, decoded into `cache`; noise where none is given."""
    if data and cache:
        return load("cifar10", Path(cache), path=Path(data))
    return noise(setting.shape, setting.classes, train=setting.config.ipc if setting.config.init == "real" else 1)


def standard(channels: int) -> Preprocessing:
    """Pixels around zero with about unit deviation."""
    return Preprocessing("standard", {"mean": torch.full((channels,), 0.5), "std": torch.full((channels,), 0.29)})


def untrained(setting: Setting, count: int = 2) -> TeacherPool:
    """A pool of networks with random weights."""
    states: list[State] = [
        build(setting.model, setting.shape, setting.classes, seed).state_dict() for seed in range(count)
    ]
    return TeacherPool(
        model=setting.model,
        shape=setting.shape,
        num_classes=setting.classes,
        states=states,
        preprocessing=standard(setting.shape[0]),
    )


def serve_engine(channel: Channel, setting: Setting, options: dict[str, Any]) -> None:
    """Distil in a child, one refresh cycle for each request of the parent.

    `options`: device, precision, compile, segment, and data with cache where the images are to start from real ones.
    """
    device = torch.device(options["device"])
    paced = Paced(channel, lambda: memory.peak(device) if device.type == "cuda" else peak_bytes())
    runtime = resolve(options["device"], options["compile"], options["segment"])
    dataset = dataset_of(setting, options.get("data"), options.get("cache"))
    pool = untrained(setting)
    with paced.started():
        cost = setting.cost(options["precision"])
        distill(dataset, pool, setting.config, context(runtime, cost, options["precision"], paced))
