import copy
import dataclasses

import pytest
import torch

from apmctl_core.config import ModelConfig, TrainConfig
from apmctl_core.machine.segment import Segment
from apmctl_core.models import ARCHITECTURES, architecture, build, habits_of, size_of
from apmctl_core.seeding import Stream
from apmctl_core.training import augment
from apmctl_core.training.augment import DSA
from apmctl_core.training.examples import TensorSource
from apmctl_core.training.loop import Predictor, Trainer
from apmctl_core.training.procedure import CROSS_ENTROPY, MATCH_LOGITS, TENTH_AT_HALF, Procedure
from tests.helpers import MODEL, context

SHAPE, CLASSES = (3, 8, 8), 4
CONFIG = TrainConfig(epochs=4, lr=0.05, momentum=0.9, weight_decay=5e-4, batch=8)


def source(count=20, seed=0, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    return TensorSource(
        torch.randn(count, *SHAPE, generator=rng, dtype=dtype), torch.randn(count, CLASSES, generator=rng, dtype=dtype)
    )


def trained(segment=0, seed=0, augmented=True, dtype=torch.float32, **fit):
    network = build(MODEL, SHAPE, CLASSES, 1).to(dtype)
    initial = copy.deepcopy(network.state_dict())
    trainer = Trainer(network, Procedure(loss=MATCH_LOGITS, augmentation=DSA if augmented else None), context())
    trainer.fit(initial, source(dtype=dtype), CONFIG, Stream(seed), Segment(limit=segment), **fit)
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
            kept["state"] = trainer.state(epoch)

    network = build(MODEL, SHAPE, CLASSES, 1)
    trainer = Trainer(network, Procedure(loss=MATCH_LOGITS), context())
    trainer.fit(copy.deepcopy(network.state_dict()), source(), CONFIG, Stream(0), Segment(), after_epoch=keep)
    whole = trainer.weights()
    resumed = trained(resume=kept["state"]).weights()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_cross_entropy_training_learns_separable_classes():
    labels = torch.arange(32) % CLASSES
    images = torch.randn(32, *SHAPE, generator=torch.Generator().manual_seed(0)) * 0.1
    images += torch.nn.functional.one_hot(labels, CLASSES)[:, None, None, :].repeat_interleave(2, 3)
    network = build(MODEL, SHAPE, CLASSES, 0)
    trainer = Trainer(network, Procedure(loss=CROSS_ENTROPY, augmentation=None), context())
    config = TrainConfig(epochs=20, lr=0.05, momentum=0.9, weight_decay=0.0, batch=8)
    trainer.fit(copy.deepcopy(network.state_dict()), TensorSource(images, labels), config, Stream(0), Segment())
    assert (network(images).argmax(1) == labels).float().mean() > 0.95


def test_rate_drops_tenfold_at_half_of_the_epochs():
    assert [TENTH_AT_HALF.function(epoch, 4) for epoch in range(4)] == pytest.approx([1, 1, 0.1, 0.1])
    assert TENTH_AT_HALF.function(0, 1) == 1


class Normalised(torch.nn.Module):
    """A network with batch statistics and dropout, which depend on what else is in a batch."""

    def __init__(self, width, shape, num_classes):
        super().__init__()
        self.convolution, self.norm = torch.nn.Conv2d(shape[0], width, 3), torch.nn.BatchNorm2d(width)
        self.classifier = torch.nn.Linear(width * (shape[1] - 2) * (shape[2] - 2), num_classes)

    def forward(self, x):
        self.mode = self.training
        x = self.norm(self.convolution(x)).relu().flatten(1)
        return self.classifier(torch.nn.functional.dropout(x, 0.3, self.training))


class Tracked(Normalised):
    """Instance normalisation that keeps statistics of batches, and no dropout."""

    def __init__(self, width, shape, num_classes):
        super().__init__(width, shape, num_classes)
        self.norm = torch.nn.InstanceNorm2d(width, track_running_stats=True)

    def forward(self, x):
        return self.classifier(self.norm(self.convolution(x)).relu().flatten(1))


class Product(torch.nn.Module):
    """A network whose weights are in no layer that a hook knows."""

    def __init__(self, width, shape, num_classes):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3 * shape[1] * shape[2], num_classes))

    def forward(self, x):
        return x.flatten(1) @ self.weight


NETWORKS = {"normalised": Normalised, "tracked": Tracked, "product": Product}


@pytest.fixture(autouse=True)
def networks():
    for name, make in NETWORKS.items():
        architecture(name)(make)
    yield
    for name in NETWORKS:
        del ARCHITECTURES[name]


def fitted(name="normalised", segment=0, before=0, count=20, batch=8, compile=False):
    network = build(ModelConfig(arch=name, width=6), SHAPE, CLASSES, 5)
    initial = copy.deepcopy(network.state_dict())
    torch.manual_seed(before)
    trainer = Trainer(network, Procedure(loss=MATCH_LOGITS), context(compile=compile))
    config = dataclasses.replace(CONFIG, batch=batch)
    trainer.fit(initial, source(count), config, Stream(0), Segment(limit=segment))
    return trainer


@pytest.mark.parametrize("name", ["normalised", "tracked"])
def test_a_network_that_depends_on_its_batch_is_never_cut_and_draws_from_its_own_stream(name):
    whole, cut = fitted(name), fitted(name, segment=3, before=9)
    assert all(torch.equal(a, b) for a, b in zip(whole.weights().values(), cut.weights().values(), strict=True))


def test_the_compiler_changes_nothing_for_a_network_that_draws():
    eager, compiled = fitted(), fitted(compile=True)
    assert all(torch.equal(a, b) for a, b in zip(eager.weights().values(), compiled.weights().values(), strict=True))


def test_no_batch_of_one_image_is_left_for_a_network_that_depends_on_its_batch():
    sizes = []
    trainer = fitted("tracked")
    trainer.network.convolution.register_forward_hook(lambda m, x, y: sizes.append(len(y)))
    trainer.fit(trainer.weights(), source(17), dataclasses.replace(CONFIG, epochs=1), Stream(0), Segment())
    assert sizes == [9, 8]


def test_training_leaves_the_global_random_state_alone():
    fitted(before=7)
    after = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(1), after)


def test_training_runs_in_training_mode_and_prediction_in_evaluation_mode():
    trainer = fitted()
    assert trainer.network.mode
    predict = Predictor(build(ModelConfig(arch="normalised", width=6), SHAPE, CLASSES), context())
    predict.load(trainer.weights())
    data = source(16).images
    alone, together = predict(data[:1]), predict(data)
    assert not predict.network.mode
    torch.testing.assert_close(alone, together[:1], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(predict.in_segments(data, Segment(limit=5)), together, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "mixes", "draws"),
    [("normalised", True, True), ("tracked", True, False), ("product", False, False), ("convnet2", False, False)],
)
def test_habits_are_found_out_by_trying(name, mixes, draws):
    habits = habits_of(ModelConfig(arch=name, width=6), SHAPE, CLASSES)
    assert (habits.mixes, habits.draws) == (mixes, draws)


@pytest.mark.parametrize(("name", "expected"), [("product", 192 * 4), ("normalised", 27 * 6 * 36 + 216 * 4)])
def test_multiply_adds_are_counted_wherever_the_weights_are(name, expected):
    assert size_of(ModelConfig(arch=name, width=6), SHAPE, CLASSES).multiply_adds == expected
