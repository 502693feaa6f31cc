"""CutMix (Yun et al. 2019): a box of each image of a batch is that of another one, and so is its share of the loss."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# Images (B, C, H, W) and a generator on the CPU -> mixed images, each image's partner (B,), and its own share.
Mixed = tuple[Tensor, Tensor, float]


@dataclass(frozen=True)
class Mix:
    """How the images of a batch are mixed; `name` is what reports call it."""

    name: str
    function: Callable[[Tensor, torch.Generator], Mixed]


def cutmix(x_BCHW: Tensor, rng: torch.Generator, *, probability: float) -> Mixed:
    """CutMix of a batch with the given probability; the box's area is drawn uniformly (Beta(1, 1))."""
    happens, own, across, down = torch.rand(4, generator=rng).tolist()
    partner = torch.randperm(len(x_BCHW), generator=rng).to(x_BCHW.device)
    if happens >= probability:
        return x_BCHW, partner, 1.0
    (top, bottom), (left, right) = (
        _span(centre, (1 - own) ** 0.5, size) for centre, size in zip((down, across), x_BCHW.shape[2:], strict=True)
    )
    mixed = x_BCHW.clone()
    mixed[:, :, top:bottom, left:right] = x_BCHW[partner, :, top:bottom, left:right]
    return mixed, partner, 1 - (bottom - top) * (right - left) / (x_BCHW.shape[2] * x_BCHW.shape[3])


def _span(centre: float, length: float, size: int) -> tuple[int, int]:
    """The pixels of a side that a box covers, whose centre and length are fractions of it."""
    middle, half = int(centre * size), int(length * size) // 2
    return max(0, middle - half), min(size, middle + half)


CUTMIX = Mix("cutmix", functools.partial(cutmix, probability=1.0))
CUTMIX_HALF = Mix("cutmix in half of the steps", functools.partial(cutmix, probability=0.5))
