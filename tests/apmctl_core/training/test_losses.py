import math

import pytest
import torch

from apmctl_core.training import losses


def plain_discrepancy(teacher, student):
    """d written out: the mean over the classes of |f_T - f_S|, image by image."""
    return [sum(abs(a - b) for a, b in zip(t, s, strict=True)) / len(t) for t, s in zip(teacher, student, strict=True)]


def test_discrepancy_is_the_mean_absolute_difference_over_classes():
    teacher, student = torch.randn(4, 7), torch.randn(4, 7)
    expected = plain_discrepancy(teacher.tolist(), student.tolist())
    assert losses.discrepancy(teacher, student).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("objective", ["linear", "log"])
def test_gradients_of_the_objective_are_right_in_double(objective):
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(3, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    student = torch.randn(3, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t, s: losses.adversarial(t, s, objective), (teacher, student))


def test_gradient_of_the_regulariser_is_right_in_double():
    teacher = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(lambda t: losses.cross_entropy(t, labels), (teacher,))


def test_the_regulariser_is_of_each_image_on_its_own():
    logits, labels = torch.tensor([[0.0, 0.0], [2.0, 1.0], [-3.0, 4.0]]), torch.tensor([0, 0, 1])
    expected = [math.log(2), math.log(1 + math.exp(-1)), math.log(1 + math.exp(-7))]
    assert losses.cross_entropy(logits, labels).tolist() == pytest.approx(expected, abs=1e-6)


def test_linear_objective_is_minus_d_and_log_objective_minus_its_log():
    teacher, student = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 0.0]])
    assert losses.adversarial(teacher, student, "linear").item() == pytest.approx(-2.0)
    assert losses.adversarial(teacher, student, "log").item() == pytest.approx(-math.log(2.0))


def test_log_objective_stays_finite_where_student_and_teacher_agree():
    same = torch.ones(2, 3, requires_grad=True)
    loss = losses.adversarial(same, same.detach().clone(), "log").sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(same.grad).all()
