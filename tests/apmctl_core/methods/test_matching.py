from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from apmctl_core.machine.segment import Segment
from apmctl_core.methods.matching import Matcher
from apmctl_core.models import build
from apmctl_core.training import augment
from tests.helpers import MODEL, context

SHAPE, CLASSES, COUNT = (3, 8, 8), 4, 10


def plain_gradient(u, y, teacher, students, objective, alpha, draws=None):
    """Equation 4 in one expression: all checkpoints at once, the mean over all images."""
    u = u.clone().requires_grad_()
    seen = u if draws is None else augment.apply(u, draws)
    t = teacher(seen)
    loss = alpha * F.cross_entropy(t, y)
    for student in students:
        d = (t - student(seen)).abs().mean(1)
        loss = loss - (d if objective == "linear" else (d + 1e-8).log()).mean()
    loss.backward()
    return u.grad


def networks(count):
    return [build(MODEL, SHAPE, CLASSES, seed).double() for seed in range(count)]


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("objective", ["linear", "log"])
@pytest.mark.parametrize("segment", [0, 1, 3, 7])
def test_gradient_equals_the_plain_one_for_every_segment(objective, segment, augmented):
    rng = torch.Generator().manual_seed(1)
    u = torch.randn(COUNT, *SHAPE, dtype=torch.float64, generator=rng)
    y = torch.randint(CLASSES, (COUNT,), generator=rng)
    draws = augment.draw(COUNT, rng).double() if augmented else None
    teacher, *students = networks(4)
    matcher = Matcher(build(MODEL, SHAPE, CLASSES).double(), objective, 0.3, context())
    weights = [s.state_dict() for s in students]
    gradient, _ = matcher.gradient(u, y, teacher.state_dict(), weights, Segment(limit=segment), draws)
    expected = plain_gradient(u, y, teacher, students, objective, 0.3, draws)
    torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-6)


def test_images_that_pad_a_segment_for_compiled_code_add_nothing(monkeypatch):
    monkeypatch.setattr("torch.compile", lambda function, **options: function)
    u, y = torch.randn(COUNT, *SHAPE, dtype=torch.float64), torch.arange(COUNT) % CLASSES
    teacher, *students = networks(3)
    matcher = Matcher(build(MODEL, SHAPE, CLASSES).double(), "linear", 0.3, context(compile=True))
    weights = [s.state_dict() for s in students]
    gradient, _ = matcher.gradient(u, y, teacher.state_dict(), weights, Segment(limit=4))
    expected = plain_gradient(u, y, teacher, students, "linear", 0.3)
    torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("segment", [0, 3])
def test_what_is_matched_is_summed_over_checkpoints_and_averaged_over_images(segment):
    u = torch.randn(COUNT, *SHAPE, dtype=torch.float64)
    teacher, *students = networks(3)
    matcher = Matcher(build(MODEL, SHAPE, CLASSES).double(), "linear", 5.0, context())
    weights = [s.state_dict() for s in students]
    y = torch.arange(COUNT) % CLASSES
    _, matched = matcher.gradient(u, y, teacher.state_dict(), weights, Segment(limit=segment))
    expected = -sum((teacher(u) - student(u)).abs().mean() for student in students)
    assert matched.item() == pytest.approx(expected.item())


def test_gradient_of_an_image_does_not_depend_on_the_others():
    rng = torch.Generator().manual_seed(2)
    u = torch.randn(6, *SHAPE, generator=rng)
    y = torch.arange(6) % CLASSES
    teacher, *students = (build(MODEL, SHAPE, CLASSES, seed).state_dict() for seed in range(3))
    matcher = Matcher(build(MODEL, SHAPE, CLASSES), "linear", 0.1, context())
    gradient, _ = matcher.gradient(u, y, teacher, students, Segment(limit=3))
    changed = u.clone()
    changed[3:] += 1
    other, _ = matcher.gradient(changed, y, teacher, students, Segment(limit=3))
    torch.testing.assert_close(other[:3], gradient[:3], atol=1e-7, rtol=1e-5)
    assert not torch.allclose(other[3:], gradient[3:])


def test_gradient_follows_a_permutation_of_the_images():
    u, y = torch.randn(7, *SHAPE), torch.arange(7) % CLASSES
    teacher, *students = (build(MODEL, SHAPE, CLASSES, seed).state_dict() for seed in range(3))
    matcher = Matcher(build(MODEL, SHAPE, CLASSES), "linear", 0.1, context())
    order = torch.randperm(7)
    straight, _ = matcher.gradient(u, y, teacher, students, Segment(limit=3))
    permuted, _ = matcher.gradient(u[order], y[order], teacher, students, Segment(limit=3))
    torch.testing.assert_close(permuted, straight[order], atol=1e-7, rtol=1e-4)


# Batch normalisation.
BATCH = replace(MODEL, arch="convnet2-batch")


def batch_networks(count):
    """Networks in training mode whose running statistics are far from those of any batch."""
    networks = [build(BATCH, SHAPE, CLASSES, seed).double().train() for seed in range(count)]
    for name, value in (item for network in networks for item in network.state_dict().items()):
        if name.endswith("running_mean"):
            value += 3
    return networks


@pytest.mark.parametrize(("segment", "batch", "passes"), [(0, 0, 1), (3, 0, 1), (0, 4, 3), (0, 1, 5), (0, 10, 1)])
def test_batch_normalisation_goes_by_batches_of_images_spread_over_the_set(segment, batch, passes):
    rng = torch.Generator().manual_seed(1)
    u = torch.randn(COUNT, *SHAPE, dtype=torch.float64, generator=rng)
    y = torch.arange(COUNT) % CLASSES
    draws = augment.draw(COUNT, rng).double()
    teacher, *students = batch_networks(3)
    matcher = Matcher(build(BATCH, SHAPE, CLASSES).double(), "linear", 0.3, context(), batch)
    weights = [{name: value.clone() for name, value in n.state_dict().items()} for n in (teacher, *students)]
    kept = [{name: value.clone() for name, value in each.items()} for each in weights]
    gradient, _ = matcher.gradient(u, y, weights[0], weights[1:], Segment(limit=segment), draws)
    for first in range(passes):
        part = slice(first, None, passes)
        expected = plain_gradient(u[part], y[part], teacher, students, "linear", 0.3, draws[part])
        torch.testing.assert_close(gradient[part], expected * len(u[part]) / COUNT, atol=1e-7, rtol=1e-6)
    for before, after in zip(kept, weights, strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("model", "passes"), [(MODEL, 1), (BATCH, 3)])
def test_what_students_learn_is_what_they_are_matched_with(model, passes):
    u = torch.randn(COUNT, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    teacher = batch_networks(1)[0] if model is BATCH else networks(1)[0].eval()
    weights = {name: value.clone() for name, value in teacher.state_dict().items()}
    matcher = Matcher(build(model, SHAPE, CLASSES).double(), "linear", 0.3, context(), batch=4)
    labels = matcher.labels(u, weights, Segment(limit=3))
    for first in range(passes):
        part = slice(first, None, passes)
        torch.testing.assert_close(labels[part], teacher(u[part]), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("model", [MODEL, BATCH])
def test_an_image_of_more_contrast_is_pulled_less(model):
    """What keeps images in the range of the data: logits do not grow with contrast, so gradients fall."""
    u, y = torch.randn(COUNT, *SHAPE, generator=torch.Generator().manual_seed(1)), torch.arange(COUNT) % CLASSES
    teacher, *students = (build(model, SHAPE, CLASSES, seed).state_dict() for seed in range(3))
    matcher = Matcher(build(model, SHAPE, CLASSES), "linear", 0.3, context())
    plain, ten = (matcher.gradient(u * c, y, teacher, students, Segment())[0].norm() for c in (1, 10))
    assert float(plain / ten) == pytest.approx(10, rel=0.3)


def test_dropout_is_off():
    u, y = torch.randn(COUNT, *SHAPE), torch.arange(COUNT) % CLASSES
    network = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.Linear(4, CLASSES))
    matcher = Matcher(network, "linear", 0.3, context())
    weights = network.state_dict()
    first, again = (matcher.gradient(u, y, weights, [weights], Segment())[0] for _ in range(2))
    assert torch.equal(first, again)
