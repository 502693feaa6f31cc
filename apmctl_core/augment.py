"""Differentiable siamese augmentation (DSA, Zhao & Bilen 2021a) with a draw per image.

Each image of a batch draws one of six transformations and its strength. The draw is separated from its
application: `draw` makes numbers from a generator, `apply` is a pure function of images and numbers, which can
be compiled and differentiated. An image whose transformation is another one gets the identity, so that a whole
batch is one warp, one affine map of its colours and one mask, with no Python per image.

Shape legend: B images, C channels, H x W pixels, P numbers an image.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TRANSFORMS = ("color", "crop", "cutout", "flip", "scale", "rotate")
BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
CROP_PAD, CUTOUT, FLIP, SCALE, ROTATE = 0.125, 0.5, 0.5, 1.2, 15.0

NUMBERS = 4  # one that chooses the transformation, three for its strength


def draw(count: int, rng: torch.Generator) -> Tensor:
    """Uniform numbers (count, 4) in [0, 1), which decide the augmentation of `count` images."""
    return torch.rand(count, NUMBERS, generator=rng)


def apply(x_BCHW: Tensor, draws_BP: Tensor) -> Tensor:
    """Augment images (B, C, H, W) as `draws_BP` (B, 4) says; differentiable in the images, shape kept."""
    chosen_B = (draws_BP[:, 0] * len(TRANSFORMS)).long().clamp(max=len(TRANSFORMS) - 1)
    is_ = {name: chosen_B == i for i, name in enumerate(TRANSFORMS)}
    a, b, c = draws_BP[:, 1], draws_BP[:, 2], draws_BP[:, 3]
    x_BCHW = _warp(x_BCHW, is_, a, b)
    x_BCHW = _color(x_BCHW, is_["color"], a, b, c)
    return _cutout(x_BCHW, is_["cutout"], a, b)


def _warp(x_BCHW: Tensor, is_: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Crop, flip, scale and rotate as one bilinear warp; what comes from outside the image is zero."""
    h, w = x_BCHW.shape[2:]
    one, zero = torch.ones_like(a), torch.zeros_like(a)
    angle = torch.where(is_["rotate"], (a - 0.5) * (2 * ROTATE * math.pi / 180), zero)
    scale = 1 / SCALE + (SCALE - 1 / SCALE) * torch.stack([a, b])
    scale_x, scale_y = torch.where(is_["scale"], scale, one)
    mirror = torch.where(is_["flip"] & (a < FLIP), -one, one)
    shift_x = torch.where(is_["crop"], _shift(a, w) * (2 / w), zero)
    shift_y = torch.where(is_["crop"], _shift(b, h) * (2 / h), zero)
    cos, sin = angle.cos(), angle.sin()
    rows = [cos * scale_x * mirror, -sin * scale_y, shift_x, sin * scale_x * mirror, cos * scale_y, shift_y]
    theta = torch.stack(rows, dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(x_BCHW.shape), align_corners=False)
    return F.grid_sample(x_BCHW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _shift(u: Tensor, size: int) -> Tensor:
    """A whole number of pixels between minus and plus an eighth of `size`, from a uniform number."""
    most = int(size * CROP_PAD + 0.5)
    return (u * (2 * most + 1)).floor() - most


def _color(x_BCHW: Tensor, on: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Brightness, then saturation around each pixel's grey, then contrast around the image's mean."""
    brightness = torch.where(on, (a - 0.5) * BRIGHTNESS, 0.0)[:, None, None, None]
    saturation = torch.where(on, b * SATURATION, 1.0)[:, None, None, None]
    contrast = torch.where(on, c + CONTRAST, 1.0)[:, None, None, None]
    x_BCHW = x_BCHW + brightness
    grey = x_BCHW.mean(dim=1, keepdim=True)
    x_BCHW = (x_BCHW - grey) * saturation + grey
    mean = x_BCHW.mean(dim=(1, 2, 3), keepdim=True)
    return (x_BCHW - mean) * contrast + mean


def _cutout(x_BCHW: Tensor, on: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A square of half the side, centred anywhere, set to zero."""
    h, w = x_BCHW.shape[2:]
    rows = _hole(a, h, x_BCHW.device)[:, :, None]
    columns = _hole(b, w, x_BCHW.device)[:, None, :]
    hole = (rows & columns & on[:, None, None])[:, None]
    return torch.where(hole, 0.0, x_BCHW)


def _hole(u: Tensor, size: int, device: torch.device) -> Tensor:
    """Which of `size` positions a hole covers whose centre is drawn by the uniform number u; (B, size) bool."""
    length = int(size * CUTOUT + 0.5)
    first = (u * (size + 1 - length % 2)).floor() - length // 2
    at = torch.arange(size, device=device)[None]
    return (at >= first[:, None]) & (at < first[:, None] + length)
