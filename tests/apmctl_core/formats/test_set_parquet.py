"""Images of a set as pictures of 8 bits."""

from __future__ import annotations

import pytest
import torch

from apmctl_core.data.preprocessing import Preprocessing
from apmctl_core.formats.set_parquet import is_shard, pixels


@pytest.mark.parametrize(("value", "pixel"), [(-0.4, 0), (0.0, 0), (0.3, 76), (0.5, 128), (1.0, 255), (1.7, 255)])
def test_pixels_are_rounded_and_stay_in_their_range(value: float, pixel: int) -> None:
    space = Preprocessing("standard", {"mean": torch.full((1,), 0.5), "std": torch.full((1,), 0.25)})
    images = torch.full((1, 1, 2, 2), (value - 0.5) / 0.25)
    assert pixels(images, space).flatten().tolist() == [pixel] * 4


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (4, 4), (5, 1)])
def test_images_that_no_picture_can_hold_become_grey(channels: int, shown: int) -> None:
    space = Preprocessing("standard", {"mean": torch.zeros(channels), "std": torch.ones(channels)})
    images = torch.arange(channels).float().view(1, -1, 1, 1).div(channels).expand(2, -1, 2, 2)
    found = pixels(images, space)
    assert found.shape == (2, shown, 2, 2)
    if shown != channels:
        assert torch.equal(found, (images.mean(1, keepdim=True) * 255).round().to(torch.uint8))


def test_shards_are_known_by_their_names() -> None:
    assert is_shard("data/train-00000-of-00001.parquet")
    assert not any(map(is_shard, ("train-0.parquet", "data/test-0.parquet", "data/train-0.csv")))
