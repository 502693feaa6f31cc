"""The registry of architectures, and how a network is built from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from apmctl_core.config import ModelConfig
from apmctl_core.errors import ConfigError
from apmctl_core.registry import Registry

Shape = tuple[int, int, int]  # (C, H, W) of an image
Make = Callable[[int, Shape, int], nn.Module]  # width, shape, number of classes


@dataclass(frozen=True)
class Architecture:
    """A kind of network; `smallest` is the side in pixels of the smallest images that it takes."""

    make: Make
    smallest: int


ARCHITECTURES: Registry[Architecture] = Registry("model.arch")


def architecture(name: str, *, smallest: int = 1) -> Callable[[Make], Make]:
    """Register the decorated constructor, called with width, image shape (C, H, W) and number of classes.

    A network that depends on its batch in a way that `depends_on_batch` cannot see has an attribute of that name.
    """

    def register(make: Make) -> Make:
        ARCHITECTURES.add(name, Architecture(make, smallest))
        return make

    return register


def build(model: ModelConfig, shape: Shape, num_classes: int, seed: int = 0) -> nn.Module:
    """A network with random weights from `seed`, on the CPU; the global random state is left as it was.

    Raises ConfigError for an unknown architecture, and for images that are too small for it.
    """
    arch, side = ARCHITECTURES[model.arch], min(shape[1:])
    if side < arch.smallest:
        raise ConfigError(
            f"{model.arch} needs images of {arch.smallest}x{arch.smallest} pixels or more, not {shape[1]}x{shape[2]}",
            f"for `model.arch`, choose one of: {', '.join(n for n, a in ARCHITECTURES.items() if a.smallest <= side)}",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return arch.make(model.width, shape, num_classes)


def check(model: ModelConfig, shape: Shape, num_classes: int) -> None:
    """Raise what `build` would raise, without allocating weights."""
    with torch.device("meta"):
        build(model, shape, num_classes)


def depends_on_batch(network: nn.Module) -> bool:
    """Whether training sees an image otherwise beside other images: batch statistics, or random draws as dropout's.

    A batch of such a network is neither cut into segments nor padded.
    """
    known = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    return any(isinstance(m, known) or getattr(m, "depends_on_batch", False) for m in network.modules())
