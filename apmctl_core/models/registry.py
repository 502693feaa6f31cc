"""Networks by name. A name, a width, an image shape and a number of classes make a network, anywhere, the same way."""

from __future__ import annotations

import difflib
import re

import torch
from torch import nn

from apmctl_core.config import ModelConfig
from apmctl_core.errors import ConfigError
from apmctl_core.models.convnet import ConvNet

ARCHITECTURES = tuple(f"convnet{depth}" for depth in range(1, 7))


def build(model: ModelConfig, shape: tuple[int, int, int], num_classes: int, seed: int = 0) -> nn.Module:
    """A network with random weights from `seed`, on the CPU; the global random state is left as it was.

    Raises ConfigError for an unknown architecture and for images too small for its depth.
    """
    depth = depth_of(model.arch)
    if min(shape[1:]) >> depth == 0:
        most = min(shape[1:]).bit_length() - 1
        raise ConfigError(
            f"{model.arch} halves the image {depth} times; {shape[1]}x{shape[2]} pixels are too few",
            f"choose --depth {most} or less",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConvNet(depth, model.width, shape, num_classes)


def depth_of(arch: str) -> int:
    """The depth D of `convnetD`. Raises ConfigError for a name that is not in the registry."""
    if arch not in ARCHITECTURES:
        near = difflib.get_close_matches(arch, ARCHITECTURES, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"unknown network {arch!r}", f"{hint}known: {', '.join(ARCHITECTURES)}")
    return int(re.sub(r"\D", "", arch))


def state_shapes(model: ModelConfig, shape: tuple[int, int, int], num_classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's weights, without allocating them."""
    with torch.device("meta"):
        network = build(model, shape, num_classes)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}
