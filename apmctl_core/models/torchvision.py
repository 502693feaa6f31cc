"""`torchvision:NAME`: any classifier of torchvision by its name there, its stem adapted to small images."""

from __future__ import annotations

import difflib
import functools
from typing import Any

import torch
from torch import Tensor, nn

from apmctl_core.errors import ConfigError
from apmctl_core.models import vision
from apmctl_core.models.registry import Architecture, Shape, family

_LARGE = 128  # pixels: images of this side and more keep the stem as it is


@family("torchvision")
def find(name: str) -> Architecture:
    """The architecture of a classifier of torchvision. Raises ConfigError for a name that it does not have."""
    models = vision.models()
    names = models.list_models(module=models)
    if name not in names:
        near = difflib.get_close_matches(name, names, 3) or names[:3]
        hint = f"torchvision has {', '.join(near)} and {len(names) - len(near)} more"
        raise ConfigError(f"`model.arch` cannot be 'torchvision:{name[:40]}'", hint)
    return Architecture(functools.partial(_make, name), smallest=1, scales=False)


def _make(name: str, _: int, shape: Shape, num_classes: int) -> nn.Module:
    network = _original(name, shape, num_classes)
    _adapt(network, shape)
    _try(network, name, shape, num_classes)
    return network


def _original(name: str, shape: Shape, num_classes: int) -> nn.Module:
    """The network with random weights, no second output, and for the image's size where it needs to know it."""
    options: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if name.startswith("vit_"):
        options["image_size"] = shape[1]
    elif name.startswith("maxvit_"):
        options["input_size"] = shape[1:]
    elif name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    try:
        network: nn.Module = vision.models().get_model(name, **options)
    except (ValueError, AssertionError) as e:
        raise _refused(name, shape) from e
    return network


def _adapt(network: nn.Module, shape: Shape) -> None:
    """Let the first convolution take the image's channels, and keep the size of a small image."""
    name, first = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    small = min(shape[1:]) < _LARGE
    kernel, stride, padding = first.kernel_size, first.stride, first.padding
    if small and kernel != stride:  # patches stay patches
        kernel, stride, padding = (3, 3), (1, 1), (1, 1)
    stem = nn.Conv2d(shape[0], first.out_channels, kernel, stride, padding, bias=first.bias is not None)  # type: ignore[arg-type]
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, stem)
    pool = getattr(network, "maxpool", None)
    if small and isinstance(pool, nn.MaxPool2d):
        network.maxpool = nn.Identity()


def _try(network: nn.Module, name: str, shape: Shape, num_classes: int) -> None:
    """Raise ConfigError for a network that fails on images of this shape, or gives something else than logits."""
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(2, *shape))
    except (RuntimeError, ValueError, AssertionError) as e:
        raise _refused(name, shape) from e
    finally:
        network.train()
    if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
        raise _refused(name, shape)


def _refused(name: str, shape: Shape) -> ConfigError:
    problem = f"torchvision's {name} cannot be trained on images of {shape[1]}x{shape[2]} pixels"
    return ConfigError(problem, "set a larger `data.resolution`, or another `model.arch`")
