"""The engine against Algorithm 1 written the plain way: same streams, same images."""

from dataclasses import replace

import pytest
import torch
from plain import Plain, plain_images

from apmctl_core.config import ApmConfig, TrainConfig
from apmctl_core.seeding import Stream
from apmctl_core.stages.distill import distill
from tests.helpers import context, toy_dataset, toy_pool

CONFIG = ApmConfig(
    ipc=4, rounds=8, student=TrainConfig(epochs=6, batch=5), checkpoints=3, refresh_every=3, image_lr=2.0, alpha=0.5
)
CASES = {
    "as it is": {},
    "one round a cycle": {"refresh_every": 1, "rounds": 3},
    "fewer images than the set": {"batch": 7},
    "log": {"objective": "log"},
    "augmented images": {"augment_images": True},
    "noise": {"init": "noise"},
    "one checkpoint": {"checkpoints": 1},
    "one step an epoch": {"student": replace(CONFIG.student, batch=256)},
}


def both(config, segment=0, seed=0):
    data, pool = toy_dataset(), toy_pool()
    fast = distill(data, pool, config, context(segment, seed=seed)).images
    return fast, plain_images(data, pool, config, Stream(seed))


@pytest.mark.parametrize("segment", [0, 5])
@pytest.mark.parametrize("case", CASES)
def test_the_engine_ends_at_the_images_of_the_plain_algorithm(case, segment):
    config = replace(CONFIG, **CASES[case])
    fast, plain = both(config, segment)
    start = Plain(toy_dataset(), toy_pool(), config, Stream(0)).images
    assert (plain - start).abs().max() > 0.01
    torch.testing.assert_close(fast, plain, atol=1e-4, rtol=0)


def test_segments_do_not_change_the_plain_algorithm():
    whole = plain_images(toy_dataset(), toy_pool(), CONFIG, Stream(0))
    parts = plain_images(toy_dataset(), toy_pool(), CONFIG, Stream(0), segment=5)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "change",
    [{"student": replace(CONFIG.student, lr=0.05)}, {"alpha": 0.4}, {"image_momentum": 0.4}, {"checkpoints": 2}],
)
def test_the_comparison_sees_a_setting_that_one_side_does_not_follow(change):
    fast, _ = both(CONFIG)
    _, plain = both(replace(CONFIG, **change))
    assert (fast - plain).abs().max() > 1e-4
