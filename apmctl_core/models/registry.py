"""The registry of architectures, and how a network is built from it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from apmctl_core.config import ModelConfig
from apmctl_core.errors import ConfigError

Shape = tuple[int, int, int]  # (C, H, W) of an image
Make = Callable[[int, Shape, int], nn.Module]  # width, shape, number of classes


@dataclass(frozen=True)
class Architecture:
    """A named kind of network; `smallest` is the side in pixels of the smallest images that it takes."""

    name: str
    make: Make
    smallest: int


_REGISTRY: dict[str, Architecture] = {}


def architecture(name: str, *, smallest: int = 1) -> Callable[[Make], Make]:
    """Register the decorated constructor, called with width, image shape (C, H, W) and number of classes.

    A network that depends on its batch in a way that `depends_on_batch` cannot see has an attribute of that name.
    """

    def register(make: Make) -> Make:
        _REGISTRY[name] = Architecture(name, make, smallest)
        return make

    return register


def names() -> tuple[str, ...]:
    """The names of all architectures."""
    return tuple(_REGISTRY)


def get(name: str) -> Architecture:
    """The architecture of a name. Raises ConfigError for one that is not registered."""
    if name not in _REGISTRY:
        near = difflib.get_close_matches(name, _REGISTRY, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"unknown network {name!r}", f"{hint}known: {', '.join(_REGISTRY)}")
    return _REGISTRY[name]


def build(model: ModelConfig, shape: Shape, num_classes: int, seed: int = 0) -> nn.Module:
    """A network with random weights from `seed`, on the CPU; the global random state is left as it was.

    Raises ConfigError for an unknown architecture, and for images that are too small for it.
    """
    arch = get(model.arch)
    if min(shape[1:]) < arch.smallest:
        fitting = [name for name, other in _REGISTRY.items() if other.smallest <= min(shape[1:])]
        raise ConfigError(
            f"{arch.name} needs images of {arch.smallest}x{arch.smallest} pixels or more, not {shape[1]}x{shape[2]}",
            f"choose another `model.arch`: {', '.join(fitting)}",
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
