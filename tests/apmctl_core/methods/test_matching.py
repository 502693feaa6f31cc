import pytest
import torch
import torch.nn.functional as F

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
