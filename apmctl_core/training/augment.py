"""Differentiable siamese augmentation (DSA, Zhao & Bilen 2021a).

Each image draws one of six transformations, or all of a batch draw the same one; each draws its strength. The draw is
separated from its application: `draw` makes numbers from a generator, `apply` is a pure function of images and numbers.
Images are grouped by their transformation, so that each pays for its own alone: a batch takes a few dozen small
operations, no Python per image, and an image is treated the same whatever stands beside it.

Shape legend: B images, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TRANSFORMS = ("color", "cutout", "flip", "crop", "scale", "rotate")
BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
CROP_PAD, CUTOUT, FLIP, SCALE, ROTATE = 0.125, 0.5, 0.5, 1.2, 15.0

NUMBERS = 4  # one that chooses the transformation, three for its strength


@dataclass(frozen=True)
class Augmentation:
    """A random change of images: `numbers` uniform ones an image, the first of which chooses one of `kinds`.

    `apply_sorted` gets images (B, C, H, W) in the order of their kinds, their numbers (B, numbers; on the CPU) and how
    many there are of each kind, and returns them by kind. `name` is what reports call it.
    """

    name: str
    numbers: int
    kinds: int
    apply_sorted: Callable[[Tensor, Tensor, Sequence[int]], list[Tensor]]


def draw(count: int, rng: torch.Generator, sharing: int = 1, numbers: int = NUMBERS) -> Tensor:
    """Uniform numbers (count, numbers) in [0, 1) on the CPU, which decide the augmentation of `count` images.

    Each `sharing` images in turn share their transformation, not its strength.
    """
    draws = torch.rand(count, numbers, generator=rng)
    draws[:, 0] = draws[::sharing, 0].repeat_interleave(sharing)[:count]
    return draws


def chosen(draws: Tensor, kinds: int = len(TRANSFORMS)) -> Tensor:
    """Which of `kinds` transformations each image draws, (N,)."""
    return (draws[:, 0] * kinds).long().clamp(max=kinds - 1)


def apply(x_BCHW: Tensor, draws_B4: Tensor) -> Tensor:
    """Augment images (B, C, H, W) as `draws_B4` (B, 4; on the CPU) says; differentiable in the images, shape kept."""
    # The groups are found on the CPU, where the draws are: no device is waited for.
    chosen_B = chosen(draws_B4)
    order = chosen_B.argsort(stable=True)
    sizes = torch.bincount(chosen_B, minlength=len(TRANSFORMS)).tolist()
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    sorted_BCHW = x_BCHW.index_select(0, order.to(x_BCHW.device, non_blocking=True))
    parts = apply_sorted(sorted_BCHW, draws_B4[order], sizes)
    return torch.cat(parts).index_select(0, back.to(x_BCHW.device, non_blocking=True))


def apply_sorted(x_BCHW: Tensor, draws_B4: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """What `apply` does, to images that lie in the order of their transformations, `sizes` many of each.

    Returns the images by transformation.
    """
    a, b, c = draws_B4[:, 1:].to(x_BCHW.device, x_BCHW.dtype, non_blocking=True).unbind(1)
    parts, start = [], 0
    for transform, size in zip((_color, _cutout, _flip), sizes, strict=False):
        at = slice(start, start + size)
        parts.append(transform(x_BCHW[at], a[at], b[at], c[at]))
        start += size
    warp = _matrices(a[start:], b[start:], sizes[3:], x_BCHW.shape[2:])
    return [*parts, *warped(x_BCHW[start:], warp).split(sizes[3:])]


DSA = Augmentation("dsa", NUMBERS, len(TRANSFORMS), apply_sorted)


def _color(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Brightness, then saturation around each pixel's grey, then contrast around the image's mean."""
    brightness, saturation, contrast = (v[:, None, None, None] for v in (a, b, c))
    x = x + (brightness - 0.5) * BRIGHTNESS
    grey = x.mean(dim=1, keepdim=True)
    x = torch.lerp(grey, x, saturation * SATURATION)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean, x, contrast + CONTRAST)


def _shift(u: Tensor, size: int) -> Tensor:
    """A whole number of pixels between minus and plus an eighth of `size`, from a uniform number."""
    most = int(size * CROP_PAD + 0.5)
    return (u * (2 * most + 1)).floor() - most


def _cutout(x: Tensor, a: Tensor, b: Tensor, _: Tensor) -> Tensor:
    """A square of half the side, centred anywhere, set to zero."""
    h, w = x.shape[2:]
    hole = _hole(a, h)[:, None, :, None] & _hole(b, w)[:, None, None, :]
    return x * (~hole).to(x.dtype)  # four times as fast as masked_fill on the CPU


def _hole(u: Tensor, size: int) -> Tensor:
    """Which of `size` positions a hole covers whose centre is drawn by the uniform number u; (B, size) bool."""
    length = int(size * CUTOUT + 0.5)
    first = (u * (size + 1 - length % 2)).floor()[:, None] - length // 2
    at = torch.arange(size, device=u.device)[None]
    return (at >= first) & (at < first + length)


def _flip(x: Tensor, a: Tensor, _b: Tensor, _c: Tensor) -> Tensor:
    """Left and right swapped in half of the draws."""
    return torch.where((a < FLIP)[:, None, None, None], x.flip(3), x)


def _matrices(a: Tensor, b: Tensor, sizes: Sequence[int], side: torch.Size) -> Tensor:
    """The 2x3 matrices (n, 6) of warps: of crops, then of scalings, then of rotations, `sizes` many of each."""
    (crop_a, scale_a, angle), (crop_b, scale_b, _) = a.split(sizes), b.split(sizes)
    # A shift by whole pixels, up to an eighth of the side.
    one, zero = torch.ones_like(crop_a), torch.zeros_like(crop_a)
    h, w = side
    crop = [one, zero, _shift(crop_a, w) * (2 / w), zero, one, _shift(crop_b, h) * (2 / h)]
    # Each axis scaled by a factor between 1 / 1.2 and 1.2.
    zero = torch.zeros_like(scale_a)
    x, y = (1 / SCALE + (SCALE - 1 / SCALE) * u for u in (scale_a, scale_b))
    scale = [x, zero, zero, zero, y, zero]
    # A rotation by up to 15 degrees either way.
    angle = (angle - 0.5) * (2 * ROTATE * math.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rotate = [cos, -sin, zero, sin, cos, zero]
    return torch.cat([torch.stack(rows, dim=1) for rows in (crop, scale, rotate)])


def warped(x: Tensor, matrix_N6: Tensor) -> Tensor:
    """A bilinear affine warp, one 2x3 matrix an image; what comes from outside the image is zero."""
    h, w = x.shape[2:]
    across = _centres(w, x)[None, None, :]
    down = _centres(h, x)[None, :, None]
    m = matrix_N6.T[:, :, None, None]
    grid = x.new_empty(len(x), h, w, 2)
    # All that is small is added up first: each coordinate is written once.
    torch.add(m[0] * across + m[2], m[1] * down, out=grid.select(3, 0))
    torch.add(m[3] * across + m[5], m[4] * down, out=grid.select(3, 1))
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _centres(size: int, like: Tensor) -> Tensor:
    """The centres of `size` pixels on an axis from -1 to 1."""
    return (torch.arange(size, device=like.device, dtype=like.dtype) * 2 + 1) / size - 1
