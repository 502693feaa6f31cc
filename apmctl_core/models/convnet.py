"""ConvNet-D, the network of the field: D blocks of convolution, normalisation, ReLU and pooling, then one layer."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor, nn

from apmctl_core.models.norms import VARIANTS, norm_layer
from apmctl_core.models.registry import architecture

DEPTHS = range(1, 7)
_POOLS: dict[str, Callable[[], nn.Module]] = {
    "avg": lambda: nn.AvgPool2d(2),
    "max": lambda: nn.MaxPool2d(2),
    "nopool": nn.Identity,
}


class ConvNet(nn.Module):
    """ConvNet-D (Gidaris & Komodakis 2018): D blocks of conv 3x3, instance norm, ReLU, 2x2 average pooling.

    `norm` and `pool` name other layers in their place. Input (B, C, H, W), output logits (B, K).
    """

    def __init__(
        self,
        depth: int,
        width: int,
        shape: tuple[int, int, int],
        num_classes: int,
        norm: str = "instance",
        pool: str = "avg",
    ) -> None:
        super().__init__()
        channels, height, side = shape
        shrinks = 1 if pool == "nopool" else 2
        blocks: list[nn.Module] = []
        for _ in range(depth):
            blocks += [nn.Conv2d(channels, width, 3, padding=1), norm_layer(norm, width), nn.ReLU(inplace=True)]
            blocks.append(_POOLS[pool]())
            channels, height, side = width, height // shrinks, side // shrinks
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels * height * side, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x_BCHW).flatten(1))
        return logits


for depth in DEPTHS:
    architecture(
        f"convnet{depth}", smallest=2**depth, variants={**VARIANTS, **{name: {"pool": name} for name in _POOLS}}
    )(functools.partial(ConvNet, depth))


def deepest(side: int) -> str:
    """The name of the deepest ConvNet that leaves 4x4 pixels of images of this side, or the shallowest there is."""
    return f"convnet{min(DEPTHS[-1], max(DEPTHS[0], side.bit_length() - 3))}"
