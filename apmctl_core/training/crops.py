"""Random resized crops with flips, as networks for ImageNet are trained (Szegedy et al. 2015).

Each image becomes a part of itself: of 8% to all of its area, its sides' ratio between 3/4 and 4/3, enlarged to the
size of the image, and flipped in half of the draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from apmctl_core.training.augment import Augmentation, warped

LEAST_AREA, RATIO = 0.08, 4 / 3


def _crop(x_BCHW: Tensor, draws_B6: Tensor, _: Sequence[int]) -> list[Tensor]:
    area, ratio, across, down, flip = draws_B6[:, 1:].to(x_BCHW.device, x_BCHW.dtype, non_blocking=True).unbind(1)
    area = LEAST_AREA + (1 - LEAST_AREA) * area
    ratio = ((2 * ratio - 1) * math.log(RATIO)).exp()
    width, height = ((area * r).sqrt().clamp(max=1) for r in (ratio, 1 / ratio))
    zero = torch.zeros_like(area)
    mirrored = width * torch.where(flip < 0.5, -1.0, 1.0)
    # From the centre of the image, in units of half its side: where the part's centre may lie without leaving it.
    x, y = ((2 * u - 1) * (1 - size) for u, size in ((across, width), (down, height)))
    return [warped(x_BCHW, torch.stack([mirrored, zero, x, zero, height, y], dim=1))]


RANDOM_RESIZED_CROP = Augmentation("random resized crop and flip", 6, 1, _crop)
