"""From passes through a network to what they ask of the machine."""

from __future__ import annotations

import math

from apmctl_core.machine.cost import Cost
from apmctl_core.models import NetworkSize
from apmctl_core.values import Task

# Floating-point operations per multiply-add of a forward pass: with all gradients, the inputs' alone, none.
ALL_GRADIENTS, INPUT_GRADIENTS, FORWARD = 6, 4, 2


def task_cost(
    task: Task, size: NetworkSize, *, passes: float, step: int, most: int = 0, fixed_bytes: float = 0
) -> Cost:
    """The cost of work with networks of a size on images of a task.

    `passes` counts images, each times the operations per multiply-add of its pass · `step` images in a training step,
    at most `most` in a pass without one (0 for none of either) · `fixed_bytes` whatever the segment.
    """
    whitening = 3 * math.prod(task.shape) ** 2 * 4 if task.preprocessing == "zca" else 0
    networks = 4 * size.weight_bytes  # weights, gradients, momentum, and a teacher's
    return Cost(
        flops=passes * size.multiply_adds,
        step_flops=step * ALL_GRADIENTS * size.multiply_adds,
        images=max(step, most, 1),
        whole=max(step, 1) if size.depends_on_batch else 1,
        image_bytes=size.activation_bytes(task.precision),
        fixed_bytes=fixed_bytes + whitening + networks,
    )
