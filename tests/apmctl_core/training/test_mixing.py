"""CutMix and random resized crops: what is taken from where, and the share of the loss that goes with it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from apmctl_core.config import TrainConfig
from apmctl_core.machine.segment import Segment
from apmctl_core.seeding import Stream
from apmctl_core.training.augment import draw
from apmctl_core.training.crops import RANDOM_RESIZED_CROP
from apmctl_core.training.examples import TensorSource
from apmctl_core.training.loop import Trainer
from apmctl_core.training.mixing import CUTMIX, CUTMIX_HALF, Mix, cutmix
from apmctl_core.training.procedure import CROSS_ENTROPY, Procedure
from tests.helpers import context


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(count: int, side: int = 8) -> torch.Tensor:
    """Images whose pixels all have the number of their image."""
    return torch.arange(count).float()[:, None, None, None].expand(-1, 3, side, side).contiguous()


@pytest.mark.parametrize("seed", range(8))
def test_a_box_is_the_partners_and_its_area_is_the_partners_share(seed: int) -> None:
    x = numbered(6)
    mixed, partner, share = cutmix(x, rng(seed), probability=1.0)
    foreign = mixed != x
    assert sorted(partner.tolist()) == list(range(6))
    for image, other, changed in zip(mixed, partner, foreign, strict=True):
        assert set(image.unique().tolist()) <= {float(image[0, 0, 0]), float(other), *image[~changed].unique().tolist()}
    moved = partner != torch.arange(6)
    assert foreign[moved].float().mean((1, 2, 3)).tolist() == pytest.approx([1 - share] * int(moved.sum()))


def test_half_of_the_steps_are_mixed_and_shares_are_spread_evenly() -> None:
    x, generator = numbered(4, 32), rng()
    always = torch.tensor([CUTMIX.function(x, generator)[2] for _ in range(400)])
    half = torch.tensor([CUTMIX_HALF.function(x, generator)[2] for _ in range(400)])
    # A box is cut at the edges: on average the image keeps 1 - 0.5 * (1 - loss at the edges), measured 0.63.
    assert 0.55 < float(always.mean()) < 0.7
    assert 0.4 < float((half == 1).float().mean()) < 0.6


def test_the_images_that_were_given_stay_as_they_were() -> None:
    x = numbered(4)
    cutmix(x, rng(), probability=1.0)
    assert torch.equal(x, numbered(4))


def test_the_loss_is_that_of_both_labels_by_their_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    whole = Trainer(network, Procedure(loss=CROSS_ENTROPY), context())
    logits = network(torch.ones(2, 3, 2, 2)).detach()
    a, b = torch.tensor([0, 1]), torch.tensor([2, 2])
    weight = torch.full((2,), 0.5)
    mixed = whole._mixed_loss(torch.ones(2, 3, 2, 2), a, b, torch.tensor(0.25), weight)
    losses = [nn.functional.cross_entropy(logits, targets) for targets in (a, b)]
    assert float(mixed.detach()) == pytest.approx(0.25 * float(losses[0]) + 0.75 * float(losses[1]), abs=1e-6)


def test_the_other_label_is_that_of_the_partner(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 6))
    turned = Mix("turned", lambda x, _: (x, torch.arange(6).roll(1), 0.25))
    trainer = Trainer(network, Procedure(loss=CROSS_ENTROPY, augmentation=None, mix=turned), context())
    seen: list[tuple[torch.Tensor, ...]] = []

    def objective(*given: torch.Tensor) -> torch.Tensor:
        seen.append(given)
        return network(given[0]).sum()

    monkeypatch.setattr(trainer, "_objective", objective)
    images, labels = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 2, 2), torch.arange(6)
    initial = {name: value.clone() for name, value in network.state_dict().items()}
    source = TensorSource(images.contiguous(), labels)
    trainer.fit(initial, source, TrainConfig(epochs=1, batch=6), Stream(0), Segment(images=6))
    ((x, own, other, share, weight),) = seen
    assert x[:, 0, 0, 0].tolist() == own.tolist()
    assert other.tolist() == own.roll(1).tolist()
    assert (float(share), weight.tolist()) == (0.25, [pytest.approx(1 / 6)] * 6)


def test_a_mixed_training_is_the_same_for_every_segment_and_seed_and_differs_from_a_plain_one() -> None:
    images, labels = torch.randn(10, 3, 4, 4, generator=rng()), torch.arange(10) % 3
    config = TrainConfig(epochs=3, batch=4, lr=0.1)

    def weights(segment: int, mix: object = CUTMIX) -> torch.Tensor:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
        procedure = dataclasses.replace(Procedure(loss=CROSS_ENTROPY), mix=mix)
        trainer = Trainer(network, procedure, context())
        initial = {name: value.clone() for name, value in network.state_dict().items()}
        trainer.fit(initial, TensorSource(images, labels), config, Stream(3), Segment(limit=segment, images=4))
        return trainer.weights()["1.weight"]

    assert torch.equal(weights(0), weights(2))
    assert torch.equal(weights(0), weights(0))
    assert not torch.allclose(weights(0), weights(0, None))


def test_a_crop_is_a_part_of_the_image_at_the_size_of_the_image() -> None:
    ramp = torch.linspace(0, 1, 16).expand(200, 1, 16, 16).contiguous()  # grows from left to right
    draws = draw(200, rng(), numbers=RANDOM_RESIZED_CROP.numbers)
    (crops,) = RANDOM_RESIZED_CROP.apply_sorted(ramp, draws, [200])
    assert crops.shape == ramp.shape
    inner = crops[:, 0, 8, 1:-1]  # the outermost pixels are interpolated with the zeros outside
    assert float(inner.min()) >= 0 and float(inner.max()) <= 1
    grows = inner[:, -1] > inner[:, 0]
    assert 0.4 < float(grows.float().mean()) < 0.6  # the others are flipped
    widths = (inner[:, -1] - inner[:, 0]).abs() / (inner.shape[1] - 1) * 15
    assert 0.08**0.5 * 0.85 < float(widths.min()) < 0.4
    assert 0.9 < float(widths.max()) <= 1.01


def test_a_crop_of_all_of_the_image_is_the_image() -> None:
    image = torch.rand(1, 3, 8, 8, generator=rng())
    whole = torch.tensor([[0.0, 1.0, 0.5, 0.5, 0.5, 0.9]])  # all of the area, square, centred, not flipped
    (found,) = RANDOM_RESIZED_CROP.apply_sorted(image, whole, [1])
    assert torch.allclose(found, image, atol=1e-6)
