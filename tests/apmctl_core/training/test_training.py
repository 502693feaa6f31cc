import copy

import pytest
import torch

from apmctl_core.models.registry import build
from apmctl_core.seeding import Stream
from apmctl_core.training import augment
from apmctl_core.training.examples import TensorSource
from apmctl_core.training.loop import Schedule, Trainer, cross_entropy, match_logits
from tests.helpers import MODEL, runtime

SHAPE, CLASSES = (3, 8, 8), 4
SCHEDULE = Schedule(epochs=4, lr=0.05, momentum=0.9, weight_decay=5e-4, batch=8)


def source(count=20, seed=0, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    return TensorSource(
        torch.randn(count, *SHAPE, generator=rng, dtype=dtype), torch.randn(count, CLASSES, generator=rng, dtype=dtype)
    )


def trained(segment=0, seed=0, augmented=True, dtype=torch.float32, **fit):
    network = build(MODEL, SHAPE, CLASSES, 1).to(dtype)
    initial = copy.deepcopy(network.state_dict())
    trainer = Trainer(network, match_logits, runtime(segment), "fp32", batch=8, augmented=augmented)
    trainer.fit(initial, source(dtype=dtype), SCHEDULE, Stream(seed), **fit)
    return trainer


def plain_training(dtype):
    """The same four epochs written the plain way: one batch, one backward, torch's own SGD."""
    network = build(MODEL, SHAPE, CLASSES, 1).to(dtype)
    data = source(dtype=dtype)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for epoch in range(4):
        optimiser.param_groups[0]["lr"] = 0.05 if epoch < 2 else 0.005
        rng = Stream(0).at("epoch", epoch).generator()
        order = torch.randperm(20, generator=rng)
        draws = augment.draw(20, rng)
        for start in range(0, 20, 8):
            picked = order[start : start + 8]
            x = augment.apply(data.images[picked], draws[start : start + 8])
            loss = (network(x).float() - data.targets[picked]).abs().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return network.state_dict()


@pytest.mark.parametrize("segment", [0, 1, 3, 5])
def test_training_equals_the_plain_loop_for_every_segment(segment):
    weights = trained(segment).weights()
    for name, expected in plain_training(torch.float32).items():
        torch.testing.assert_close(weights[name], expected, atol=2e-5, rtol=1e-4)


def test_the_same_stream_trains_the_same_weights_and_another_stream_others():
    first, again, other = (trained(seed=seed).weights() for seed in (0, 0, 1))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_going_on_from_a_saved_epoch_ends_bit_for_bit_the_same():
    kept = {}
    trainer = None

    def keep(epoch, _):
        if epoch == 3:
            kept["state"] = trainer.progressed(epoch)

    network = build(MODEL, SHAPE, CLASSES, 1)
    trainer = Trainer(network, match_logits, runtime(), "fp32", batch=8)
    trainer.fit(copy.deepcopy(network.state_dict()), source(), SCHEDULE, Stream(0), after_epoch=keep)
    whole = trainer.weights()
    resumed = trained(resume=kept["state"]).weights()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_cross_entropy_training_learns_separable_classes():
    labels = torch.arange(32) % CLASSES
    images = torch.randn(32, *SHAPE, generator=torch.Generator().manual_seed(0)) * 0.1
    images += torch.nn.functional.one_hot(labels, CLASSES)[:, None, None, :].repeat_interleave(2, 3)
    network = build(MODEL, SHAPE, CLASSES, 0)
    trainer = Trainer(network, cross_entropy, runtime(), "fp32", batch=8, augmented=False)
    schedule = Schedule(epochs=20, lr=0.05, momentum=0.9, weight_decay=0.0, batch=8)
    trainer.fit(copy.deepcopy(network.state_dict()), TensorSource(images, labels), schedule, Stream(0))
    assert (network(images).argmax(1) == labels).float().mean() > 0.95


def test_rate_drops_tenfold_at_half_of_the_epochs():
    assert [SCHEDULE.rate(epoch) for epoch in range(4)] == pytest.approx([0.05, 0.05, 0.005, 0.005])
