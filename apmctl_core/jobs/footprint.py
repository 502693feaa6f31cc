"""How much room on the disk a run needs: its states at their largest, and the artifact they become.

A state takes its bytes three times: the newest, the one before, and the one that is being written.
"""

from __future__ import annotations

import math

from apmctl_core.config import Recipe
from apmctl_core.jobs.workload import Task
from apmctl_core.models.registry import state_shapes
from apmctl_core.stages.labelling import draws_of

_ITEM = 4  # bytes of a float32
_GENERATIONS = 3
_BESIDES = 1 << 20  # manifest, history, contact sheet, headers


def pool_bytes(recipe: Recipe, task: Task) -> int:
    """Bytes on the disk, at the most, while the pool of a settled recipe is trained and published."""
    shapes = state_shapes(recipe.model, task.shape, task.num_classes)
    weights = _ITEM * sum(math.prod(shape) for shape in shapes.values())
    # Each finished teacher is a state first and a file of the artifact in the end; the running one has its momentum.
    teachers = 2 * recipe.teachers.count * weights
    return teachers + _GENERATIONS * 2 * weights + _preprocessing(recipe, task) + _BESIDES


def set_bytes(recipe: Recipe, task: Task) -> int:
    """Bytes on the disk, at the most, while the set of a settled recipe is distilled, labelled and published."""
    count = recipe.distill.ipc * task.num_classes
    images = _ITEM * count * math.prod(task.shape)
    momentum = images
    logits = _ITEM * count * task.num_classes * (1 + draws_of(recipe.distill.ipc, task.num_classes))
    states = _GENERATIONS * (images + momentum + logits)
    return states + images + logits + _preprocessing(recipe, task) + _BESIDES


def report_bytes() -> int:
    """Bytes on the disk, at the most, of an evaluation: accuracies and a history."""
    return _BESIDES


def _preprocessing(recipe: Recipe, task: Task) -> int:
    pixels = math.prod(task.shape)
    return _ITEM * (2 * pixels**2 + pixels) if recipe.data.preprocessing == "zca" else 0
